"""Which tables statements read, and whether what they find there can be right.

    who                                        what it may not read as empty
    a connection that left the ring            what has rows in the baseline, and it has not removed
    a member, where tests share what they do   what an earlier test emptied, and this one has not

A member of a ring that began the test with its baseline is not asked: if a table is empty there,
something in this test has emptied it. The second case begins where an earlier test has emptied
something. Until then statements are only noted by their text (`changes`), and no connection has an
authorizer: SQLite would call it for each column of each statement that is prepared.
"""

from __future__ import annotations

import functools
import re
import sqlite3
import weakref
from typing import TYPE_CHECKING

import msgspec

from snapfarm_worker import sqlscript
from snapfarm_worker.anomaly import AnomalyKind, Severity
from snapfarm_worker.changes import is_indirect, makes_reacting
from snapfarm_worker.members import Member, RingConnection
from snapfarm_worker.questions import (
    ask,
    changed_unseen,
    enforces_keys,
    explained,
    has_temp,
    has_temp_triggers,
    is_attached_twice,
    is_bare,
    is_empty,
    lacks_column,
    lacks_table,
    missing_name,
    rows_changed_by,
)
from snapfarm_worker.ringkind import RingKind
from snapfarm_worker.statements import (
    NOTHING,
    Facts,
    Recording,
    Word,
    named,
    read_uncommitted,
    united,
    word_of,
)
from snapfarm_worker.transactions import unsaved
from snapfarm_worker.underway import underway

if TYPE_CHECKING:
    from snapfarm_worker.findings import Findings
    from snapfarm_worker.guard import Switches
    from snapfarm_worker.inventory import RingWatch
    from snapfarm_worker.layers import Layer
    from snapfarm_worker.ring import Ring
    from snapfarm_worker.transactions import Transactions

_MEMO_LIMIT = 1000
_ATTACH = re.compile(r"\bATTACH\b", re.IGNORECASE)


class Tables:
    """Looks at what statements read and remove."""

    def __init__(self, findings: Findings, transactions: Transactions, switches: Switches) -> None:
        self._findings = findings
        self._transactions = transactions
        self._switches = switches
        #: The columns of each table of a baseline.
        self._columns: weakref.WeakKeyDictionary[Layer, dict[str, frozenset[str]]] = (
            weakref.WeakKeyDictionary()
        )
        #: Number of each ring's schema when the test began.
        self._schema_versions: dict[str, int | None] = {}

    def begin(self, watch: RingWatch) -> None:
        """A test begins."""
        version = watch.ring.schema_version()
        if version is None or version != self._schema_versions.get(watch.ring.database):
            watch.edition += 1
        self._schema_versions[watch.ring.database] = version
        for member in watch.ring.members():
            member.notes.removals.clear()
            member.notes.asked.clear()
            member.notes.wrote = False
            member.notes.before = rows_changed_by(member)
            if member.notes.authorized and member.notes.recording.told:
                member.notes.recording = Recording()

    def authorize(self, conn: RingConnection, member: Member) -> None:
        """Set our authorizer, which also asks the user's, on a connection that left its ring."""
        theirs = member.authorizer
        notes = member.notes

        def authorizer(
            action: int, first: str | None, second: str | None, schema: str | None, by: str | None
        ) -> int:
            try:
                notes.recording.note(action, first, second, schema, by)
            except Exception as error:  # which SQLite would take for a refusal
                self._switches.turn_off("authorizer", error)
            if theirs is None or member.quiet:
                return sqlite3.SQLITE_OK
            return theirs(action, first, second, schema, by)

        sqlite3.Connection.set_authorizer(conn, authorizer)
        notes.authorized = True

    # ------------------------------------------------------------ what succeeded

    def executed(
        self, watch: RingWatch, conn: RingConnection, member: Member, sql: str, word: Word
    ) -> None:
        """Look at a statement of a connection that is of interest."""
        notes = member.notes
        if word in (Word.OTHER, Word.SCRIPT) and _ATTACH.search(sql):
            notes.doubled = notes.doubled or is_attached_twice(conn)
        if word is Word.OTHER:
            self._note_uncommitted(watch, member, sql)
        elif word in (Word.SCHEMA, Word.SCRIPT):
            watch.reacting = watch.reacting or makes_reacting(sql)
            if is_indirect(sql):
                watch.indirect = True
                watch.edition += 1
                notes.triggers = has_temp_triggers(conn)
        if member.left:
            facts = self._facts(watch, conn, member, sql, word)
            notes.removals.take(facts, sql)
        elif notes.suspicious or (watch.suspicious and watch.concerns(sql, word)):
            facts = self._facts(watch, conn, member, sql, word)
            # A read of nothing may be one of a temporary table that only this connection has.
            if not (facts.reads or facts.unsure or word is Word.READ):
                watch.learn(sql)
        else:
            if watch.suspicious:
                watch.learn(sql)
            return
        if facts.reads or facts.unsure:
            self._check_reads(watch, conn, member, sql, facts)

    def _note_uncommitted(self, watch: RingWatch, member: Member, sql: str) -> None:
        chosen = read_uncommitted(sql)
        if chosen is not None and watch.ring.kind is RingKind.SHARED_CACHE:
            member.notes.uncommitted = member.notes.suspicious = chosen

    def _facts(
        self, watch: RingWatch, conn: RingConnection, member: Member, sql: str, word: Word
    ) -> Facts:
        """Return what a statement does, which SQLite tells when it prepares it only."""
        notes = member.notes
        _forget_outdated(watch, member)
        if notes.recording.told:
            facts = notes.recording.facts(sql)
            notes.recording = Recording()
            if word is Word.SCRIPT:
                # What was read by which of its statements, only these can tell.
                each = _explained(watch, conn, sql, word)
                facts = msgspec.structs.replace(facts, reads=each.reads, unsure=each.unsure)
        else:
            known = notes.memo.get(sql)
            if known is not None:
                return known
            facts = _explained(watch, conn, sql, word)
        if len(notes.memo) >= _MEMO_LIMIT:
            notes.memo.clear()
        notes.memo[sql] = facts
        return facts

    def _check_reads(
        self, watch: RingWatch, conn: RingConnection, member: Member, sql: str, facts: Facts
    ) -> None:
        tables = facts.reads | facts.unsure
        if member.notes.uncommitted and not member.left:
            self._check_dirty(watch, conn, member, sql, tables)
        for table in tables:
            if member.left and table in member.notes.removals.tables:
                continue
            rows = watch.baseline_rows(table)
            if not rows or (not member.left and table not in watch.emptied):
                continue
            if (table in facts.unsure and has_temp(conn, table)) or not is_empty(conn, table):
                continue
            if not member.left and self._may_have_removed(watch, conn, table):
                continue
            # Another thread may have reset the ring meanwhile: then nobody knows what was read.
            polluter = "" if member.left else watch.emptied.get(table)
            if polluter is None:
                continue
            by = f"; {polluter} emptied it" if polluter else ""
            self._findings.add(
                AnomalyKind.EMPTY_TABLE_READ,
                Severity.ERROR,
                watch.ring.database,
                f"table {table!r} was read, and is empty here; the golden database has {rows} rows "
                f"in it{by}",
                same=(member, table, polluter),
                sql=sql,
                table=table,
                evidence=(f"the reader is a connection {member.where}",),
                polluter=polluter,
            )

    def _check_dirty(
        self,
        watch: RingWatch,
        conn: RingConnection,
        member: Member,
        sql: str,
        tables: frozenset[str],
    ) -> None:
        for other in watch.ring.members():
            if other is member or other.left:
                continue
            for changing in list(unsaved(other)):
                # The writer's own connection can only be asked by its own thread.
                written = self._other_facts(watch, conn, member, changing).writes
                for table in written & tables:
                    self._transactions.read_dirty(member, sql, table, other)

    def _other_facts(
        self, watch: RingWatch, conn: RingConnection, member: Member, sql: str
    ) -> Facts:
        _forget_outdated(watch, member)
        known = member.notes.memo.get(sql)
        if known is None:
            known = member.notes.memo[sql] = _explained(watch, conn, sql, Word.SCRIPT)
        return known

    def _may_have_removed(self, watch: RingWatch, conn: RingConnection, table: str) -> bool:
        """Tell whether this test may have removed a table, or rows of it."""
        if watch.was_reset:
            return True
        # First: what ends while we look is noted by then.
        for text in underway(watch.ring):
            watch.changes.note(text)
        for each in watch.ring.members():
            if changed_unseen(each) or each.notes.doubled:
                return True
            if each.notes.triggers and each.ref() is not conn:
                return True
        if self._is_new_schema(watch, conn) and not watch.changes.touch_schema():
            return True  # by backup()
        _forget_outdated(watch, conn.farm_member)
        # Not the sentinel: a function that a statement of this thread calls may be what reads, and
        # SQLite then waits for itself on any other connection of a shared cache.
        if watch.reacting and not enforces_keys(conn):
            return True
        removed = watch.changes.removed(
            (watch.explained_in_baseline, functools.partial(explained, conn)),
            only_here=watch.indirect,
        )
        return (
            removed is None
            or table in removed
            or watch.rests_on(table, removed)
            or watch.takes_orders(table, removed | watch.changes.written())
        )

    # ------------------------------------------------------------ what failed

    def failed(self, watch: RingWatch, member: Member, sql: str, *, partly: bool) -> None:
        """A statement failed: what a script removed until then, this test has removed."""
        notes = member.notes
        if not member.left:
            if partly and is_indirect(sql):
                watch.indirect = True
                watch.edition += 1
            if partly and makes_reacting(sql):
                watch.reacting = True
            note = watch.changes.note if partly else watch.changes.note_failed
            if word_of(sql) is not Word.READ:
                note(sql)
                # SQLite has counted rows that it then took back.
                notes.wrote = True
        elif notes.recording.told:
            facts = notes.recording.facts(sql)
            # A statement that fails as a whole has left no row that could be removed again.
            filled = facts.fills if partly else frozenset[str]()
            notes.removals.take(msgspec.structs.replace(facts, fills=filled), sql)
        if notes.recording.told:
            notes.recording = Recording()

    def missing(
        self, watch: RingWatch, conn: RingConnection, member: Member, sql: str, message: str
    ) -> None:
        """Look at what SQLite says is missing."""
        names = missing_name(message)
        if names is None:
            return
        table, column = names
        ring = watch.ring
        if not column:
            known = table.lower() in {t.name.lower() for t in watch.baseline.tables}
            missing = known and lacks_table(conn, table)
        else:
            # Without a table in the message, one of the statement's has to lack the column here.
            golden = self._golden_columns(watch)
            tables = (
                [table] if table else [name for name in golden if not sql or name in sql.lower()]
            )
            having = [t for t in tables if column.lower() in golden.get(t.lower(), ())]
            table = next((t for t in having if lacks_column(conn, t, column)), "")
            missing = table != ""
        if not missing or not self._is_foreign_change(watch, conn, member, table.lower()):
            return
        if fate := _fate(ring, conn):
            report_vanished(self._findings, ring.database, fate, sql=sql, table=table)
            return
        what = f"column {column!r} of table {table!r}" if column else f"table {table!r}"
        polluters = watch.altered if column else watch.gone
        polluter = "" if member.left else polluters.get(table.lower(), "")
        by = f"; {polluter} removed it" if polluter else ""
        self._findings.add(
            AnomalyKind.MISSING_TABLE,
            Severity.ERROR,
            ring.database,
            f"{what} is missing here; the golden database has it{by}",
            same=(member, table, column),
            sql=sql,
            table=table,
            evidence=(f"asked by a connection {member.where}",),
            polluter=polluter,
        )

    def _is_foreign_change(
        self, watch: RingWatch, conn: RingConnection, member: Member, table: str
    ) -> bool:
        """Tell whether it was surely not this test that removed a table from what it sees."""
        if member.left:
            return table not in member.notes.removals.tables
        if watch.ring.kind is RingKind.PRIVATE:
            return False
        if table in watch.gone or table in watch.altered:
            return not self._may_have_removed(watch, conn, table)
        if _fate(watch.ring, conn):
            return True
        if conn.in_transaction:
            return False
        return self._is_new_schema(watch, conn) is False

    def _is_new_schema(self, watch: RingWatch, conn: RingConnection) -> bool | None:
        """Tell whether the schema has changed since the test began; None where nobody knows."""
        before = self._schema_versions.get(watch.ring.database)
        now = ask(conn, "PRAGMA schema_version")
        return None if before is None or now is None else before != now

    def _golden_columns(self, watch: RingWatch) -> dict[str, frozenset[str]]:
        top = watch.ring.layers.top
        if (known := self._columns.get(top)) is None:
            known = self._columns[top] = watch.ring.baseline_columns()
        return known


def report_vanished(
    findings: Findings, database: str, fate: str, *, sql: str = "", table: str = ""
) -> None:
    """Report that the database of a ring is gone."""
    findings.add(
        AnomalyKind.RING_VANISHED,
        Severity.ERROR,
        database,
        f"{fate}: the database goes with its last connection, and a new one of its name is empty",
        sql=sql,
        table=table,
    )


def _fate(ring: Ring, conn: RingConnection) -> str:
    """Tell what became of a ring's database; "" if all is well.

    The sentinel is asked only where there is nothing: see `_may_have_removed`.
    """
    return ring.fate() if is_bare(conn) else ""


def _forget_outdated(watch: RingWatch, member: Member) -> None:
    """Forget what statements did by a schema that is another one since."""
    if member.notes.edition != watch.edition:
        member.notes.edition = watch.edition
        member.notes.memo.clear()


def _explained(watch: RingWatch, conn: RingConnection, sql: str, word: Word) -> Facts:
    if word is Word.READ or word is Word.WRITE:
        return explained(conn, sql) or NOTHING
    if word is Word.SCHEMA:
        # It has been executed, and can't be prepared again; but where it was not.
        return watch.explained_in_baseline(sql) or named(sql)
    if word is not Word.SCRIPT:
        return NOTHING
    each = sqlscript.split(sql)
    return united(_explained(watch, conn, one.sql, word_of(one.sql)) for one in each)
