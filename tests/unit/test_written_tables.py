"""Which tables a test wrote to, as its attempts in the history have it."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from snapfarm_worker.anomaly import AnomalyKind
from snapfarm_worker.databases import Databases
from snapfarm_worker.inventory import RingWatch
from snapfarm_worker.ring import ResetPolicy, Ring, RingKind
from snapfarm_worker.snapshot import take
from snapfarm_worker.statements import read_by, written_by
from support.corpus.empty_reads import sql
from support.corpus.stage import Stage, opened
from support.sensor_rig import SHARING, SNAPSHOT, Rig


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        ("INSERT INTO orders VALUES (1)", {"orders"}),
        ("insert or ignore into main . Orders (id) select id from customers", {"orders"}),
        ('REPLACE INTO "two words" VALUES (1)', {"two words"}),
        ('DELETE FROM "main"."orders"; UPDATE`main`. empty SET x = 1', {"orders", "empty"}),
        ('INSERT INTO"orders"(id) VALUES (1); UPDATE"pairs"SET a = 1', {"orders", "pairs"}),
        ("UPDATE OR FAIL [orders] SET id = 1", {"orders"}),
        ("DELETE FROM orders WHERE id IN (SELECT customer FROM customers)", {"orders"}),
        ("INSERT INTO orders VALUES (1) ON CONFLICT DO UPDATE SET id = 2", {"orders"}),
        ("WITH x AS (SELECT 1) INSERT INTO orders SELECT * FROM x", {"orders"}),
        ("CREATE TABLE IF NOT EXISTS extra (id REFERENCES t ON DELETE CASCADE)", {"extra"}),
        (
            "DROP TABLE a; ALTER TABLE b ADD c; -- DELETE FROM d\nUPDATE e SET x = 1",
            {"a", "b", "e"},
        ),
        ("SELECT 'DELETE FROM orders' /* INSERT INTO x */", set()),
        ("BEGIN IMMEDIATE", set()),
    ],
)
def test_a_text_names_what_it_changes(text: str, tables: set[str]) -> None:
    assert written_by(text) == tables


def test_a_text_names_what_it_reads() -> None:
    text = "SELECT * FROM main.orders o JOIN `Customers` c ON c.id = o.customer -- FROM nobody"
    assert read_by(text) == {"orders", "customers"}
    assert read_by('SELECT * FROM"main"."orders" JOIN[pairs]') == {"orders", "pairs"}


@pytest.mark.parametrize("kind", SHARING)
def test_each_test_has_the_tables_that_it_wrote_to(kind: RingKind) -> None:
    rig = Rig(kind)
    with contextlib.closing(rig.databases):
        with contextlib.closing(rig.ring.connect()) as conn:
            conn.execute("SELECT * FROM customers").fetchall()
            conn.execute("DELETE FROM orders")
            conn.commit()
            conn.executemany("UPDATE customers SET name = ?", [("x",)])
            conn.rollback()
        assert rig.databases.end_test("t.py::one", None, "test").written == (
            "default.customers", "default.orders",
        )  # fmt: skip
        rig.databases.begin_test("t.py::two")
        assert rig.databases.end_test("t.py::two", None, "test").written == ()


def test_what_triggers_write_is_known_where_tests_share_what_they_do() -> None:
    rig = Rig(RingKind.SHARED_CACHE, ResetPolicy.NEVER)
    with contextlib.closing(rig.databases):
        with contextlib.closing(rig.ring.connect()) as conn:
            conn.execute(
                "CREATE TRIGGER gone AFTER DELETE ON orders BEGIN DELETE FROM customers; END"
            )
            conn.execute("DELETE FROM orders")
            conn.commit()
        written = rig.databases.end_test("t.py::one", None, "test").written
    assert {"default.customers", "default.orders"} <= set(written)


#: Ways to name a table that only SQLite understands, or that are written rarely.
SPELT = [
    "orders", '"main"."orders"', "[main] . [ORDERS]", "`main`.orders", "'orders'", '"odd ""n"""',
    "ord$ers",
]  # fmt: skip


@pytest.mark.parametrize("spelt", SPELT)
def test_what_a_test_leaves_is_found_however_it_names_the_table(spelt: str) -> None:
    with contextlib.closing(sqlite3.Connection(":memory:", isolation_level=None)) as conn:
        for name in ("orders", '"odd ""n"""', "ord$ers", "other"):
            conn.execute(f"CREATE TABLE {name}(x)")
            conn.execute(f"INSERT INTO {name} VALUES (1)")
        snapshot = take(conn, "default")
    stage = Stage(ResetPolicy.NEVER, snapshot=snapshot)
    with contextlib.closing(stage):
        (changed,) = stage.run(sql("INSERT INTO other VALUES (2)", f"UPDATE {spelt} SET x = 2"))
        assert [line.endswith("1 rows, some changed") for line in changed.evidence].count(True) == 1
        (emptied,) = stage.run(sql("INSERT INTO other VALUES (3)", f"DELETE FROM {spelt}"))
        assert [line.endswith("1 -> 0 rows (-1)") for line in emptied.evidence].count(True) == 1
        (read,) = stage.run(sql(f"SELECT * FROM {spelt}"))
        assert (read.kind, read.polluter) == (AnomalyKind.EMPTY_TABLE_READ, "t.py::2")


def test_what_a_cursor_of_the_programs_own_leaves_is_found_as_well() -> None:
    def program(stage: Stage) -> None:
        with opened(stage) as conn, opened(stage) as other:
            sqlite3.Cursor(conn).execute("DELETE FROM pairs")
            conn.commit()
            sql("INSERT INTO empty VALUES (1)")(stage)
            assert other.execute("SELECT 1").fetchone() == (1,)

    stage = Stage(ResetPolicy.NEVER)
    with contextlib.closing(stage):
        (found,) = stage.run(program)
        assert found.evidence == ("empty: 0 -> 1 rows (+1)", "pairs: 1 -> 0 rows (-1)")


def test_what_a_virtual_table_is_made_of_is_no_change() -> None:
    with contextlib.closing(sqlite3.Connection(":memory:", isolation_level=None)) as conn:
        conn.execute("CREATE VIRTUAL TABLE notes USING fts5(text)")
        conn.execute("INSERT INTO notes VALUES ('one')")
        snapshot = take(conn, "default")
    stage = Stage(ResetPolicy.NEVER, snapshot=snapshot)
    with contextlib.closing(stage):
        # A new table has all be looked at.
        found = stage.run(sql("CREATE TABLE mine(x)"))
        assert [each.kind for each in found] == [AnomalyKind.SCHEMA_CHANGE]


def test_without_sensors_nothing_is_known() -> None:
    databases = Databases(policy=ResetPolicy.TEST, sensors=False)
    with contextlib.closing(databases):
        ring = Ring.restore(SNAPSHOT, kind=RingKind.SHARED_CACHE)
        databases.add(ring)
        databases.begin_test("t.py::one")
        with contextlib.closing(ring.connect()) as conn:
            conn.execute("DELETE FROM orders")
            conn.commit()
        assert databases.end_test("t.py::one", None, "test").written == ()


def test_reads_are_noted_only_where_they_are_asked_for() -> None:
    rig = Rig(RingKind.SHARED_CACHE)
    with contextlib.closing(rig.databases):
        for expected in ((), ("default.customers", "default.orders")):
            with contextlib.closing(rig.ring.connect()) as conn:
                conn.execute("SELECT * FROM customers").fetchall()
                conn.execute("DELETE FROM orders")
            assert rig.databases.end_test("t.py::one", None, "test").read == expected
            rig.databases.note_reads()
            rig.databases.begin_test("t.py::one")
        assert rig.databases.end_test("t.py::one", None, "test").read == ()


def test_a_failure_of_it_is_a_warning_and_breaks_no_test(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(RingKind.SHARED_CACHE)

    def fails(_watch: RingWatch) -> frozenset[str]:
        raise KeyError("broken")

    monkeypatch.setattr(RingWatch, "tables_written", property(fails))
    with contextlib.closing(rig.databases):
        with pytest.warns(match="the sensor 'tables' failed and is off from now on"):
            assert rig.databases.end_test("t.py::one", None, "test").written == ()
        rig.databases.begin_test("t.py::two")
        assert rig.databases.end_test("t.py::two", None, "test").written == ()
