"""What the tables of one ring hold from test to test, against their baseline.

Under the policy `test` every test begins with the baseline, and there is nothing to keep here.
Under the others, a ring is looked at after each test that committed something: which tables were
emptied, which are gone, what was left, and by which test. Until the next reset, a later test that
reads them reads what another one has left behind.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from snapfarm_worker.changes import Ask, Changes, makes_reacting, ordered_by
from snapfarm_worker.questions import changed_unseen, explained_by
from snapfarm_worker.ring import Ring, RingKind
from snapfarm_worker.snapshot import Manifest, quoted, schema_digest
from snapfarm_worker.statements import Facts, Word, read_by

#: Rows up to which a table's content is compared, not only their number.
_COMPARED = 2_000
#: Bytes of a database whose rows are counted again once it is restored.
_COUNTED = 32 << 20
_MASK = (1 << 64) - 1
#: Statements of a test that are known not to read what was emptied.
_KNOWN = 1000
_VIRTUAL = re.compile(r"\s*CREATE\s+VIRTUAL\b", re.IGNORECASE)
#: Names that can be written in more than one way.
_ESCAPED = re.compile(r"[\"'`\]\[]")


class Residue(msgspec.Struct, frozen=True):
    """What one test left changed: lines for people, of rows and of the schema."""

    rows: tuple[str, ...] = ()
    schema: tuple[str, ...] = ()


class _Objects:
    """The schema of a ring: the definition of each object by type and name, in lower case."""

    def __init__(self, sql: Mapping[str, str] = MappingProxyType({})) -> None:
        self.sql = sql
        self.has_triggers = bool(self.of("trigger"))
        #: Whether statements change tables that they don't name, by triggers or foreign keys.
        self.acts = self.has_triggers or any(map(makes_reacting, sql.values()))
        #: The definitions of virtual tables.
        self.virtual = {
            name.partition(" ")[2]: text.lower()
            for name, text in sql.items()
            if _VIRTUAL.match(text)
        }
        #: By virtual table, the definitions of triggers that give orders to it.
        self.orders: dict[str, str] = {}
        for name, text in sql.items() if self.virtual and self.has_triggers else ():
            for ordered in ordered_by(text) if name.startswith("trigger ") else ():
                self.orders[ordered] = self.orders.get(ordered, "") + text.lower()
        #: Names by which statements read tables of other names.
        self.indirect = self.of("view") | self.virtual.keys()

    def of(self, kind: str) -> frozenset[str]:
        """Return the names of the objects of a type."""
        found = (name.partition(" ") for name in self.sql)
        return frozenset(name for of_type, _, name in found if of_type == kind)


class RingWatch:
    """One ring, as the sensors know it."""

    def __init__(self, ring: Ring, *, managed: bool = False) -> None:
        self.ring = ring
        #: Whether nothing that tests leave open is a leak.
        self.managed = managed
        #: Whether the present test's policy leaves what tests commit to later ones.
        self.wide = False
        #: Whether reads of members in the ring are of interest.
        self.suspicious = False
        #: What the present test has changed.
        self.changes = Changes()
        #: Texts of its reads; None where nobody wants to know.
        self.reading: set[str] | None = None
        #: Whether tests have made views or triggers: statements then touch what they don't name.
        self.indirect = False
        #: Whether tests have made foreign keys that change rows, which not all connections enforce.
        self.reacting = False
        #: Counts the schemas that statements had to be understood by.
        self.edition = 0
        #: Statements of the present test that read nothing which was emptied.
        self.known: set[str] = set()
        #: Of what was emptied, and of views; None where texts may have them in another spelling.
        self._names: tuple[str, ...] | None = None
        #: By table that had rows in the baseline and has none: the test that emptied it.
        self.emptied: dict[str, str] = {}
        #: By table or view of the baseline that is gone: the test that removed it.
        self.gone: dict[str, str] = {}
        #: By table or view whose definition is another one: the test that changed it.
        self.altered: dict[str, str] = {}
        #: Empty, but meant so by a fixture of wider scope.
        self._accepted: set[str] = set()
        self._counted: tuple[Manifest, dict[str, int]] | None = None
        self._resets = ring.resets
        self._version: int | None = None
        self._schema: int | None = None
        self._objects = _Objects()
        self._rows: dict[str, int] = {}
        #: Of each table that has changed since the baseline; None where it is too large.
        self._digests: dict[str, int | None] = {}

    @property
    def baseline(self) -> Manifest:
        """What tests begin with."""
        return self.ring.baseline

    def baseline_rows(self, table: str) -> int:
        """Return how many rows a table has in the baseline; the name in lower case."""
        return self._manifest_rows().get(table, 0)

    def _manifest_rows(self) -> dict[str, int]:
        manifest = self.baseline
        if self._counted is None or self._counted[0] is not manifest:
            rows = {name.lower(): rows for name, rows in manifest.rows.items()}
            self._counted = (manifest, rows)
        return self._counted[1]

    @property
    def tables_written(self) -> frozenset[str]:
        """The tables that statements of the present test changed, by all that is known of them."""
        named = self.changes.written()
        return named | self._rows_written() if self._acts else named

    @property
    def tables_read(self) -> frozenset[str]:
        """The tables that statements of the present test read, where reads are noted."""
        if self.reading is None:
            return frozenset()
        return frozenset[str]().union(*map(read_by, self.changes.texts | self.reading))

    # ------------------------------------------------------------ what statements do

    def explained_in_baseline(self, sql: str) -> Facts | None:
        """Return what a statement does in the baseline; None where it can't be prepared there."""
        return self.ring.ask_baseline(lambda conn: explained_by(conn, sql))

    def _explained_here(self, sql: str) -> Facts | None:
        return self.ring.ask(lambda conn: explained_by(conn, sql))

    @property
    def _asks(self) -> tuple[Ask, Ask]:
        """Who can tell what a statement did once the test is over."""
        return self.explained_in_baseline, self._explained_here

    @property
    def _acts(self) -> bool:
        """Whether statements change tables that they don't name, by triggers or foreign keys."""
        return self.wide and (self.indirect or self._objects.acts)

    @property
    def was_reset(self) -> bool:
        """Whether nothing that earlier tests left is there any more: the present one has reset it.

        What is noted of them is only forgotten when somebody looks at the tables again.
        """
        return self._resets != self.ring.resets

    def concerns(self, sql: str, word: Word) -> bool:
        """Tell whether a statement may read what an earlier test emptied."""
        if self.indirect or self._names is None:
            return True
        # Twenty times as fast as a regular expression of all names that looks for either case.
        if any(map(sql.lower().__contains__, self._names)):
            return True
        return word is not Word.READ and self._objects.has_triggers

    def rests_on(self, table: str, others: Iterable[str]) -> bool:
        """Tell whether a virtual table shows rows of others, which its definition then names."""
        definition = self._objects.virtual.get(table, "")
        return any(name in definition for name in others)

    def takes_orders(self, table: str, changed: Iterable[str]) -> bool:
        """Tell whether a change of others may give an order to a virtual table, by a trigger."""
        definitions = self._objects.orders.get(table, "")
        return any(name in definitions for name in changed)

    def learn(self, sql: str) -> None:
        """Note that a statement reads nothing that was emptied."""
        if len(self.known) < _KNOWN:
            self.known.add(sql)

    def _look_for(self) -> tuple[str, ...] | None:
        """Return the names of all through which what was emptied can be read."""
        names = {*self.emptied, *self._objects.indirect}
        return None if any(_ESCAPED.search(name) for name in names) else tuple(names)

    # ------------------------------------------------------------ the course of tests

    def begin(self, previous: str, *, wide: bool) -> None:
        """A test begins. What was changed since the one before it ended is nobody's."""
        self.wide = wide and self.ring.kind is not RingKind.PRIVATE
        self.changes.clear()
        if self.reading is not None:
            self.reading.clear()
        self.known.clear()
        if self.wide and self.ring.is_open:
            self._look_for_resets()
            if self._version is None:
                self._note_versions()
                self._objects = self._listed()
                if self.ring.is_dirty():
                    # What is not known to be the baseline may have been changed by anybody.
                    self._survey("code that ran before the first test", everything=True)
            elif self._changed():
                self._survey(f"code that ran between tests, after {previous}", everything=True)
        self.suspicious = bool(self.wide and self.emptied)
        if self.suspicious:
            self._names = self._look_for()

    def residue(self, test: str) -> Residue:
        """Return what the test has left since it began, or since this was asked."""
        if not self.wide or not self.ring.is_open:
            return Residue()
        self._look_for_resets()
        if not self._changed():
            return Residue()
        return self._survey(test, everything=False)

    def note_emptied(self, test: str) -> None:
        """Remember which tables the test has emptied, and nothing else that it left."""
        if not self.wide or not self.ring.is_open:
            return
        self._look_for_resets()
        if self._changed():
            self._note_versions()
            for name in sorted(self._written() or self._manifest_rows()):
                if self.baseline_rows(name):
                    self._note_rows(name, test)

    def accept(self) -> None:
        """Take what there is now as meant so: a fixture of wider scope has done it."""
        if not self.wide or not self.ring.is_open:
            return
        self._look_for_resets()
        if self._changed():
            self._survey("", everything=True)
            self._accepted |= self.emptied.keys()
            self.emptied.clear()
            self.gone.clear()
            self.altered.clear()

    def _look_for_resets(self) -> None:
        """Forget what was left before the last reset."""
        if self._resets == self.ring.resets:
            return
        self._resets = self.ring.resets
        self.emptied.clear()
        self.gone.clear()
        self.altered.clear()
        self._accepted.clear()
        self._rows.clear()
        self._digests.clear()
        self._version = self._schema = None
        self._objects = _Objects(self.ring.ask_baseline(_objects) or {})

    # ------------------------------------------------------------ looking

    def _changed(self) -> bool:
        version = self.ring.ask(_data_version)
        return version is not None and version != self._version

    def _note_versions(self) -> None:
        self._version = self.ring.ask(_data_version)
        self._schema = self.ring.schema_version()

    def _listed(self) -> _Objects:
        return _Objects(self.ring.ask(_objects) or {})

    def _survey(self, test: str, *, everything: bool) -> Residue:
        """Look at all tables, or at those that the test wrote to; tell what is different."""
        before, schema = self._objects, self._schema
        self._note_versions()
        changes: tuple[str, ...] = ()
        if schema != self._schema:
            self._objects = self._listed()
            changes = tuple(_schema_changes(before.sql, self._objects.sql))
            for name, sql in self._objects.sql.items():
                if before.sql.get(name, sql) != sql:
                    self.altered.setdefault(name.partition(" ")[2], test)
            everything = True
        tables = self._objects.of("table")
        names = {name.partition(" ")[2] for name in self._objects.sql}
        for known in self.baseline.tables:
            name = known.name.lower()
            if name not in names:
                self.gone.setdefault(name, test)
                self.emptied.pop(name, None)  # whoever makes it anew has made it empty
            else:
                self.gone.pop(name, None)
        written = self._written()
        if not everything and written:
            tables &= written
        rows = tuple(
            line
            for name in sorted(tables)
            if (line := self._table_change(name, test, written)) is not None
        )
        return Residue(rows, changes)

    def _written(self) -> frozenset[str]:
        """Return the tables that the test wrote to; empty where these can't be told."""
        if not self.changes.complete or any(map(changed_unseen, self.ring.members())):
            return frozenset()
        return self._rows_written()

    def _rows_written(self) -> frozenset[str]:
        tables = self._objects.of("table")
        written = self.changes.rows_written(self._asks, tables, acts=self._acts)
        return written.union(each for each in self._objects.virtual if self.rests_on(each, written))

    def _table_change(self, name: str, test: str, written: frozenset[str]) -> str | None:
        before = self._rows.get(name, self.baseline_rows(name))
        if name not in self._rows and name not in self._manifest_rows():
            # Those in which a virtual table keeps its rows are in no manifest.
            before = self.ring.ask_baseline(lambda conn: _count(conn, name)) or 0
        now = self._note_rows(name, test)
        if now is None:
            return None
        if now == before and name not in written:
            return None
        if name in self._digests:
            earlier = self._digests[name]
        else:
            small = now == before <= _COMPARED
            earlier = self.ring.ask_baseline(lambda conn: _digest(conn, name)) if small else None
        digest = self.ring.ask(lambda conn: _digest(conn, name)) if now <= _COMPARED else None
        self._digests[name] = digest
        if now != before:
            return f"{name}: {before} -> {now} rows ({now - before:+d})"
        if digest is None or earlier is None or digest == earlier:
            return None
        return f"{name}: {now} rows, some changed"

    def _note_rows(self, name: str, test: str) -> int | None:
        """Return how many rows a table has; None while it is locked, or where it is gone."""
        now = self.ring.ask(lambda conn: _count(conn, name))
        if now is None:
            return None
        self._rows[name] = now
        if now:
            self.emptied.pop(name, None)
            self._accepted.discard(name)
        elif self.baseline_rows(name) and name not in self._accepted:
            self.emptied.setdefault(name, test)
        return now


# ---------------------------------------------------------------- questions to the sentinel


def differences(ring: Ring) -> tuple[str, ...]:
    """Tell in which points a ring that was just restored is not what its manifest says."""
    manifest = ring.manifest
    found: list[str] = []

    def compare(what: str, said: object, sql: str) -> None:
        row = ring.ask(lambda conn: _row(conn, sql))
        if row is not None and row[0] != said:
            found.append(f"{what}: {row[0]} instead of {said}")

    compare("user_version", manifest.user_version, "PRAGMA user_version")
    compare("application_id", manifest.application_id, "PRAGMA application_id")
    compare("encoding", manifest.encoding, "PRAGMA encoding")
    compare("page size", manifest.page_size, "PRAGMA page_size")
    objects = ring.ask(_objects)
    if objects is not None:
        present = {name.partition(" ")[2] for name in objects}
        missing = [table for table in manifest.tables if table.name.lower() not in present]
        found += [f"{table.kind} {table.name!r} is missing" for table in missing]
        digest = ring.ask(lambda conn: schema_digest(conn.cursor()))
        if not missing and digest is not None and digest != manifest.schema_digest:
            found.append("the schema is another one")
        if manifest.size <= _COUNTED:
            for table in manifest.tables:
                if table.kind == "table" and table.rows is not None and table not in missing:
                    asked = f"SELECT count(*) FROM main.{quoted(table.name)}"
                    compare(f"rows of {table.name!r}", table.rows, asked)
    return tuple(found)


def _row(conn: sqlite3.Connection, sql: str) -> tuple[object, ...]:
    row: tuple[object, ...] = conn.execute(sql).fetchone()
    return row


def _data_version(conn: sqlite3.Connection) -> int:
    return int(str(_row(conn, "PRAGMA data_version")[0]))


def _count(conn: sqlite3.Connection, table: str) -> int:
    return int(str(_row(conn, f"SELECT count(*) FROM main.{quoted(table)}")[0]))


def _digest(conn: sqlite3.Connection, table: str) -> int:
    """Return a number that is the same for the same rows in any order, in this process."""
    columns = [
        quoted(str(name))
        for (name,) in conn.execute("SELECT name FROM pragma_table_info(?, 'main')", (table,))
    ]
    # As SQL literals, so that text which is no UTF-8 is no trouble.
    shown = ", ".join(f"quote({column})" for column in columns)
    total = 0
    for row in conn.execute(f"SELECT {shown} FROM main.{quoted(table)}"):
        total += hash(row)
    return total & _MASK


def _objects(conn: sqlite3.Connection) -> dict[str, str]:
    """Return the definition of each object of the schema by type and name, in lower case."""
    listed = conn.execute(
        "SELECT type || ' ' || lower(name), coalesce(sql, '') FROM main.sqlite_schema "
        "WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!'"
    )
    return {str(name): str(sql) for name, sql in listed}


def _schema_changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    changes = [f"new {name}" for name in now if name not in before]
    changes += [f"no more {name}" for name in before if name not in now]
    changes += [f"changed {name}" for name in now if before.get(name, now[name]) != now[name]]
    return sorted(changes)
