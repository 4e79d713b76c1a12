"""Watches the connections of the rings, and notes what is anomalous during a test.

The first rule is: no false alarms. So a kind is reported on proof only; `anomaly.KINDS` says what
each means, docs/sensors.md what counts as proof. Here is who looks for what:

    module         kinds
    tables         empty-table-read, missing-table, ring-vanished
    transactions   lock-error, dirty-read, lost-write
    inventory      leaked-write, schema-change, snapshot-mismatch
    outsiders      wrong-database
    offspring      leaked-thread, foreign-process
    sensors        the rest, and the course of a test
"""

from __future__ import annotations

import collections
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from snapfarm_worker import connections, leaks
from snapfarm_worker.anomaly import Anomaly, AnomalyKind, Level, Severity
from snapfarm_worker.blockers import Blocker, in_transaction
from snapfarm_worker.findings import Findings
from snapfarm_worker.guard import Switches, guarded
from snapfarm_worker.inventory import RingWatch, differences
from snapfarm_worker.members import Member, RingConnection, collect
from snapfarm_worker.offspring import Offspring
from snapfarm_worker.outsiders import Outside, Outsiders
from snapfarm_worker.questions import changed_unseen, left_unseen
from snapfarm_worker.ringkind import RingKind
from snapfarm_worker.statements import QUICK, Recording, Word, word_of
from snapfarm_worker.tables import Tables, report_vanished
from snapfarm_worker.transactions import Transactions

if TYPE_CHECKING:
    from snapfarm_worker.ring import Ring

_MEMO_LIMIT = 1000
#: Attributes of a module are found sooner than those of a class.
_READ, _WRITE, _OTHER = Word.READ, Word.WRITE, Word.OTHER
_BEGIN, _COMMIT, _ROLLBACK = Word.BEGIN, Word.COMMIT, Word.ROLLBACK
#: At most so many connections are asked for their file when a test ends.
_ASKED = 50


class Sensors:
    """The watcher of all rings of this process; collects the anomalies of the present test."""

    def __init__(self, findings: Findings | None = None, *, level: Level = Level.FULL) -> None:
        self.findings = Findings() if findings is None else findings
        self.level = level
        self.switches = Switches()
        self._off = self.switches.off
        #: Members that were freed without close(); the garbage collector adds to it at any moment.
        self._dropped: collections.deque[Member] = collections.deque()
        self._watches: dict[str, RingWatch] = {}
        self._transactions = Transactions(self.findings)
        self._tables = Tables(self.findings, self._transactions, self.switches)
        self._previous = ""
        #: Rings that were not compared with their manifest yet.
        self._unverified: list[Ring] = []
        self._offspring = Offspring(self.findings, self._watches, self.switches)
        self._outsiders = Outsiders(self.findings, self, self._watches, self._transactions)
        #: Rings whose database was destroyed in the present test.
        self._vanished: set[str] = set()

    @property
    def in_wide_fixture(self) -> bool:
        """Whether a fixture that outlives the test is being set up."""
        return self._offspring.in_wide_fixture

    @in_wide_fixture.setter
    def in_wide_fixture(self, now: bool) -> None:
        self._offspring.in_wide_fixture = now

    def watch(self, ring: Ring, *, wide: bool = False, managed: bool = False) -> None:
        """Begin to watch a ring, which has no member yet.

        `wide` tells whether tests leave what they commit to later ones, as a rule; `managed`, that
        nothing which they leave open there is a leak.
        """
        if not self._watches:
            connections.watch_others(self._outside)
            self._offspring.open()
        watch = self._watches[ring.database] = RingWatch(ring, managed=managed)
        watch.wide = wide and self.level is Level.FULL
        self._unverified.append(ring)
        ring.watcher = self

    def close(self) -> None:
        """Watch no more."""
        if self._watches:
            connections.ignore_others(self._outside)
            self._offspring.close()

    # ------------------------------------------------------------ the test's course

    def begin(self, test: str, wide: Callable[[str], bool]) -> None:
        """A test begins; `wide(database)` tells whether what it commits is left to later ones."""
        self.findings.begin(test)
        self._dropped.clear()
        self._offspring.begin()
        self._outsiders.begin()
        self._vanished.clear()
        self._begin(wide)

    @guarded
    def _begin(self, wide: Callable[[str], bool]) -> None:
        self._transactions.begin()
        for name, watch in self._watches.items():
            watch.begin(self._previous, wide=self.level is Level.FULL and wide(name))
            self._tables.begin(watch)
        self._verify()

    def _verify(self) -> None:
        for ring in [ring for ring in self._unverified if ring.is_open]:
            self._unverified.remove(ring)
            if ring.kind is RingKind.PRIVATE or ring.is_dirty():
                continue
            if found := differences(ring):
                self.findings.add(
                    AnomalyKind.SNAPSHOT_MISMATCH,
                    Severity.ERROR,
                    ring.database,
                    f"the restored ring is not what its manifest says: {'; '.join(found)}",
                    evidence=found,
                    stack=(),
                )

    def note_reads(self) -> None:
        """Remember from now on what tests read, which costs more than a run wants to pay."""
        for watch in self._watches.values():
            watch.reading = set()

    def tables_written(self) -> tuple[str, ...]:
        """Return the tables that the present test wrote to, as database.table."""
        return self._named(lambda watch: watch.tables_written)

    def tables_read(self) -> tuple[str, ...]:
        """Return the tables that the present test read, where reads are noted."""
        return self._named(lambda watch: watch.tables_read)

    def _named(self, tables: Callable[[RingWatch], frozenset[str]]) -> tuple[str, ...]:
        # Not through the guard, which returns nothing.
        if not self.switches.off.isdisjoint({"executed", "tables"}):
            return ()
        found = self._watches.items()
        try:
            return tuple(sorted(f"{name}.{one}" for name, watch in found for one in tables(watch)))
        except Exception as error:
            self.switches.turn_off("tables", error)
            return ()

    def finish(self) -> tuple[Anomaly, ...]:
        """Return what was found in this test, and end it."""
        self._look_at_others()
        found = self.findings.peek()
        self._previous = self.findings.test
        self.findings.begin("")
        return found

    @guarded
    def _look_at_others(self) -> None:
        self._offspring.report()

    @guarded
    def scan(self, ring: Ring) -> None:
        """Look for what the test leaves behind in a ring."""
        if fate := ring.fate():
            self._vanished.add(ring.database)
            report_vanished(self.findings, ring.database, fate)
        members = ring.members()
        suspects = False
        for number, member in enumerate(members):
            if member not in ring.spared and in_transaction(member) and not member.fixture:
                self.leaked_transaction(member)
            if number < _ASKED:
                self._ask_for_file(ring, member)
            suspects = suspects or self._may_leak(member)
        if suspects or self._dropped:
            del members
            # A connection dropped in this test is young: the old generation can stay as it is.
            collect(1)
            self._report_dropped(ring)

    @guarded
    def residue(self, ring: Ring, *, passed: bool) -> None:
        """Report what the test has left changed, where nothing resets it."""
        left = self._watches[ring.database].residue(self.findings.test)
        if left.rows and passed:
            self.findings.add(
                AnomalyKind.LEAKED_WRITE,
                Severity.WARNING,
                ring.database,
                f"the test leaves rows changed, for later tests to find: {'; '.join(left.rows)}",
                evidence=left.rows,
                stack=(),
            )
        if left.schema:
            self.findings.add(
                AnomalyKind.SCHEMA_CHANGE,
                Severity.WARNING,
                ring.database,
                f"the test leaves the schema changed: {'; '.join(left.schema)}",
                evidence=left.schema,
                stack=(),
            )

    @guarded
    def remember(self, ring: Ring) -> None:
        """Remember which tables the test has emptied in a ring that others look after."""
        self._watches[ring.database].note_emptied(self.findings.test)

    @guarded
    def accept(self, ring: Ring) -> None:
        """What is committed in a ring by now is meant so, by a fixture of wider scope."""
        self._watches[ring.database].accept()

    @guarded
    def blocked(self, ring: Ring, blockers: Sequence[Blocker], *, retired: bool) -> None:
        """A reset found these in its way, or the test ends without one."""
        leaks.report_cursors(self.findings, ring.database, blockers)
        if retired and ring.database not in self._vanished:
            leaks.report_blocked(self.findings, ring.database, blockers)

    @guarded
    def leaked_transaction(self, member: Member, *, of_task: bool = False) -> None:
        """A test leaves a member in a transaction; a task the connection that it was given."""
        leaks.report_transaction(self.findings, _database(member), member, of_task=of_task)
        self._transactions.left_open(member)

    # ------------------------------------------------------------ what members tell

    def joined(self, member: Member) -> None:
        """Note in which test a connection was opened."""
        member.test = self.findings.test
        member.wide = self.in_wide_fixture or not self.findings.test
        self._join(member)

    @guarded
    def _join(self, member: Member) -> None:
        if isinstance(member.home, Outside):
            self._outsiders.joined(member.home, member)
            return
        member.notes.watch = self._watches.get(_database(member))
        member.alert = self.level is Level.FULL or bool(self._transactions.refused)
        if self._offspring.is_child:
            self._offspring.tell_parent(
                member, f"opened the ring of database {_database(member)!r}"
            )

    def dropped(self, member: Member) -> None:
        """Note a connection that was freed without `close()`."""
        if len(self._dropped) < _MEMO_LIMIT:
            self._dropped.append(member)

    @guarded
    def left(self, conn: RingConnection, member: Member) -> None:
        """Report a connection that called `deserialize()`, and follow what it reads from now on."""
        watch = member.notes.watch
        if watch is None:
            return
        self._follow_left(conn, member)
        if watch.ring.kind is RingKind.PRIVATE:
            return  # it had a copy of its own before
        self._report_left(member, "deserialize() made a connection private")

    def _follow_left(self, conn: RingConnection, member: Member) -> None:
        member.alert = member.notes.suspicious = True
        member.notes.memo.clear()
        member.notes.recording = Recording()  # deserialize() is told to an authorizer, too
        self._tables.authorize(conn, member)

    def authorize(self, conn: RingConnection, member: Member) -> None:
        """Set our authorizer, which also asks the user's."""
        self._tables.authorize(conn, member)

    @guarded
    def begins(self, member: Member, sql: object) -> None:
        """Note what is done in several steps: others may look in between, or none come last."""
        watch = member.notes.watch
        if watch is not None and isinstance(sql, str) and not self._offspring.is_child:
            member.notes.wrote = True
            if not member.left:
                watch.changes.note(sql)

    def executed(
        self, cursor: sqlite3.Cursor, member: Member, sql: str, *, script: bool = False
    ) -> None:
        """Look at a statement of a connection that is on alert."""
        # The one sensor that is called for every statement: not through the guard.
        if self._off and "executed" in self._off:
            return
        try:
            word = Word.SCRIPT if script else QUICK.get(sql[:7])
            self._look(cursor, member, sql, word_of(sql) if word is None else word)
        except Exception as error:
            self.switches.turn_off("executed", error)

    def _look(self, cursor: sqlite3.Cursor, member: Member, sql: str, word: Word) -> None:
        notes = member.notes
        watch = notes.watch
        if self._offspring.is_child:
            if watch is not None:
                what = "used a connection that was opened before the fork"
                self._offspring.tell_parent(member, what, sql)
            return
        if watch is None:
            self._outsiders.executed(_conn(cursor), member, sql, word)
            return
        self._transactions.follow(cursor, member, sql, word)
        # Each line here is paid for with each statement: a look is cheaper than a call.
        if word is _READ:
            if watch.reading is not None:
                watch.reading.add(sql)
            usual = not watch.suspicious or sql in watch.known
        elif word is _BEGIN or word is _COMMIT or word is _ROLLBACK:
            usual = not member.fixture
        else:
            # What has left the ring changes a database of its own.
            if sql not in watch.changes.texts and not member.left:
                watch.changes.note(sql)
            if word is not _OTHER:
                notes.wrote = True
            usual = (
                word is _WRITE
                and not member.fixture
                and (not watch.suspicious or sql in watch.known)
            )
        if usual and not notes.suspicious:
            if member.generation != watch.ring.generation:
                self._report_stale(watch, member, sql, word)
            return
        conn = _conn(cursor)
        if member.fixture:
            if word is Word.BEGIN or (word is Word.SCRIPT and word_of(sql) is Word.BEGIN):
                member.explicit = True
            elif member.explicit and not conn.in_transaction:
                member.explicit = False
        if member.generation != watch.ring.generation:
            self._report_stale(watch, member, sql, word)
        if member.left and word is Word.WRITE and not conn.in_transaction:
            self._transactions.lost(member, sql)
        self._tables.executed(watch, conn, member, sql, word)

    def _report_stale(self, watch: RingWatch, member: Member, sql: str, word: Word) -> None:
        if member.left:
            return
        self.findings.add(
            AnomalyKind.RESET_BLOCKED,
            Severity.WARNING,
            watch.ring.database,
            f"a connection {member.where} still uses a database that the ring gave up when it "
            "could not be reset: its rows are not those of the ring",
            same=(member,),
            sql=sql,
        )
        if word is Word.WRITE:
            self._transactions.lost(member, sql)

    def ended(self, conn: RingConnection, member: Member, *, committed: bool) -> None:
        """A connection committed or rolled back through a method of its own."""
        del conn
        if member.notes.begun is None and not self._transactions.refused:
            return
        self._ended(member, committed)

    @guarded
    def _ended(self, member: Member, committed: bool) -> None:
        self._transactions.ended(member, committed=committed)

    @guarded
    def closing(self, conn: RingConnection, member: Member) -> None:
        """A connection is about to be closed."""
        watch = member.notes.watch
        if self._offspring.is_child or watch is None:
            return
        if changed_unseen(member):
            watch.changes.complete = False
        if member in watch.ring.spared:
            # A fixture's of wider scope, which knows what it does.
            member.notes.unsaved.clear()
            member.notes.returning.clear()
        self._transactions.closing(conn, member)

    @guarded
    def failed(
        self, conn: RingConnection, member: Member, sql: str, error: sqlite3.Error, partly: bool
    ) -> None:
        """Look at an error that is about to reach the caller."""
        watch = member.notes.watch
        if self._offspring.is_child:
            return
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if watch is None:
            if code == sqlite3.SQLITE_ERROR:
                self._outsiders.failed(conn, member, sql, str(error))
            return
        self._tables.failed(watch, member, sql, partly=partly)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            member.alert = True  # for a retry
            members = watch.ring.members()
            self._transactions.refuse(watch.ring.database, members, member, sql, error)
        elif code == sqlite3.SQLITE_ERROR:
            self._tables.missing(watch, conn, member, sql, str(error))

    def _outside(self, database: object) -> Outside | None:
        try:
            return self._outsiders.recognize(database)
        except Exception as error:
            connections.ignore_others(self._outside)
            self.switches.turn_off("outside", error)
            return None

    # ------------------------------------------------------------ details

    def _report_left(self, member: Member, how: str) -> None:
        self.findings.add(
            AnomalyKind.LEFT_RING,
            Severity.ERROR,
            _database(member),
            f"{how}: it was {member.where}; the ring and its other connections see nothing of it",
            same=(member,),
        )

    def _ask_for_file(self, ring: Ring, member: Member) -> None:
        """Find a connection that left by ways that we did not see."""
        conn = member.ref()
        if (
            conn is None
            or member.closed
            or member.left
            or ring.kind is RingKind.PRIVATE
            or member.thread_id != threading.get_ident()
        ):
            return
        if left_unseen(conn):
            member.left = True
            self._follow_left(conn, member)
            self._report_left(member, "deserialize() made a connection private")

    def _may_leak(self, member: Member) -> bool:
        return (
            member.test == self.findings.test
            and not member.closed
            and not member.wide
            and not member.fixture
            and not member.pooled
        )

    def _report_dropped(self, ring: Ring) -> None:
        for _ in range(len(self._dropped)):
            member = self._dropped.popleft()
            if member.home is not ring:
                self._dropped.append(member)
            elif self._may_leak(member):
                leaks.report_connection(self.findings, ring.database, member)


def _conn(cursor: sqlite3.Cursor) -> RingConnection:
    conn = cursor.connection
    assert isinstance(conn, RingConnection)
    return conn


def _database(member: Member) -> str:
    return member.home.database if member.home is not None else ""
