"""What sensors are made of, and that they are never in the way."""

from __future__ import annotations

import _thread
import collections
import contextlib
import functools
import gc
import operator
import sqlite3
import subprocess
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from sqlite3 import connect as sqlite_connect

import pytest

from snapfarm_worker import connections, sqlscript
from snapfarm_worker.anomaly import AnomalyKind, Level
from snapfarm_worker.changes import Changes
from snapfarm_worker.databases import Databases
from snapfarm_worker.inventory import RingWatch
from snapfarm_worker.members import member_of
from snapfarm_worker.ring import ResetPolicy, Ring, RingKind
from snapfarm_worker.statements import (
    Facts,
    Recording,
    Removals,
    Word,
    named,
    read_uncommitted,
    word_of,
)
from snapfarm_worker.transactions import Transactions
from support.sensor_rig import SNAPSHOT, Rig


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("SELECT 1", Word.READ),
        ("select 1", Word.READ),
        ("Select 1", Word.READ),
        ("  -- DELETE\n /* x */ SELECT 1", Word.READ),
        ("VALUES (1)", Word.READ),
        ("WITH a AS (SELECT 1) SELECT * FROM a", Word.READ),
        ("WITH a AS (SELECT 1) DELETE FROM b", Word.WRITE),
        ("INSERT INTO a VALUES (1)", Word.WRITE),
        ("replace into a values (1)", Word.WRITE),
        ("DELETE\nFROM a", Word.WRITE),
        ("DROP TABLE a", Word.SCHEMA),
        ("SAVEPOINT a", Word.BEGIN),
        ("END", Word.COMMIT),
        ("RELEASE a", Word.COMMIT),
        ("ROLLBACK", Word.ROLLBACK),
        ("PRAGMA user_version", Word.OTHER),
        ("", Word.OTHER),
        ("SELECTED", Word.OTHER),
    ],
)
def test_the_sort_of_a_statement(sql: str, word: Word) -> None:
    assert word_of(sql) is word
    assert word_of(sql) is word


@pytest.mark.parametrize(
    ("sql", "facts"),
    [
        ("DROP TABLE a", Facts(removes=frozenset("a"), writes=frozenset("a"))),
        ("drop view if exists main.A", Facts(removes=frozenset("a"), writes=frozenset("a"))),
        ('ALTER TABLE "x ""y" RENAME TO z', Facts(removes={'x "y'}, writes={'x "y'})),  # type: ignore[arg-type]  # equal to frozen ones
        ('CREATE TABLE"main"."b"(c)', Facts(creates=frozenset("b"))),
        ("CREATE TABLE [b](c)", Facts(creates=frozenset("b"))),
        ("CREATE VIRTUAL TABLE IF NOT EXISTS b USING fts5(c)", Facts(creates=frozenset("b"))),
        ("DROP TABLE temp.a", Facts()),
        ("CREATE INDEX a ON b(c)", Facts()),
    ],
)
def test_what_a_change_of_the_schema_names(sql: str, facts: Facts) -> None:
    assert named(sql) == facts


def test_sweeping_an_empty_table_removes_nothing() -> None:
    removals = Removals()
    sweeping = Facts(sweeps=frozenset({"orders"}))
    removals.take(sweeping, "")
    assert removals.tables == set()
    removals.take(Facts(fills=frozenset({"orders"})), "")
    removals.take(sweeping, "")
    assert removals.tables == {"orders"}
    removals.take(Facts(creates=frozenset({"new"})), "CREATE TABLE IF NOT EXISTS new(x)")
    assert removals.tables == {"orders"}
    removals.take(Facts(creates=frozenset({"new"})), "CREATE TABLE new(x)")
    assert removals.tables == {"orders", "new"}
    removals.clear()
    removals.take(sweeping, "")
    assert removals.tables == set()


def test_what_was_removed_is_found_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    split = sqlscript.split

    def noting(text: str) -> Iterator[sqlscript.Statement]:
        asked.append(text)
        return split(text)

    monkeypatch.setattr(sqlscript, "split", noting)
    changes = Changes()
    changes.note("DROP TABLE a")
    assert changes.removed([named]) == frozenset({"a"})
    assert changes.removed([named]) == frozenset({"a"})
    assert asked == ["DROP TABLE a"]
    changes.note("DROP TABLE b")
    assert changes.removed([named]) == frozenset({"a", "b"})
    changes.clear()
    changes.note("DROP TABLE c")
    changes.note("DROP TABLE b")
    assert changes.removed([named]) == frozenset({"b", "c"})


def test_what_sets_read_uncommitted() -> None:
    assert read_uncommitted("PRAGMA read_uncommitted = 1")
    assert read_uncommitted("pragma main.READ_UNCOMMITTED(ON)")
    assert read_uncommitted("PRAGMA read_uncommitted=0") is False
    assert read_uncommitted("PRAGMA read_uncommitted") is None


def test_ten_thousand_connections() -> None:
    rig = Rig(RingKind.SHARED_CACHE, ResetPolicy.MODULE)
    for _ in range(10_000):
        conn = rig.ring.connect()
        conn.execute("SELECT 1")
        conn.close()
    del conn
    assert rig.ring.members() == []
    assert rig.end() == ()
    rig.databases.close()


@pytest.mark.parametrize("policy", [ResetPolicy.TEST, ResetPolicy.NEVER])
def test_no_connection_is_kept_alive(policy: ResetPolicy) -> None:
    rig = Rig(RingKind.SHARED_CACHE, policy)
    misspelt = rig.ring.uri.replace("default", "defualt")
    kept = [
        rig.ring.connect(),
        sqlite3.connect(":memory:"),
        sqlite3.connect(misspelt, uri=True),
    ]
    with contextlib.suppress(sqlite3.OperationalError):
        kept[1].execute("SELECT * FROM orders")
    kept[0].execute("DELETE FROM orders")
    kept[0].executescript("SELECT * FROM orders")
    alive = [weakref.ref(conn) for conn in kept]
    for conn in kept:
        conn.close()
    del conn
    kept.clear()
    gc.collect()
    assert [ref() for ref in alive] == [None, None, None]
    rig.end()
    rig.databases.close()


def test_a_sensor_for_statements_that_fails_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise LookupError("a bug")

    rig = Rig(RingKind.SHARED_CACHE)
    monkeypatch.setattr(Transactions, "follow", broken)
    with contextlib.closing(rig.ring.connect()) as conn:
        with pytest.warns(RuntimeWarning, match="'executed' failed and is off") as caught:
            assert conn.execute("SELECT count(*) FROM orders").fetchone() == (200,)
        assert len(caught) == 1
        assert conn.execute("SELECT count(*) FROM orders").fetchone() == (200,)
    assert rig.end() == ()
    rig.databases.close()


def test_a_statement_that_no_python_code_has_called() -> None:
    rig = Rig(RingKind.SHARED_CACHE)
    done = threading.Event()
    conn = rig.ring.connect(check_same_thread=False)
    with contextlib.closing(conn):
        reads = functools.partial(conn.execute, "SELECT * FROM pairs")
        steps: tuple[Callable[[], object], ...] = (reads, done.set)
        call: Callable[[Callable[[], object]], object] = operator.call
        # A thread whose stack has no frame but those of what it calls.
        _thread.start_new_thread(list, (map(call, steps),))
        assert done.wait(30)
    assert switched_off(rig) == set()
    rig.databases.close()


def test_a_reset_while_another_thread_finds_a_table_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = RingWatch.explained_in_baseline

    def resets_first(watch: RingWatch, sql: str) -> Facts | None:
        watch.emptied.clear()
        return asked(watch, sql)

    rig = Rig(RingKind.SHARED_CACHE, ResetPolicy.NEVER)
    with contextlib.closing(rig.ring.connect()) as conn:
        # 1. A test empties a table.
        conn.execute("DELETE FROM orders")
        conn.commit()
        rig.end()
        # 2. A thread finds it empty, 3. which is over before it is known who has emptied it.
        monkeypatch.setattr(RingWatch, "explained_in_baseline", resets_first)
        conn.execute("INSERT INTO empty VALUES (1)")
        assert conn.execute("SELECT * FROM orders").fetchall() == []
        conn.rollback()
    assert rig.kinds() == []
    assert switched_off(rig) == set()
    rig.databases.close()


class Awaited(collections.deque[str]):
    """The last statements of a connection, whose thread stops before the first is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.executed, self.go_on = threading.Event(), threading.Event()

    def append(self, sql: str, /) -> None:
        self.executed.set()
        assert self.go_on.wait(30)
        super().append(sql)


def awaited(conn: sqlite3.Connection) -> Awaited:
    """Let the next statement of a connection be executed, but not noted, until told so."""
    member = member_of(conn)
    assert member is not None
    recent = member.recent = Awaited()
    return recent


@pytest.mark.parametrize("through", ["connection", "cursor"])
def test_a_removal_whose_thread_has_not_come_to_tell_of_it(through: str) -> None:
    rig = Rig(RingKind.MEMDB, ResetPolicy.NEVER)
    empty(rig)
    other = rig.ring.connect(isolation_level=None, check_same_thread=False)
    with contextlib.closing(rig.ring.connect()) as conn, contextlib.closing(other):
        other.execute("INSERT INTO orders(customer, total) VALUES (1, 1)")
        recent = awaited(other)
        executes = other if through == "connection" else other.cursor()
        thread = threading.Thread(target=executes.execute, args=("DELETE FROM orders",))
        thread.start()
        assert recent.executed.wait(30)
        assert conn.execute("SELECT * FROM orders").fetchall() == []
        recent.go_on.set()
        thread.join()
    assert AnomalyKind.EMPTY_TABLE_READ not in rig.kinds()
    assert switched_off(rig) == set()
    rig.databases.close()


def test_what_another_thread_reads_meanwhile_is_no_excuse() -> None:
    rig = Rig(RingKind.MEMDB, ResetPolicy.NEVER)
    empty(rig)
    other = rig.ring.connect(check_same_thread=False)
    with contextlib.closing(rig.ring.connect()) as conn, contextlib.closing(other):
        recent = awaited(other)
        asked = "SELECT count(*) FROM customers"
        thread = threading.Thread(target=other.execute, args=(asked,))
        thread.start()
        assert recent.executed.wait(30)
        assert conn.execute("SELECT * FROM orders").fetchall() == []
        recent.go_on.set()
        thread.join()
    assert rig.kinds() == [AnomalyKind.EMPTY_TABLE_READ]
    rig.databases.close()


def test_an_authorizer_of_ours_stays_no_longer_than_a_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The program's statements are prepared without it: see `questions._Uncollected`."""
    told: list[tuple[object, ...]] = []
    theirs: list[tuple[object, ...]] = []

    def authorizer(*call: object) -> int:
        theirs.append(call)
        return sqlite3.SQLITE_OK

    rig = Rig(RingKind.SHARED_CACHE, ResetPolicy.NEVER)
    empty(rig)
    with contextlib.closing(rig.ring.connect()) as conn:
        conn.set_authorizer(authorizer)
        assert conn.execute("SELECT * FROM orders").fetchall() == []
        theirs.clear()
        monkeypatch.setattr(Recording, "note", lambda _, *call: told.append(call))
        conn.execute("SELECT name FROM customers").fetchall()
    assert told == []
    assert (sqlite3.SQLITE_READ, "customers", "name", "main", None) in theirs
    assert rig.kinds() == [AnomalyKind.EMPTY_TABLE_READ]
    rig.databases.close()


def empty(rig: Rig) -> None:
    """Let a test empty a table for those after it."""
    with contextlib.closing(rig.ring.connect()) as conn:
        conn.execute("DELETE FROM orders")
        conn.commit()
    rig.end()


def switched_off(rig: Rig) -> set[str]:
    sensors = rig.databases._sensors
    assert sensors is not None
    return sensors.switches.off


def test_who_imported_connect_before_gets_it_back() -> None:
    plain = connections.original_connect
    module = types.ModuleType("early_importer")
    module.opens = plain  # type: ignore[attr-defined]  # a made-up module
    sys.modules["early_importer"] = module
    start, popen = threading.Thread.start, subprocess.Popen.__init__
    try:
        rig = Rig(RingKind.SHARED_CACHE)
        assert vars(module)["opens"] is sqlite3.connect is not plain
        with contextlib.closing(vars(module)["opens"](rig.ring.uri)) as conn:
            assert conn.farm_member.test == "t.py::one"
        assert threading.Thread.start is not start
        rig.databases.close()
        assert vars(module)["opens"] is plain
        assert threading.Thread.start is start
        assert subprocess.Popen.__init__ is popen
    finally:
        del sys.modules["early_importer"]
    assert sqlite_connect is connections.original_connect


def test_levels() -> None:
    for level in Level:
        databases = Databases(policy=ResetPolicy.TEST, sensors=level)
        databases.add(Ring.restore(SNAPSHOT))
        databases.begin_test("one")
        with contextlib.closing(databases.get().connect()) as conn:
            assert conn.farm_member.alert is (level is Level.FULL)  # type: ignore[attr-defined]  # a RingConnection
            conn.execute("SELECT * FROM orders")
        databases.end_test("one", None, "test")
        databases.close()


def test_nothing_is_collected_while_sqlite_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    # SQLite holds the mutex of the shared cache meanwhile, which freeing a statement may want.
    seen: list[bool] = []
    note = Recording.note

    def noting(self: Recording, *told: object) -> None:
        seen.append(gc.isenabled())
        note(self, *told)  # type: ignore[arg-type]  # as sqlite3 says it

    monkeypatch.setattr(Recording, "note", noting)
    rig = Rig(RingKind.SHARED_CACHE, ResetPolicy.NEVER)
    with contextlib.closing(rig.databases):
        with contextlib.closing(rig.ring.connect()) as conn:
            conn.execute("DELETE FROM orders")
            conn.commit()
        rig.end()
        with contextlib.closing(rig.ring.connect()) as conn:
            assert conn.execute("SELECT count(*) FROM orders").fetchone() == (0,)
        assert [each.kind for each in rig.end()] == [AnomalyKind.EMPTY_TABLE_READ]
    assert seen
    assert not any(seen)
    assert gc.isenabled()
