"""Connections to databases that are no ring, as far as they may be meant for one.

A program that was told a wrong name opens a new, empty database: in memory, in a new file, or under
a name that nearly is a ring's. Other databases are left alone, and get sqlite3's own connections.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import urllib.parse
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from snapfarm_worker.anomaly import AnomalyKind, Severity
from snapfarm_worker.members import Member, RingConnection, Watcher
from snapfarm_worker.questions import ask, explained, missing_name
from snapfarm_worker.statements import NOTHING, Word
from snapfarm_worker.tables import report_vanished

if TYPE_CHECKING:
    from snapfarm_worker.findings import Findings
    from snapfarm_worker.inventory import RingWatch
    from snapfarm_worker.transactions import Transactions

#: From here on, two names are one and a mistake.
_SIMILAR = 0.8


class Outside:
    """What stands in for a ring where a connection belongs to none."""

    database = ""
    generation = 0

    def __init__(self, name: str, watcher: Watcher, *, ring: str, misspelt: bool) -> None:
        #: What was opened, as the program wrote it.
        self.name = name
        self.watcher: Watcher | None = watcher
        #: The database whose ring's address, or nearly that, this is; "" for other names.
        self.ring = ring
        self.misspelt = misspelt

    @property
    def shared(self) -> bool:
        """Whether other connections may have opened the same database."""
        return self.name not in ("", ":memory:") and "::memory:" not in self.name

    def parting(self, conn: RingConnection, member: Member) -> None:
        """A connection is about to be closed."""

    def parted(self, member: Member) -> None:
        """A connection was closed."""

    def gone(self, member: Member) -> None:
        """A connection was freed."""

    def members(self) -> list[Member]:
        """Return nobody: these connections are not kept track of."""
        return []


class Outsiders:
    """Looks at connections to no ring."""

    def __init__(
        self,
        findings: Findings,
        watcher: Watcher,
        watches: Mapping[str, RingWatch],
        transactions: Transactions,
    ) -> None:
        self._findings = findings
        self._watcher = watcher
        self._watches = watches
        self._transactions = transactions
        #: By name of a database: the tables that it was asked for, with the database of a ring.
        self._accused: dict[str, dict[str, str]] = {}

    def begin(self) -> None:
        """A test begins."""
        self._accused.clear()

    def joined(self, outside: Outside, member: Member) -> None:
        """A connection was opened."""
        member.alert = bool(outside.ring) or outside.name in self._accused

    def recognize(self, database: object) -> Outside | None:
        """Return the outside that a database name means; None for one that is left alone."""
        rings = [(name, watch.ring.uri) for name, watch in self._watches.items()]
        return recognized(database, rings, self._watcher)

    def failed(self, conn: RingConnection, member: Member, sql: str, message: str) -> None:
        """A statement failed, since something is missing."""
        outside = member.home
        names = missing_name(message)
        if not isinstance(outside, Outside) or names is None or names[1] or member.left:
            return
        table = names[0].lower()
        if outside.ring and not outside.misspelt:
            ring = self._watches[outside.ring].ring
            if fate := ring.fate():
                report_vanished(self._findings, ring.database, fate, sql=sql, table=table)
                return
        has_tables = ask(conn, "SELECT count(*) FROM sqlite_schema")
        if has_tables and not outside.ring:
            return  # a database of the program's own
        self._report(outside, member, sql, table)

    def executed(self, conn: RingConnection, member: Member, sql: str, word: Word) -> None:
        """A statement succeeded on a connection that is of interest."""
        outside = member.home
        if not isinstance(outside, Outside):
            return
        if outside.ring and word in (Word.READ, Word.WRITE):
            facts = explained(conn, sql) or NOTHING
            for table in facts.writes if word is Word.WRITE else facts.reads | facts.unsure:
                if self._golden(table, outside.ring) is None:
                    continue
                if word is Word.WRITE:
                    self._transactions.lost(member, sql, table)
                else:
                    self._report(outside, member, sql, table)
        elif not outside.ring:
            self._withdraw(conn, outside, member)

    def _report(self, outside: Outside, member: Member, sql: str, table: str) -> None:
        watch = self._golden(table, outside.ring)
        if watch is None:
            return
        # Whoever makes the table now has only looked whether it was there.
        member.alert = True
        self._accused.setdefault(outside.name, {})[table] = watch.ring.database
        what = {":memory:": "a new in-memory database", "": "a new temporary database"}.get(
            outside.name,
            f"{outside.name!r}, which is {'nearly ' if outside.misspelt else ''}"
            f"{'a ring' if outside.ring else 'another database'}",
        )
        rows = watch.baseline_rows(table)
        self._findings.add(
            AnomalyKind.WRONG_DATABASE,
            Severity.ERROR,
            watch.ring.database,
            f"table {table!r} was asked of {what}; the golden database has it, with {rows} rows",
            same=(outside.name if outside.shared else member, table),
            sql=sql,
            table=table,
            evidence=(f"the connection was {member.where}", f"the ring is {watch.ring.uri}"),
        )

    def _withdraw(self, conn: RingConnection, outside: Outside, member: Member) -> None:
        """Take back what was said of tables that are there now, by CREATE, backup() or else."""
        asked = "SELECT count(*) FROM sqlite_schema WHERE lower(name) = lower(?)"
        for table, database in self._accused.get(outside.name, {}).items():
            if ask(conn, asked, table):
                key = (outside.name if outside.shared else member, table)
                self._findings.withdraw(AnomalyKind.WRONG_DATABASE, database, *key)

    def _golden(self, table: str, database: str) -> RingWatch | None:
        """Return the ring whose baseline has a table, the named one first."""
        watches = sorted(self._watches.items(), key=lambda item: item[0] != database)
        for _, watch in watches:
            if watch.ring.is_open and any(table == t.name.lower() for t in watch.baseline.tables):
                return watch
        return None


def recognized(
    database: object, rings: Iterable[tuple[str, str]], watcher: Watcher
) -> Outside | None:
    """Return the outside that a database name means; None for one that is left alone.

    `rings` are names of databases with the addresses of their rings.
    """
    if isinstance(database, bytes | os.PathLike):
        database = os.fsdecode(database)
    if not isinstance(database, str):
        return None
    if database in (":memory:", ""):
        return Outside(database, watcher, ring="", misspelt=False)
    if database.startswith("file:"):
        key = _key(database)
        for name, uri in rings:
            exact = key == _key(uri)
            if exact or _is_similar(key, _key(uri)):
                return Outside(database, watcher, ring=name, misspelt=not exact)
        query = database.partition("?")[2]
        if "mode=memory" in query or ":memory:" in key or "vfs=memdb" in query:
            return Outside(database, watcher, ring="", misspelt=False)
        return None
    with contextlib.suppress(OSError, ValueError):
        if os.stat(database).st_size:  # noqa: PTH116  # the name may be anything
            return None
    return Outside(database, watcher, ring="", misspelt=False)


def _is_similar(key: str, other: str) -> bool:
    if not key or abs(len(key) - len(other)) > len(other) // 4:
        return False
    matcher = difflib.SequenceMatcher(None, key, other)
    return matcher.quick_ratio() >= _SIMILAR and matcher.ratio() >= _SIMILAR


def _key(uri: str) -> str:
    path = uri.removeprefix("file:").partition("#")[0].partition("?")[0]
    return urllib.parse.unquote(path).lstrip("/")
