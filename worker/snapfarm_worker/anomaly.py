"""The closed list of anomaly kinds, and the form of one anomaly with its evidence.

An anomaly is an observation about a database during one test, never a judgement on the test: it
does not change the test's outcome.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

import msgspec


class Level(enum.StrEnum):
    """How much is watched. `LIGHT` leaves out all that has to look at every statement."""

    FULL = "full"
    LIGHT = "light"
    OFF = "off"


class AnomalyKind(enum.StrEnum):
    """What kind of thing was observed; `KINDS` tells what each means, and what to do."""

    EMPTY_TABLE_READ = "empty-table-read"
    MISSING_TABLE = "missing-table"
    LEFT_RING = "left-ring"
    RING_VANISHED = "ring-vanished"
    FOREIGN_PROCESS = "foreign-process"
    WRONG_DATABASE = "wrong-database"
    LOCK_ERROR = "lock-error"
    DIRTY_READ = "dirty-read"
    LEAKED_TRANSACTION = "leaked-transaction"
    LEAKED_CURSOR = "leaked-cursor"
    LEAKED_CONNECTION = "leaked-connection"
    LEAKED_THREAD = "leaked-thread"
    LEAKED_WRITE = "leaked-write"
    SCHEMA_CHANGE = "schema-change"
    LOST_WRITE = "lost-write"
    SNAPSHOT_MISMATCH = "snapshot-mismatch"
    RESET_BLOCKED = "reset-blocked"


class Severity(enum.StrEnum):
    """How much an anomaly matters.

    An `ERROR` explains failures, a `WARNING` may cause them, `INFO` went well in the end.
    """

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Action(enum.StrEnum):
    """What becomes of an anomaly: nobody hears of it, it is reported, or its test fails."""

    IGNORE = "ignore"
    REPORT = "report"
    FAIL = "fail"


class KindInfo(msgspec.Struct, frozen=True):
    """What a kind means: when it is reported, what is shown for it, and what to change.

    `severity` is that of the usual case; a single anomaly may weigh less.
    """

    severity: Severity
    definition: str
    evidence: str
    remedy: str


_E, _W = Severity.ERROR, Severity.WARNING

KINDS: dict[AnomalyKind, KindInfo] = {
    AnomalyKind.EMPTY_TABLE_READ: KindInfo(
        _E,
        "a statement read a table that has rows in the baseline, is empty for the reader, and that "
        "nothing in this test emptied",
        "table, statement, thread, rows in the baseline, the test that emptied it or the "
        "connection that left the ring",
        "let the test that emptied the table put its rows back, or reset the database after each "
        "test; connect to FARM_URI, and do not call deserialize() on a connection of the ring",
    ),
    AnomalyKind.MISSING_TABLE: KindInfo(
        _E,
        "SQLite misses a table or column that the baseline has, and that this test neither "
        "dropped, renamed nor made anew",
        "name, statement, the test that removed it or the connection that left the ring",
        "the golden database has this table or column: the connection is to another database, "
        "or an earlier test dropped it",
    ),
    AnomalyKind.LEFT_RING: KindInfo(
        _E,
        "a connection of the ring has a private database since it called deserialize()",
        "where it was opened, and where deserialize() was called",
        "deserialize() made this connection private: restore into a private connection and "
        "backup() from it into the ring",
    ),
    AnomalyKind.RING_VANISHED: KindInfo(
        _E,
        "the ring's database was destroyed during the test; its name now means another one",
        "what became of the connection that kept it alive",
        "close only connections that the test has opened itself: one of the farm's keeps the "
        "database alive",
    ),
    AnomalyKind.FOREIGN_PROCESS: KindInfo(
        _E,
        "another process, started by the test, opened the ring: it has a database of its own",
        "process, what it opened and where; a warning where it was only handed the address",
        "a ring exists in one process only: use threads, or give the other process a file made by "
        "backup()",
    ),
    AnomalyKind.WRONG_DATABASE: KindInfo(
        _E,
        "a connection to an in-memory database, to a new file or to a misspelt ring asked for a "
        "table that only the golden database has",
        "what was opened, and where; table, statement, rows in the golden database",
        "connect to the address in FARM_URI, with uri=True",
    ),
    AnomalyKind.LOCK_ERROR: KindInfo(
        _E,
        "LOCKED or BUSY reached the program; only information where a retry of its own succeeded",
        "statement; the holder's thread, statement, stack, and since when",
        "another connection held the lock past this connection's timeout: shorten its "
        "transaction, raise timeout=, or use ring = 'memdb'",
    ),
    AnomalyKind.DIRTY_READ: KindInfo(
        _W,
        "with read_uncommitted, a connection read a table while another one had changes to it that "
        "were rolled back later",
        "reader, statement, table; writer, statement",
        "leave out PRAGMA read_uncommitted (in SQLAlchemy, isolation_level='READ UNCOMMITTED')",
    ),
    AnomalyKind.LEAKED_TRANSACTION: KindInfo(
        _E,
        "a test, or task, left a transaction open that it began",
        "where the connection was opened; statement and stack that began it",
        "commit or roll back before the test, or the task, ends",
    ),
    AnomalyKind.LEAKED_CURSOR: KindInfo(
        _E,
        "a test left a cursor with rows to fetch, which keeps the ring locked",
        "the cursor's statement and where it was executed; where its connection was opened",
        "fetch the cursor to its end or close it before the test ends",
    ),
    AnomalyKind.LEAKED_CONNECTION: KindInfo(
        _W,
        "a connection was freed by the garbage collector, not by close()",
        "where it was opened",
        "close the connection before the test ends: leaving a `with` block of a "
        "sqlite3.Connection does not close it",
    ),
    AnomalyKind.LEAKED_THREAD: KindInfo(
        _W,
        "a thread that the test started runs on when the test has ended",
        "its name, and where it was started",
        "join the thread, or shut its executor, loop or connection down, before the test ends",
    ),
    AnomalyKind.LEAKED_WRITE: KindInfo(
        _W,
        "a passing test left rows changed, under a policy that does not reset after each test",
        "the tables with their rows before and after",
        "undo what the test commits, or mark it farm(reset='test')",
    ),
    AnomalyKind.SCHEMA_CHANGE: KindInfo(
        _W,
        "a test left the schema changed, under a policy that does not reset after each test",
        "what is new, changed or gone",
        "undo the change, or mark the test farm(reset='test')",
    ),
    AnomalyKind.LOST_WRITE: KindInfo(
        _E,
        "a write succeeded on a connection that is not in the ring; a warning where closing the "
        "connection rolled it back",
        "statement, and where the connection was opened",
        "write through a connection to FARM_URI, and commit before closing it",
    ),
    AnomalyKind.SNAPSHOT_MISMATCH: KindInfo(
        _E,
        "the restored ring is not what its manifest says",
        "each difference",
        "rebuild the golden database with --rebuild-golden; if that does not help, report it",
    ),
    AnomalyKind.RESET_BLOCKED: KindInfo(
        _E,
        "the ring could not be reset and was replaced; or a connection still uses a replaced one",
        "who held locks",
        "a connection that outlives the test kept the database locked, so it could not be reset: "
        "end its transaction in the fixture that opened it",
    ),
}


class Anomaly(msgspec.Struct, frozen=True, kw_only=True):
    """One observation with its evidence.

    `test` is the pytest node id (or the pool task's name), `database` the golden database's name,
    `sql` the statement as the program gave it (cut at 2 000 characters), `count` how often the
    same observation was made in that test. `evidence` are lines for people; `polluter` is the
    earlier test that caused it, where one did.
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
    evidence: tuple[str, ...] = ()
    polluter: str = ""

    @property
    def remedy(self) -> str:
        """What to change so that the observation goes away."""
        return KINDS[self.kind].remedy

    @property
    def section(self) -> str:
        """Where the documentation explains the kind."""
        return f"docs/sensors.md#{self.kind}"


class AnomalyPolicy(msgspec.Struct, frozen=True):
    """What a run does about anomalies: `default` about errors, `kinds` about those of a kind.

    Warnings and information are reported, unless `kinds` says otherwise.
    """

    default: Action = Action.REPORT
    kinds: dict[AnomalyKind, Action] = {}

    def action(self, anomaly: Anomaly, allowed: frozenset[AnomalyKind] = frozenset()) -> Action:
        """Return what becomes of an anomaly of a test that allows some kinds."""
        if anomaly.kind in allowed:
            return Action.IGNORE
        if (own := self.kinds.get(anomaly.kind)) is not None:
            # What a retry of the program got over fails no test.
            harmless = anomaly.severity is Severity.INFO and own is Action.FAIL
            return Action.REPORT if harmless else own
        return self.default if anomaly.severity is Severity.ERROR else Action.REPORT


def summary_of(anomalies: Sequence[Anomaly]) -> str:
    """Return one line that counts anomalies by kind, with their tables and threads."""
    parts = []
    for kind in dict.fromkeys(anomaly.kind for anomaly in anomalies):
        found = [anomaly for anomaly in anomalies if anomaly.kind is kind]
        tables = dict.fromkeys(anomaly.table for anomaly in found if anomaly.table)
        threads = dict.fromkeys(
            f"thread {a.thread}" for a in found if a.thread not in {"", "MainThread"}
        )
        count = sum(anomaly.count for anomaly in found)
        parts.append(", ".join([f"{count} {kind}", *tables, *threads]))
    return f"anomalies: {'; '.join(parts)}"
