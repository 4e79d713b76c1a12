"""Follows what connections do in their transactions: who holds a lock, what is lost, who saw it.

Only here are statements remembered. A transaction is known by the first of them, which found the
connection in one; what it changed is known by those that changed rows.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import threading
import traceback
from typing import TYPE_CHECKING

from snapfarm_worker.anomaly import AnomalyKind, Severity
from snapfarm_worker.members import Member, RingConnection
from snapfarm_worker.notes import Begun, Seen
from snapfarm_worker.originals import monotonic
from snapfarm_worker.patience import rows_changed
from snapfarm_worker.stacks import Spot, frames_of, place, shown, spot
from snapfarm_worker.statements import Word, changes_rows

if TYPE_CHECKING:
    from snapfarm_worker.findings import Findings

_LISTED = 5
#: Statements of one transaction that are remembered.
_REMEMBERED = 20
#: Reads of a connection in one test whose place is noted.
_PLACES = 20
_SHOWN = 200
_NOW = 4
#: So many calls lead from `follow` to the program's own, at the least.
_ABOVE = 4
#: Attributes of a module are found sooner than those of a class.
_READ, _WRITE = Word.READ, Word.WRITE

#: What tells one lock error from another: database, connection, statement.
_Refusal = tuple[str, Member, str]


class Transactions:
    """The transactions of all connections of this process."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        #: Lock errors of the present test that no retry has got over, by their statement.
        self.refused: dict[str, list[_Refusal]] = {}

    def begin(self) -> None:
        """A test begins."""
        self.refused.clear()

    # ------------------------------------------------------------ following

    def follow(self, cursor: sqlite3.Cursor, member: Member, sql: str, word: Word) -> None:
        """Take note of a statement that succeeded."""
        notes = member.notes
        notes.last = sql
        if self.refused:
            self._got_over(sql)
        if word is _READ and not (notes.watch is not None and notes.watch.managed):
            asked = notes.asked.get(sql)
            if asked is None:
                if len(notes.asked) < _PLACES:
                    asked = notes.asked[sql] = (sql, spot(_ABOVE))
                else:
                    # Who makes a new text for each statement is not looked up each time.
                    asked = (sql, ())
            cursor.farm_asked = asked  # type: ignore[attr-defined]  # a RingCursor
        if cursor.connection.in_transaction:
            if notes.begun is None:
                notes.begun = Begun(sql, monotonic(), spot(_ABOVE))
            if word is _WRITE:
                if sql not in notes.unsaved and len(notes.unsaved) < _REMEMBERED:
                    _note_write(cursor, member, sql)
            elif word is Word.SCRIPT and changes_rows(sql):
                notes.unsaved[sql] = () if notes.unsaved else spot(_ABOVE)
        elif notes.begun is not None:
            self.ended(member, committed=word is not Word.ROLLBACK)

    def ended(self, member: Member, *, committed: bool) -> None:
        """A transaction was committed or rolled back."""
        notes = member.notes
        if self.refused and committed:
            self._got_over("COMMIT")
        notes.begun = None
        if notes.seen_by:
            if not committed:
                self._report_dirty(member)
            notes.seen_by.clear()
        if committed and member.left:
            for sql in unsaved(member):
                self.lost(member, sql)
        notes.unsaved.clear()
        notes.returning.clear()

    def closing(self, conn: RingConnection, member: Member) -> None:
        """A connection is about to be closed: a transaction that is open is rolled back by that."""
        notes = member.notes
        try:
            if notes.begun is None or not conn.in_transaction:
                return
        except sqlite3.ProgrammingError:
            return  # it is closed already
        if unsaved(member) and not member.fixture and member.autocommit and not _failing():
            sql, where = next(iter(notes.unsaved.items()))
            self._findings.add(
                AnomalyKind.LOST_WRITE,
                Severity.WARNING,
                _database(member),
                f"a connection {member.where}, was closed without a commit, which rolled back what "
                f"it had changed ({len(notes.unsaved)} statements)",
                same=(member.opened, "closed"),
                thread=member.thread,
                sql=sql,
                stack=tuple(shown(frame) for frame in frames_of(where)) or member.stack,
            )
        self.ended(member, committed=False)

    def lost(self, member: Member, sql: str, table: str = "") -> None:
        """A write went to a database that is not the ring's."""
        whose = "has a private database since deserialize()" if member.left else "is in no ring"
        self._findings.add(
            AnomalyKind.LOST_WRITE,
            Severity.ERROR,
            _database(member),
            f"a write succeeded on a connection that {whose}: it was {member.where}",
            same=(member, sql),
            sql=sql,
            table=table,
        )

    # ------------------------------------------------------------ dirty reads

    def read_dirty(self, member: Member, sql: str, table: str, writer: Member) -> None:
        """A connection read a table that another one has changed, and not committed."""
        if len(writer.notes.seen_by) < _REMEMBERED:
            stack = tuple(shown(frame) for frame in place())
            thread = threading.current_thread().name
            writer.notes.seen_by.append(Seen(member.where, thread, sql, table, stack))

    def left_open(self, member: Member) -> None:
        """A test has ended with this transaction open: it will be rolled back."""
        self._report_dirty(member)
        member.notes.seen_by.clear()

    def _report_dirty(self, writer: Member) -> None:
        for seen in writer.notes.seen_by:
            self._findings.add(
                AnomalyKind.DIRTY_READ,
                Severity.WARNING,
                _database(writer),
                f"table {seen.table!r} was read with read_uncommitted while another connection had "
                "changed it; that was rolled back later",
                same=(writer, seen.sql, seen.table),
                thread=seen.thread,
                sql=seen.sql,
                table=seen.table,
                stack=seen.stack,
                evidence=(
                    f"the reader was {seen.where}",
                    f"the writer was {writer.where}",
                    *(f"it had executed: {sql[:_SHOWN]}" for sql in list(unsaved(writer))[:3]),
                ),
            )

    # ------------------------------------------------------------ locks

    def refuse(
        self, database: str, members: list[Member], member: Member, sql: str, error: sqlite3.Error
    ) -> None:
        """A lock error is about to reach the program."""
        others = [each for each in members if each is not member and each.ref() is not None]
        holders = [other for other in others if not other.closed and _in_transaction(other)]
        if holders:
            named = "; ".join(f"a connection {other.where}" for other in holders[:_LISTED])
        else:
            named = "no other connection of this process; look for cursors with rows left to fetch"
            holders = [other for other in others if other.notes.last]
        key: _Refusal = (database, member, sql)
        self._findings.add(
            AnomalyKind.LOCK_ERROR,
            Severity.ERROR,
            database,
            f"{getattr(error, 'sqlite_errorname', 'a lock error')} ({error}) reached the program; "
            f"in a transaction: {named}",
            same=(member, sql),
            sql=sql,
            evidence=tuple(line for each in holders[:_LISTED] for line in _held_by(each)),
        )
        if key not in self.refused.setdefault(sql, []):
            self.refused[sql].append(key)

    def _got_over(self, sql: str) -> None:
        for database, member, refused in self.refused.pop(sql, ()):
            self._findings.soften(
                "the program tried again, and succeeded",
                AnomalyKind.LOCK_ERROR,
                database,
                member,
                refused,
            )


def unsaved(member: Member) -> dict[str, Spot]:
    """Return the statements that have changed rows in a member's open transaction, with places.

    May be asked by any thread.
    """
    notes = member.notes
    if notes.returning and (conn := member.ref()) is not None:
        with contextlib.suppress(sqlite3.ProgrammingError):  # closed
            for sql, (before, where) in list(notes.returning.items()):
                if conn.total_changes > before:
                    notes.unsaved.setdefault(sql, where)
    return notes.unsaved


def _note_write(cursor: sqlite3.Cursor, member: Member, sql: str) -> None:
    if rows_changed(cursor) > 0:
        unsaved = member.notes.unsaved
        unsaved[sql] = () if unsaved else spot(_ABOVE)
        return
    returning = member.notes.returning
    if cursor.description is not None and sql not in returning and len(returning) < _REMEMBERED:
        # With RETURNING, SQLite counts what it has changed once the rows are fetched.
        returning[sql] = (cursor.connection.total_changes, spot(_ABOVE))


def _held_by(holder: Member) -> list[str]:
    """Return what is known of who holds a lock, as lines for people."""
    begun = holder.notes.begun
    lines = [f"thread {holder.thread}, connection {holder.where}"]
    if begun is not None:
        lines.append(f"in a transaction for {monotonic() - begun.since:.3f} s")
        lines.append(f"begun by: {begun.sql[:_SHOWN]}")
        lines += [f"at {shown(frame)}" for frame in frames_of(begun.where)]
    if holder.notes.last:
        lines.append(f"last statement: {holder.notes.last[:_SHOWN]}")
    if holder.thread_id != threading.get_ident():
        frame = sys._current_frames().get(holder.thread_id)  # noqa: SLF001  # the only way to see it
        if frame is not None:
            for each in reversed(traceback.extract_stack(frame, limit=_NOW)):
                lines.append(f"its thread is now at {each.filename}:{each.lineno} in {each.name}")
                break
    return lines


def _in_transaction(member: Member) -> bool:
    conn = member.ref()
    try:
        return conn is not None and conn.in_transaction
    except sqlite3.ProgrammingError:
        return False


def _failing() -> bool:
    """Tell whether an exception is being handled: then closing is how it is rolled back."""
    return sys.exc_info()[0] is not None


def _database(member: Member) -> str:
    return member.home.database if member.home is not None else ""
