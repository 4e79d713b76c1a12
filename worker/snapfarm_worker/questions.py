"""What sensors ask a user's connection, unseen by the user's own callbacks.

Answers are integers where that is possible, since a connection may have any `text_factory`; None
stands for a question that could not be asked.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator

from snapfarm_worker.members import Member, RingConnection
from snapfarm_worker.snapshot import quoted
from snapfarm_worker.statements import Facts, Recording

_MISSING_TABLE = re.compile(r"no such table: (?:main\.)?(?P<table>.+)", re.DOTALL)
_MISSING_COLUMN = re.compile(r"no such column: (?:.*\.)?(?P<column>.+)", re.DOTALL)
_UNNAMED_COLUMN = re.compile(r"table (?P<table>.+) has no column named (?P<column>.+)", re.DOTALL)

#: What lets a statement change more than it names.
_REACTING = ("foreign_keys", "recursive_triggers")
_numbers = itertools.count(1)
_total_changes: Callable[[sqlite3.Connection], int] = (
    sqlite3.Connection.total_changes.__get__  # below a user's class
)


def missing_name(message: str) -> tuple[str, str] | None:
    """Return the table and column that SQLite misses, each empty if the message has none."""
    for pattern in (_MISSING_TABLE, _UNNAMED_COLUMN, _MISSING_COLUMN):
        if found := pattern.fullmatch(message):
            names = found.groupdict()
            return names.get("table", ""), names.get("column", "")
    return None


def is_empty(conn: RingConnection, table: str) -> bool:
    """Tell whether a table surely has no row on this connection."""
    return ask(conn, f"SELECT EXISTS (SELECT 1 FROM main.{quoted(table)})") == 0


def is_bare(conn: RingConnection) -> bool:
    """Tell whether a connection's database has no table, nor anything else."""
    return ask(conn, "SELECT count(*) FROM main.sqlite_schema") == 0


def lacks_table(conn: RingConnection, table: str) -> bool:
    """Tell whether a table or view surely does not exist on this connection."""
    asked = "SELECT count(*) FROM main.sqlite_schema WHERE lower(name) = lower(?)"
    return ask(conn, asked, table) == 0


def lacks_column(conn: RingConnection, table: str, column: str) -> bool:
    """Tell whether a table exists on this connection, and surely without that column."""
    columns = "FROM pragma_table_xinfo(?, 'main')"
    if not ask(conn, f"SELECT count(*) {columns}", table):
        return False
    asked = f"SELECT count(*) {columns} WHERE lower(name) = lower(?)"
    return ask(conn, asked, table, column) == 0


def left_unseen(conn: RingConnection) -> bool:
    """Tell whether a connection's database was replaced: SQLite then names its file `x`.

    The pragma reads no database, so that it never waits for a lock.
    """
    row = _first_row(conn, "PRAGMA database_list", ())
    return row is not None and row[2] in ("x", b"x")


def ask(conn: RingConnection, sql: str, *parameters: str) -> int | None:
    """Return the first value of the answer."""
    row = _first_row(conn, sql, parameters)
    return int(str(row[0])) if row is not None else None


def has_temp(conn: RingConnection, table: str) -> bool:
    """Tell whether a temporary table hides a table of `main`, or may do so."""
    asked = "SELECT count(*) FROM sqlite_temp_schema WHERE lower(name) = lower(?)"
    return ask(conn, asked, table) != 0


def has_temp_triggers(conn: RingConnection) -> bool:
    """Tell whether a connection has triggers of its own, or may have some."""
    return ask(conn, "SELECT count(*) FROM sqlite_temp_schema WHERE type = 'trigger'") != 0


def is_attached_twice(conn: RingConnection) -> bool:
    """Tell whether a connection has one database under two names, or may have."""
    files = "FROM pragma_database_list WHERE file <> ''"
    return ask(conn, f"SELECT count(*) - count(DISTINCT file) {files}") != 0


def enforces_keys(conn: RingConnection) -> bool:
    """Tell whether a connection surely enforces foreign keys."""
    return ask(conn, "PRAGMA foreign_keys") == 1


def rows_changed_by(member: Member) -> int:
    """Return how many rows a connection has changed in all; 0 once it is closed."""
    conn = member.ref()
    try:
        return 0 if conn is None else _total_changes(conn)
    except sqlite3.ProgrammingError:
        return 0


def changed_unseen(member: Member) -> bool:
    """Tell whether a connection has changed rows in this test by no statement that is known.

    So do cursors that are none of ours, as those of `sqlite3.Cursor(conn)`.
    """
    return not member.notes.wrote and rows_changed_by(member) > member.notes.before


def explained(conn: RingConnection, sql: str) -> Facts | None:
    """Return what a statement does to tables, by preparing it again without running it.

    None where it can't be prepared.
    """
    notes = conn.farm_member.notes
    # A text of its own once the database is another one: Python has kept what it had prepared.
    edition = f"/* {notes.edition} */ " if notes.edition else ""
    asked = f"EXPLAIN {' ' if conn.farm_member.left else ''}{edition}{sql}"
    aside, notes.recording = notes.recording, Recording()
    try:
        with _unseen(conn), _authorized(conn):
            prepared = _prepare(conn, asked)
        if prepared and notes.recording.told:
            notes.memo[asked] = notes.recording.facts(sql)
    finally:
        notes.recording = aside
    # Where it was asked before, Python has the statement prepared, and SQLite tells nothing.
    return notes.memo.get(asked)


def explained_by(conn: sqlite3.Connection, sql: str) -> Facts | None:
    """Return what a statement does on a connection of the farm's own, in the same way.

    Foreign keys are enforced for that, and rows that are replaced set off triggers: what these may
    delete is told.
    """
    recording = Recording()
    for pragma in _REACTING:
        conn.execute(f"PRAGMA {pragma} = ON")
    try:
        # EXPLAIN does not look whether the schema that a connection knows is still the present one.
        conn.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
        conn.set_authorizer(recording.authorize)
        # A text that was never prepared here: for others, SQLite would tell nothing.
        with _uncollected:
            prepared = _prepare(conn, f"EXPLAIN /* {next(_numbers)} */ {sql}")
    finally:
        conn.set_authorizer(None)
        for pragma in _REACTING:
            conn.execute(f"PRAGMA {pragma} = OFF")
    return recording.facts(sql) if prepared else None


def _prepare(conn: sqlite3.Connection, explaining: str) -> bool:
    """Prepare an EXPLAIN; tell whether that was possible."""
    try:
        sqlite3.Cursor(conn).execute(explaining).close()
    except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
        return True  # it was prepared, and refused without its parameters
    except (sqlite3.Error, sqlite3.Warning):
        return False
    return True


def _first_row(
    conn: RingConnection, sql: str, parameters: tuple[str, ...]
) -> tuple[object, ...] | None:
    notes = conn.farm_member.notes
    aside, notes.recording = notes.recording, Recording()
    try:
        with _unseen(conn):
            cursor = sqlite3.Cursor(conn)
            cursor.row_factory = None
            row: tuple[object, ...] | None = cursor.execute(sql, parameters).fetchone()
            cursor.close()
    except sqlite3.Error:
        return None
    finally:
        notes.recording = aside
    return row


class _Uncollected:
    """While this context is open, in any thread, nothing is collected as garbage.

    SQLite holds the mutex of a shared cache while it calls an authorizer. Were the last statement
    of a closed connection to the same cache freed then, it would wait for itself.
    """

    def __init__(self) -> None:
        # A finalizer that asks, too, may run where this thread is about to disable the collector.
        self._lock = threading.RLock()
        self._open = 0
        self._was_enabled = False

    def forked(self) -> None:
        """Be closed in a process that was forked while other threads were in this context."""
        if self._open and self._was_enabled:
            gc.enable()
        self.__init__()  # type: ignore[misc]  # with a lock that nobody holds

    def __enter__(self) -> None:
        with self._lock:
            if not self._open:
                self._was_enabled = gc.isenabled()
                gc.disable()
            self._open += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._open -= 1
            if not self._open and self._was_enabled:
                gc.enable()


_uncollected = _Uncollected()
os.register_at_fork(after_in_child=_uncollected.forked)


@contextlib.contextmanager
def _authorized(conn: RingConnection) -> Iterator[None]:
    """Let SQLite tell what it prepares, for no longer than we ask.

    Not while the program's own statements are prepared: see `_Uncollected`.
    """
    notes = conn.farm_member.notes
    if notes.authorized:
        yield
        return
    sqlite3.Connection.set_authorizer(conn, notes.recording.authorize)
    try:
        yield
    finally:
        sqlite3.Connection.set_authorizer(conn, conn.farm_member.authorizer)


@contextlib.contextmanager
def _unseen(conn: RingConnection) -> Iterator[None]:
    """Keep what is asked from the user's authorizer and trace callback."""
    member = conn.farm_member
    traced = member.traced
    if traced:
        sqlite3.Connection.set_trace_callback(conn, None)
    member.quiet = True
    try:
        with _uncollected:
            yield
    finally:
        member.quiet = False
        if traced:
            sqlite3.Connection.set_trace_callback(conn, member.tracer)
