"""The committed content of a connection that is open in this process."""

from __future__ import annotations

import contextlib
import sqlite3
import time

from snapfarm.errors import ConfigError, GoldenBuildError, GoldenCheckError
from snapfarm.golden.callables import kind_of
from snapfarm.golden.checks import checked_snapshot, leave_wal_mode
from snapfarm_worker.errors import SnapshotError
from snapfarm_worker.snapshot import Snapshot

#: Seconds to wait for the lock of another connection, once its own busy timeout has passed.
_PATIENCE = 5.0

_LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


class _LockedError(Exception):
    """The connection stayed locked."""


def committed(conn: sqlite3.Connection, name: str, where: str) -> tuple[Snapshot, tuple[str, ...]]:
    """Return a snapshot of what is committed in the `main` database of a connection, and notes.

    The connection itself only reads: its settings, handlers and attached databases have no part
    in it. `where` begins the message of errors. Raises ConfigError, GoldenBuildError and
    GoldenCheckError.
    """
    if not isinstance(conn, sqlite3.Connection):
        raise ConfigError(
            f"{where}: expected an open sqlite3.Connection, got {kind_of(conn)}; SQLAlchemy has "
            f"it as connection.connection.driver_connection"
        )
    with contextlib.closing(sqlite3.Connection(":memory:", isolation_level=None)) as copy:
        try:
            _back_up(conn, copy, time.monotonic() + _PATIENCE)
            leave_wal_mode(copy)
            return checked_snapshot(copy, name)
        except _LockedError:
            what = (
                "has an open transaction that writes: commit it, or roll it back"
                if conn.in_transaction
                else "is locked by another connection that writes: end its transaction"
            )
            raise GoldenBuildError(f"{where}: the database {what}") from None
        except GoldenCheckError as error:
            raise GoldenCheckError(f"golden database {name!r}: {error}") from None
        except SnapshotError as error:
            raise GoldenBuildError(f"{where}: {error}") from None
        except sqlite3.Error as error:
            raise GoldenBuildError(f"{where}: can't be read: {error}") from None


def _back_up(source: sqlite3.Connection, target: sqlite3.Connection, deadline: float) -> None:
    def look(status: int, remaining: int, total: int) -> None:
        # Python itself would go on for ever, also where the lock is the source's own.
        if status in _LOCKED and (source.in_transaction or time.monotonic() > deadline):
            raise _LockedError

    # All pages in one step, so that they are of one state. No statement runs on the source: it
    # would stay in the read transaction of a connection that is not in autocommit mode.
    sqlite3.Connection.backup(source, target, progress=look, sleep=0.01)
