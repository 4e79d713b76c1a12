"""Waits for the locks of a shared cache, which SQLite itself refuses at once.

A busy handler and `timeout=` do nothing against SQLITE_LOCKED_SHAREDCACHE, so the operation is
repeated here. What SQLite refused that way has had no effect: a statement takes its locks before
its first row, a script and an `executemany` stop between two statements.
"""

from __future__ import annotations

import collections
import itertools
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from snapfarm_worker import sqlscript

if TYPE_CHECKING:
    from sqlite3 import _Parameters as Parameters

#: What sqlite3 raises here is the test's own: pytest shows where it called.
__tracebackhide__ = True

_FIRST_PAUSE = 0.0001
_LONGEST_PAUSE = 0.005
_LEGACY = -1

_execute = sqlite3.Cursor.execute
_executemany = sqlite3.Cursor.executemany
_executescript = sqlite3.Cursor.executescript
#: The plain attribute, below what RingCursor makes of it.
rows_changed: Callable[[sqlite3.Cursor], int] = sqlite3.Cursor.rowcount.__get__
# Bound once: a test may replace `time.sleep`.
_sleep = time.sleep


def is_shared_lock(error: BaseException) -> bool:
    """Tell whether an error is the lock that SQLite does not wait for."""
    return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_LOCKED_SHAREDCACHE


def is_table_lock(error: BaseException) -> bool:
    """Tell whether an error is a lock as opening a blob reports it, without the detail."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_LOCKED


def is_any_lock(error: BaseException) -> bool:
    """Tell whether an error is a lock, of whatever kind."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def overcome(
    budget: float,
    operation: Callable[[], object],
    is_lock: Callable[[BaseException], bool] = is_shared_lock,
) -> bool:
    """Repeat an operation for up to `budget` seconds; tell whether it succeeded.

    Raises what the operation raises other than the lock.
    """
    # What was slept is counted, no clock is read: a test may have frozen it.
    slept = 0.0
    pause = _FIRST_PAUSE
    while slept < budget:
        pause = min(pause, budget - slept)
        _sleep(pause)
        slept += pause
        pause = min(pause * 1.5, _LONGEST_PAUSE)
        try:
            operation()
        except sqlite3.Error as error:
            if not is_lock(error):
                raise error from None
        else:
            return True
    return False


def budget_of(conn: sqlite3.Connection, *, otherwise: float, traced: bool) -> float:
    """Return how long a connection is willing to wait, in seconds.

    That is SQLite's own busy timeout, which both `timeout=` and `PRAGMA busy_timeout` set, or
    `otherwise` where asking would show in the user's trace.
    """
    if traced:
        return otherwise
    try:
        cursor = sqlite3.Cursor(conn)
        cursor.row_factory = None
        return int(cursor.execute("PRAGMA busy_timeout").fetchone()[0]) / 1000
    except (sqlite3.Error, TypeError):
        return otherwise


class Rows:
    """The parameters of an `executemany`, with the last set kept so that it can be tried again."""

    def __init__(self, cursor: sqlite3.Cursor, source: Iterable[Parameters]) -> None:
        self._cursor = cursor
        self._source = iter(source)
        self._last: list[Parameters] = []
        self._again = False
        self._fetching = False
        self._changed = 0
        #: Rows that were changed by runs that ended with a lock.
        self.changed_before = 0

    def __iter__(self) -> Iterator[Parameters]:
        while True:
            self._changed = rows_changed(self._cursor)
            if self._again:
                self._again = False
            else:
                self._fetching = True
                for row in self._source:
                    self._last[:] = (row,)
                    break
                else:
                    return
                self._fetching = False
            yield self._last[0]
            if self._cursor.connection.in_transaction:
                # The first set took all locks, and the transaction keeps them: none can be met.
                self._fetching = True
                yield from self._source
                return

    def met_lock(self, error: sqlite3.Error) -> bool:
        """Tell whether the statement, not the source of its parameters, met a lock."""
        if self._fetching or not is_shared_lock(error):
            return False
        self._rewind()
        return True

    def run_again(self, sql: str) -> None:
        """Go on with the set that met the lock. Raises what the statement raises."""
        try:
            _executemany(self._cursor, sql, self)
        except sqlite3.OperationalError as error:
            self.met_lock(error)
            raise

    def _rewind(self) -> None:
        self._again = bool(self._last)
        self.changed_before += max(self._changed, 0)
        self._changed = 0


def run_script(
    cursor: sqlite3.Cursor,
    script: str,
    repeated: Callable[[sqlite3.Error, Callable[[], object]], bool],
) -> None:
    """Do what `executescript` does, one statement after the other.

    `repeated(error, operation)` overcomes a lock, or returns False.
    """
    conn = cursor.connection
    legacy = getattr(conn, "autocommit", _LEGACY) == _LEGACY
    if legacy and conn.in_transaction:
        sqlite3.Connection.commit(conn)
    statements = sqlscript.split(script)
    first = next(statements, None)
    if first is None:
        _executescript(cursor, script)
        return
    for statement in itertools.chain((first,), statements):
        # With autocommit of 3.12's kind, executescript() commits nothing of its own.
        step = _in_transaction if legacy and conn.in_transaction else _alone
        try:
            step(cursor, statement.sql)
        except sqlite3.OperationalError as error:
            if not repeated(error, _Step(step, cursor, statement.sql)):
                raise


class _Step:
    """One statement of a script, to be run again."""

    def __init__(
        self, step: Callable[[sqlite3.Cursor, str], None], cursor: sqlite3.Cursor, sql: str
    ) -> None:
        self._step, self._cursor, self._sql = step, cursor, sql

    def __call__(self) -> None:
        self._step(self._cursor, self._sql)


def _alone(cursor: sqlite3.Cursor, sql: str) -> None:
    _executescript(cursor, sql)


def _in_transaction(cursor: sqlite3.Cursor, sql: str) -> None:
    """Run a statement inside the script's own transaction, which executescript would commit."""
    scratch = sqlite3.Cursor(cursor.connection)
    scratch.row_factory = None
    try:
        _execute(scratch, sql)
        if scratch.description is not None:
            _drain(scratch)
    finally:
        scratch.close()


def _drain(cursor: sqlite3.Cursor) -> None:
    """Step through all rows, which a script does even though nobody sees them."""
    while True:
        try:
            collections.deque(cursor, maxlen=0)
        except Exception as error:
            # A row that Python can't convert is of no interest; what SQLite reports is.
            if getattr(error, "sqlite_errorcode", None) is not None:
                raise
        else:
            return
