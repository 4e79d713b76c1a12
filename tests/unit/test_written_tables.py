"""Which tables a test wrote to, as its attempts in the history have it."""

from __future__ import annotations

import contextlib

import pytest

from snapfarm_worker.databases import Databases
from snapfarm_worker.inventory import RingWatch
from snapfarm_worker.ring import ResetPolicy, Ring, RingKind
from snapfarm_worker.statements import read_by, written_by
from support.sensor_rig import SHARING, SNAPSHOT, Rig


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("INSERT INTO orders VALUES (1)", {"orders"}),
        ("insert or ignore into main . Orders (id) select id from customers", {"orders"}),
        ('REPLACE INTO "two words" VALUES (1)', {"two words"}),
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
def test_a_text_names_what_it_changes(sql: str, tables: set[str]) -> None:
    assert written_by(sql) == tables


def test_a_text_names_what_it_reads() -> None:
    sql = "SELECT * FROM main.orders o JOIN `Customers` c ON c.id = o.customer -- FROM nobody"
    assert read_by(sql) == {"orders", "customers"}


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
