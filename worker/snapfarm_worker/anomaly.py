"""The closed list of anomaly kinds, and the form of one anomaly with its evidence.

An anomaly is an observation about a database during one test, never a judgement on the test: it
does not change the test's outcome.
"""

from __future__ import annotations

import enum

import msgspec


class AnomalyKind(enum.StrEnum):
    """What kind of thing was observed; `REMEDIES` tells what to do about each."""

    EMPTY_TABLE_READ = "empty-table-read"
    MISSING_TABLE = "missing-table"
    LEFT_RING = "left-ring"
    LOCK_ERROR = "lock-error"
    LEAKED_TRANSACTION = "leaked-transaction"
    LEAKED_CURSOR = "leaked-cursor"
    LEAKED_CONNECTION = "leaked-connection"
    RESET_BLOCKED = "reset-blocked"


class Severity(enum.StrEnum):
    """How much an anomaly matters: an `ERROR` explains failures, a `WARNING` may cause them."""

    ERROR = "error"
    WARNING = "warning"


REMEDIES: dict[AnomalyKind, str] = {
    AnomalyKind.EMPTY_TABLE_READ: (
        "the golden database has rows in this table: connect to FARM_URI, and do not call "
        "deserialize() on a connection of the ring"
    ),
    AnomalyKind.MISSING_TABLE: (
        "the golden database has this table or column: the connection is to another database, "
        "or the test dropped it"
    ),
    AnomalyKind.LEFT_RING: (
        "deserialize() made this connection private: restore into a private connection and "
        "backup() from it into the ring"
    ),
    AnomalyKind.LOCK_ERROR: (
        "another connection held the lock past this connection's timeout: shorten its "
        "transaction, raise timeout=, or use ring = 'memdb'"
    ),
    AnomalyKind.LEAKED_TRANSACTION: "commit or roll back before the test, or the task, ends",
    AnomalyKind.LEAKED_CURSOR: "fetch the cursor to its end or close it before the test ends",
    AnomalyKind.LEAKED_CONNECTION: (
        "close the connection before the test ends: leaving a `with` block of a "
        "sqlite3.Connection does not close it"
    ),
    AnomalyKind.RESET_BLOCKED: (
        "a connection that outlives the test kept the database locked, so it could not be reset: "
        "end its transaction in the fixture that opened it"
    ),
}


class Anomaly(msgspec.Struct, frozen=True, kw_only=True):
    """One observation with its evidence.

    `test` is the pytest node id (or the pool task's name), `database` the golden database's name,
    `sql` the statement as the program gave it (cut at 2 000 characters), `count` how often the
    same observation was made in that test.
    """

    kind: AnomalyKind
    severity: Severity
    test: str
    database: str
    message: str
    thread: str = ""
    sql: str = ""
    table: str = ""
    stack: tuple[str, ...] = ()
    count: int = 1

    @property
    def remedy(self) -> str:
        """What to change so that the observation goes away."""
        return REMEDIES[self.kind]
