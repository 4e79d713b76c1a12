"""Watches the connections of the rings, and notes what is anomalous during a test.

The first rule is: no false alarms. So a kind is reported on proof only:

    kind                 proof
    left-ring            deserialize() was called on a member; or SQLite names another file for it
    empty-table-read     a member that left reads an empty table that has golden rows, and has
                         deleted nothing from it
    missing-table        a member fails for a golden table or column that it really lacks, and that
                         it, or this test, did not drop
    lock-error           BUSY or LOCKED is about to reach the caller
    leaked-transaction   a member is in a transaction that the test began
    leaked-cursor        an unfinished cursor kept the ring locked
    leaked-connection    a connection was freed by the garbage collector, not by close()
    reset-blocked        the ring was retired; or a connection still uses a retired database
"""

from __future__ import annotations

import collections
import functools
import logging
import re
import sqlite3
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Concatenate, ParamSpec

from snapfarm_worker.anomaly import Anomaly, AnomalyKind, Severity
from snapfarm_worker.blockers import Blocker, in_transaction
from snapfarm_worker.findings import Findings
from snapfarm_worker.members import Member, RingConnection, collect
from snapfarm_worker.questions import (
    is_empty,
    lacks_column,
    lacks_table,
    left_unseen,
    missing_name,
)
from snapfarm_worker.ringkind import RingKind

if TYPE_CHECKING:
    from snapfarm_worker.layers import Layer
    from snapfarm_worker.ring import Ring

_MEMO_LIMIT = 1000
_LISTED = 5
#: At most so many connections are asked for their file when a test ends.
_ASKED = 50

_BEGINS = re.compile(r"\s*(?:BEGIN|SAVEPOINT)\b", re.IGNORECASE)
_REMOVING = frozenset(
    {
        sqlite3.SQLITE_DELETE,
        sqlite3.SQLITE_DROP_TABLE,
        sqlite3.SQLITE_DROP_VIEW,
        sqlite3.SQLITE_DROP_VTABLE,
    }
)

_P = ParamSpec("_P")
_log = logging.getLogger("snapfarm")


def _guarded(
    method: Callable[Concatenate[Sensors, _P], None],
) -> Callable[Concatenate[Sensors, _P], None]:
    """Switch a sensor off, with one warning, when it raises: a sensor never breaks a test."""

    @functools.wraps(method)
    def guard(self: Sensors, *args: _P.args, **kwargs: _P.kwargs) -> None:
        if method.__name__ in self.off:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self.off.add(method.__name__)
            text = (
                f"the sensor {method.__name__!r} failed and is off from now on, please report it: "
                f"{type(error).__name__}: {error}"
            )
            try:
                warnings.warn(text, RuntimeWarning, stacklevel=2)
            except Warning:  # the run turns warnings into errors
                _log.warning(text)

    return guard  # type: ignore[return-value]  # functools.wraps names the first parameter


class Sensors:
    """The watcher of all rings of this process; collects the anomalies of the present test."""

    def __init__(self, findings: Findings | None = None) -> None:
        self.findings = Findings() if findings is None else findings
        #: Whether a fixture that outlives the test is being set up.
        self.in_wide_fixture = False
        #: Names of the sensors that failed.
        self.off: set[str] = set()
        self._schema_versions: dict[str, int | None] = {}
        #: Members that were freed without close(); the garbage collector adds to it at any moment.
        self._dropped: collections.deque[Member] = collections.deque()
        #: The columns of each table of a baseline.
        self._columns: weakref.WeakKeyDictionary[Layer, dict[str, frozenset[str]]] = (
            weakref.WeakKeyDictionary()
        )
        self._rings: dict[str, Ring] = {}

    def watch(self, ring: Ring) -> None:
        """Begin to watch a ring, which has no member yet."""
        self._rings[ring.database] = ring
        ring.watcher = self

    # ------------------------------------------------------------ the test's course

    def begin(self, test: str) -> None:
        """A test begins."""
        self.findings.begin(test)
        self._dropped.clear()
        for name, ring in self._rings.items():
            self._schema_versions[name] = ring.schema_version()
            for member in ring.members():
                if member.left:
                    member.probed.clear()

    def finish(self) -> tuple[Anomaly, ...]:
        """Return what was found in this test, and end it."""
        found = self.findings.peek()
        self.findings.begin("")
        return found

    @_guarded
    def scan(self, ring: Ring) -> None:
        """Look for what the test leaves behind in a ring."""
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

    @_guarded
    def blocked(self, ring: Ring, blockers: tuple[Blocker, ...], *, retired: bool) -> None:
        """A reset found these in its way."""
        for blocker in blockers:
            if blocker.what == "cursor" and not blocker.wide:
                self.findings.add(
                    AnomalyKind.LEAKED_CURSOR,
                    Severity.ERROR,
                    ring.database,
                    f"the test leaves {blocker}",
                    same=(blocker.member,),
                    thread=blocker.member.thread,
                    stack=blocker.member.stack,
                )
        if not retired:
            return
        holding = [blocker for blocker in blockers if not blocker.ended]
        named = "; ".join(str(each) for each in holding[:_LISTED])
        self.findings.add(
            AnomalyKind.RESET_BLOCKED,
            Severity.ERROR,
            ring.database,
            f"the ring could not be reset and was replaced by a new one, which connections made "
            f"from now on get; it is locked by {named or 'something this process can not name'}",
            thread=holding[0].member.thread if holding else "",
            stack=holding[0].member.stack if holding else (),
        )

    def leaked_transaction(self, member: Member, *, of_task: bool = False) -> None:
        """A test leaves a member in a transaction; a task the connection that it was given."""
        whose = "farm_db" if member.fixture else f"a connection {member.where}"
        if of_task:
            self.findings.add(
                AnomalyKind.LEAKED_TRANSACTION,
                Severity.ERROR,
                _database(member),
                "the task leaves an open transaction on its connection, which was rolled back",
                same=(self.findings.test,),
                stack=(),
            )
            return
        self.findings.add(
            AnomalyKind.LEAKED_TRANSACTION,
            Severity.ERROR,
            _database(member),
            f"the test leaves an open transaction on {whose}",
            same=(member,),
            thread=member.thread,
            stack=member.stack,
        )

    # ------------------------------------------------------------ what members tell

    def joined(self, member: Member) -> None:
        """Note in which test a connection was opened."""
        member.test = self.findings.test
        member.wide = self.in_wide_fixture or not self.findings.test

    def dropped(self, member: Member) -> None:
        """Note a connection that was freed without `close()`."""
        if len(self._dropped) < _MEMO_LIMIT:
            self._dropped.append(member)

    @_guarded
    def left(self, conn: RingConnection, member: Member) -> None:
        """Report a connection that called `deserialize()`, and follow what it reads from now on."""
        ring = self._ring_of(member)
        if ring is None:
            return
        member.alert = True
        self.authorize(conn, member)
        if ring.kind is RingKind.PRIVATE:
            return  # it had a copy of its own before
        self._report_left(member, "deserialize() made a connection private")

    def authorize(self, conn: RingConnection, member: Member) -> None:
        """Set our authorizer, which also asks the user's."""
        theirs = member.authorizer

        def authorizer(
            action: int, first: str | None, second: str | None, schema: str | None, by: str | None
        ) -> int:
            if schema == "main" and first is not None:
                if action == sqlite3.SQLITE_READ:
                    member.recorded.add(first)
                elif action in _REMOVING:
                    member.removed.add(first.lower())
            if action == sqlite3.SQLITE_ALTER_TABLE and second is not None:
                member.removed.add(second.lower())
            if theirs is None or member.quiet:
                return sqlite3.SQLITE_OK
            return theirs(action, first, second, schema, by)

        sqlite3.Connection.set_authorizer(conn, authorizer)

    @_guarded
    def executed(self, conn: RingConnection, member: Member, sql: str) -> None:
        """Look at a statement of a connection that is on alert."""
        ring = self._ring_of(member)
        if ring is None:
            return
        if member.fixture:
            if _BEGINS.match(sql):
                member.explicit = True
            elif member.explicit and not conn.in_transaction:
                member.explicit = False
        if member.generation != ring.generation and not member.left:
            self.findings.add(
                AnomalyKind.RESET_BLOCKED,
                Severity.WARNING,
                ring.database,
                f"a connection {member.where} still uses a database that the ring gave up when it "
                "could not be reset: its rows are not those of the ring",
                same=(member,),
                sql=sql,
            )
        if member.left:
            for table in self._tables_read(member, sql):
                self._check_read(ring, conn, member, table, sql)

    @_guarded
    def failed(self, conn: RingConnection, member: Member, sql: str, error: sqlite3.Error) -> None:
        """Look at an error that is about to reach the caller."""
        ring = self._ring_of(member)
        if ring is None:
            return
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            self._report_lock(ring, member, sql, error)
        elif code == sqlite3.SQLITE_ERROR:
            self._check_missing(ring, conn, member, sql, str(error))

    # ------------------------------------------------------------ details

    def _tables_read(self, member: Member, sql: str) -> frozenset[str]:
        """Return the tables that a statement reads, which SQLite tells when it prepares it only."""
        if member.recorded:
            if len(member.memo) >= _MEMO_LIMIT:
                member.memo.clear()
            member.memo[sql] = frozenset(member.recorded)
            member.recorded.clear()
        return member.memo.get(sql, frozenset())

    def _check_read(
        self, ring: Ring, conn: RingConnection, member: Member, table: str, sql: str
    ) -> None:
        golden = {t.name.lower(): t.rows for t in ring.baseline.tables if t.kind == "table"}
        rows = golden.get(table.lower())
        if not rows or table.lower() in member.removed:
            return
        if table not in member.probed:
            member.probed[table] = is_empty(conn, table)
        if member.probed[table]:
            self.findings.add(
                AnomalyKind.EMPTY_TABLE_READ,
                Severity.ERROR,
                ring.database,
                f"table {table!r} was read, and is empty here; the golden database has {rows} rows "
                "in it",
                same=(member, table),
                sql=sql,
                table=table,
            )

    def _check_missing(
        self, ring: Ring, conn: RingConnection, member: Member, sql: str, message: str
    ) -> None:
        names = missing_name(message)
        if names is None:
            return
        table, column = names
        golden = self._golden_columns(ring)
        if not column:
            known = table.lower() in {t.name.lower() for t in ring.baseline.tables}
            missing = known and lacks_table(conn, table)
        else:
            # Without a table in the message, one of the statement's has to lack the column here.
            tables = (
                [table] if table else [name for name in golden if not sql or name in sql.lower()]
            )
            having = [t for t in tables if column.lower() in golden.get(t.lower(), ())]
            table = next((t for t in having if lacks_column(conn, t, column)), "")
            missing = table != ""
        if missing and self._is_foreign_change(ring, conn, member, table):
            what = f"column {column!r} of table {table!r}" if column else f"table {table!r}"
            self.findings.add(
                AnomalyKind.MISSING_TABLE,
                Severity.ERROR,
                ring.database,
                f"{what} is missing here; the golden database has it",
                same=(member, table, column),
                sql=sql,
                table=table,
            )

    def _is_foreign_change(
        self, ring: Ring, conn: RingConnection, member: Member, table: str
    ) -> bool:
        """Tell whether it was surely not this test that removed a table from what it sees."""
        if member.left:
            return table.lower() not in member.removed
        if ring.kind is RingKind.PRIVATE or conn.in_transaction:
            return False
        before = self._schema_versions.get(ring.database)
        return before is not None and before == ring.schema_version()

    def _golden_columns(self, ring: Ring) -> dict[str, frozenset[str]]:
        top = ring.layers.top
        if (known := self._columns.get(top)) is None:
            known = self._columns[top] = ring.baseline_columns()
        return known

    def _report_lock(self, ring: Ring, member: Member, sql: str, error: sqlite3.Error) -> None:
        others = [m for m in ring.members() if m is not member and _holds_transaction(m)]
        named = "; ".join(f"a connection {other.where}" for other in others[:_LISTED])
        own = "" if named else "no other connection of this process is in a transaction; look for "
        self.findings.add(
            AnomalyKind.LOCK_ERROR,
            Severity.ERROR,
            ring.database,
            f"{getattr(error, 'sqlite_errorname', 'a lock error')} ({error}) reached the program; "
            f"in a transaction: {named or own + 'cursors with rows left to fetch'}",
            same=(member, sql),
            sql=sql,
        )

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
            member.left = member.alert = True
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
                self.findings.add(
                    AnomalyKind.LEAKED_CONNECTION,
                    Severity.WARNING,
                    ring.database,
                    f"a connection {member.where}, was never closed",
                    same=(member.opened,),
                    thread=member.thread,
                    stack=member.stack,
                )

    def _ring_of(self, member: Member) -> Ring | None:
        return self._rings.get(member.home.database) if member.home is not None else None


def _database(member: Member) -> str:
    return member.home.database if member.home is not None else ""


def _holds_transaction(member: Member) -> bool:
    conn = member.ref()
    if conn is None or member.closed:
        return False
    try:
        return conn.in_transaction
    except sqlite3.ProgrammingError:
        return False
