"""What sensors report."""

from __future__ import annotations

import contextlib
import gc
import re
import sqlite3
import sys
import threading
from collections.abc import Iterator

import pytest

from snapfarm_worker.anomaly import AnomalyKind, Severity
from snapfarm_worker.databases import Databases
from snapfarm_worker.members import member_of
from snapfarm_worker.ring import ResetPolicy, Ring, RingKind
from snapfarm_worker.tables import Tables
from snapfarm_worker.widefixtures import WideFixture
from support.sensor_rig import EMPTY_SCHEMA, SHARING, SNAPSHOT, Rig

#: From 3.13 on, freeing an open connection is a ResourceWarning.
LEAKS = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(params=SHARING)
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    rig = Rig(request.param)
    yield rig
    rig.databases.close()


# ---------------------------------------------------------------- leaving the ring


def test_deserialize_leaves_the_ring(rig: Rig) -> None:
    with contextlib.closing(rig.ring.connect()) as conn:
        conn.deserialize(EMPTY_SCHEMA)
        (found,) = rig.databases.anomalies()
    assert found.kind is AnomalyKind.LEFT_RING
    assert found.severity is Severity.ERROR
    assert found.test == "t.py::one"
    assert found.database == "default"
    assert any("test_deserialize_leaves_the_ring" in line for line in found.stack)
    assert rig.kinds() == [AnomalyKind.LEFT_RING]
    assert rig.end() == ()


def test_an_empty_table_read(rig: Rig) -> None:
    with contextlib.closing(rig.ring.connect()) as conn:
        conn.execute("SELECT * FROM orders").fetchall()
        conn.deserialize(EMPTY_SCHEMA)
        for _ in range(3):
            assert conn.execute("SELECT * FROM orders").fetchall() == []
        conn.cursor().execute("SELECT c.id FROM customers c").fetchall()
    _, orders, customers = rig.end()
    assert orders.kind is customers.kind is AnomalyKind.EMPTY_TABLE_READ
    assert (orders.table, customers.table) == ("orders", "customers")
    assert orders.sql == "SELECT * FROM orders"
    assert orders.count == 3
    assert "200 rows" in orders.message


def test_an_empty_table_read_through_a_view_a_script_and_with_callbacks(rig: Rig) -> None:
    asked: list[object] = []
    with contextlib.closing(rig.ring.connect()) as conn:
        conn.set_authorizer(lambda *args: asked.append(args) or 0)  # type: ignore[func-returns-value]  # None or 0
        conn.text_factory = bytes
        conn.row_factory = sqlite3.Row
        conn.deserialize(EMPTY_SCHEMA)
        conn.executescript("CREATE VIEW v AS SELECT id FROM customers; SELECT * FROM v;")
        assert not any("EXISTS" in str(each) for each in asked)
        assert asked
    assert rig.kinds() == [AnomalyKind.LEFT_RING, AnomalyKind.EMPTY_TABLE_READ]


def test_a_private_ring_tells_of_empty_reads_only() -> None:
    rig = Rig(RingKind.PRIVATE)
    with contextlib.closing(rig.ring.connect()) as conn:
        conn.deserialize(EMPTY_SCHEMA)
        conn.execute("SELECT * FROM orders").fetchall()
    assert rig.kinds() == [AnomalyKind.EMPTY_TABLE_READ]
    rig.databases.close()


def test_after_leaving_what_the_connection_deletes_is_its_own(rig: Rig) -> None:
    with contextlib.closing(rig.ring.connect()) as conn:
        conn.deserialize(rig.ring.snapshot().data)
        conn.execute("SELECT * FROM orders").fetchall()
        conn.execute("DELETE FROM orders WHERE id > 0")
        conn.execute("SELECT * FROM orders").fetchall()
        conn.execute("DROP TABLE pairs")
        with pytest.raises(sqlite3.OperationalError):
            conn.execute("SELECT * FROM pairs")
        conn.rollback()
    assert rig.kinds() == [AnomalyKind.LEFT_RING]


@pytest.mark.parametrize("policy", [ResetPolicy.TEST, ResetPolicy.MODULE])
def test_after_leaving_a_statement_that_was_prepared_before_is_known(policy: ResetPolicy) -> None:
    rig = Rig(RingKind.SHARED_CACHE, policy)
    sql = "DELETE FROM customers WHERE id = ?"
    with contextlib.closing(rig.ring.connect(isolation_level=None)) as conn:
        conn.execute("SELECT count(*) FROM pairs").fetchall()
        conn.executemany(sql, [(1000,)])
        conn.deserialize(EMPTY_SCHEMA)
        conn.executemany(sql, [])
        assert conn.execute("SELECT * FROM customers").fetchall() == []
    kinds = set(rig.kinds())
    rig.databases.close()
    assert AnomalyKind.LEFT_RING in kinds
    assert AnomalyKind.EMPTY_TABLE_READ not in kinds


def test_one_observation_is_told_for_each_cause() -> None:
    rig = Rig(RingKind.SHARED_CACHE, ResetPolicy.MODULE)
    with contextlib.closing(rig.ring.connect()) as conn:
        conn.execute("DELETE FROM orders")
        conn.commit()
        rig.end()
        conn.execute("SELECT * FROM orders").fetchall()
        conn.deserialize(EMPTY_SCHEMA)
        conn.execute("SELECT count(*) FROM orders").fetchall()
        found = [each for each in rig.databases.anomalies() if each.table == "orders"]
    rig.databases.close()
    assert [(each.polluter, each.count) for each in found] == [("t.py::one", 1), ("", 1)]


def test_deserialize_around_our_class_is_found_at_the_end(rig: Rig) -> None:
    conn = rig.ring.connect()
    sqlite3.Connection.deserialize(conn, EMPTY_SCHEMA)
    assert rig.kinds() == [AnomalyKind.LEFT_RING]
    assert rig.end() == ()
    conn.close()


def test_a_missing_table_and_column(rig: Rig) -> None:
    with contextlib.closing(rig.ring.connect()) as conn:
        conn.deserialize(EMPTY_SCHEMA)
        for sql in (
            "SELECT * FROM log",
            "SELECT * FROM main.totals",
            "SELECT total FROM orders",
            "INSERT INTO orders(total) VALUES (1)",
            "SELECT * FROM elsewhere",
        ):
            with pytest.raises(sqlite3.OperationalError):
                conn.execute(sql)
    left, *missing = rig.end()
    assert left.kind is AnomalyKind.LEFT_RING
    assert [(each.kind, each.table) for each in missing] == [
        (AnomalyKind.MISSING_TABLE, "log"),
        (AnomalyKind.MISSING_TABLE, "totals"),
        (AnomalyKind.MISSING_TABLE, "orders"),
    ]
    assert "column 'total'" in missing[-1].message
    assert missing[-1].count == 2


def test_a_table_that_an_earlier_test_dropped() -> None:
    rig = Rig(RingKind.SHARED_CACHE, ResetPolicy.NEVER)
    with contextlib.closing(rig.ring.connect()) as conn:
        conn.executescript("DROP TABLE log")
        with pytest.raises(sqlite3.OperationalError):
            conn.execute("SELECT * FROM log")
        assert rig.kinds() == [AnomalyKind.SCHEMA_CHANGE]
        with pytest.raises(sqlite3.OperationalError):
            conn.execute("SELECT * FROM log")
        (found,) = rig.end()
        assert (found.kind, found.polluter) == (AnomalyKind.MISSING_TABLE, "t.py::one")
    rig.databases.close()


# ---------------------------------------------------------------- locks and leaks


def test_a_lock_error_names_the_holder(rig: Rig) -> None:
    with (
        contextlib.closing(rig.ring.connect()) as holder,
        contextlib.closing(rig.ring.connect(timeout=0)) as conn,
    ):
        holder.execute("DELETE FROM orders")
        with pytest.raises(sqlite3.OperationalError):
            conn.execute("INSERT INTO orders(customer, total) VALUES (1, 1)")
        conn.rollback()
        holder.rollback()
    (found,) = rig.end()
    assert found.kind is AnomalyKind.LOCK_ERROR
    assert found.sql.startswith("INSERT INTO orders")
    assert "test_a_lock_error_names_the_holder" in found.message
    assert "MainThread" in found.message
    thread, since, begun, *stack = found.evidence
    assert thread.startswith("thread MainThread, connection opened at ")
    assert re.fullmatch(r"in a transaction for \d+\.\d+ s", since)
    assert begun == "begun by: DELETE FROM orders"
    assert "in test_a_lock_error_names_the_holder" in stack[0]


def test_a_leaked_transaction_is_named_and_ended(rig: Rig) -> None:
    conn = rig.ring.connect()
    conn.execute("DELETE FROM orders")
    (found,) = rig.end()
    assert found.kind is AnomalyKind.LEAKED_TRANSACTION
    assert any("test_a_leaked_transaction" in line for line in found.stack)
    assert conn.execute("SELECT count(*) FROM orders").fetchone() == (200,)
    conn.close()


def test_a_deferred_transaction_leaks_too(rig: Rig) -> None:
    conn = rig.ring.connect()
    conn.execute("BEGIN")
    assert rig.kinds() == [AnomalyKind.LEAKED_TRANSACTION]
    conn.close()


def test_a_transaction_on_a_wide_connection_is_the_tests_own(rig: Rig) -> None:
    with rig.databases.wide_fixture(WideFixture("module fixture 'wide'")):
        conn = rig.ring.connect()
    conn.execute("DELETE FROM orders")
    assert rig.kinds() == [AnomalyKind.LEAKED_TRANSACTION]
    conn.close()


def test_a_leaked_cursor(rig: Rig) -> None:
    conn = rig.ring.connect()
    cursor = conn.execute("SELECT * FROM orders")
    (found,) = rig.end()
    assert found.kind is AnomalyKind.LEAKED_CURSOR
    assert rig.ring.is_free()
    conn.close()
    del cursor


@pytest.mark.parametrize("kind", SHARING)
def test_a_cursor_that_is_left_where_nothing_is_reset_is_told_of_once(kind: RingKind) -> None:
    rig = Rig(kind, ResetPolicy.MODULE)
    with rig.databases.wide_fixture(WideFixture("module fixture 'wide'")):
        conn = rig.ring.connect()
        wide = conn.execute("SELECT id FROM customers")
    cursor = conn.execute("SELECT id FROM orders ORDER BY id")
    done = conn.execute("SELECT a FROM pairs LIMIT 0")
    (found,) = rig.end()
    assert (found.kind, found.sql) == (
        AnomalyKind.LEAKED_CURSOR,
        "SELECT id FROM orders ORDER BY id",
    )
    assert any("test_a_cursor_that_is_left" in line for line in found.stack)
    assert rig.end() == ()
    assert len(cursor.fetchall()) == 200
    assert len(wide.fetchall()) == 20
    assert done.fetchall() == []
    conn.close()
    rig.databases.close()


def test_a_wide_cursor_is_spared(rig: Rig) -> None:
    with rig.databases.wide_fixture(WideFixture("module fixture 'wide'")):
        conn = rig.ring.connect()
        cursor = conn.execute("SELECT id FROM orders ORDER BY id")
        cursor.fetchone()
    assert rig.end() == ()
    assert rig.end() == ()
    assert cursor.fetchone() == (2,)
    conn.close()


@LEAKS
def test_a_connection_that_only_garbage_collection_closes(rig: Rig) -> None:
    def leak() -> None:
        rig.ring.connect().execute("SELECT 1").fetchall()

    gc.collect()
    leak()
    (found,) = rig.end()
    assert found.kind is AnomalyKind.LEAKED_CONNECTION
    assert found.severity is Severity.WARNING
    assert "in leak" in found.message
    assert rig.end() == ()


def test_a_wide_transaction_in_the_way_of_a_reset(rig: Rig) -> None:
    with rig.databases.wide_fixture(WideFixture("module fixture 'wide'")):
        outer = rig.ring.connect()
        outer.execute("BEGIN")
        outer.execute("SELECT * FROM customers").fetchall()
    if rig.ring.kind is RingKind.SHARED_CACHE:
        with contextlib.closing(rig.ring.connect()) as conn, conn:
            conn.execute("DELETE FROM orders")
    else:  # nobody can commit beside a reader, except itself
        outer.execute("DELETE FROM orders")
        outer.commit()
        rig.databases.begin_test("t.py::one")
        outer.execute("DELETE FROM customers")
        rig.databases.begin_test("t.py::one")
    (found,) = rig.end()
    assert found.kind is AnomalyKind.RESET_BLOCKED
    assert "test_a_wide_transaction" in found.message
    with contextlib.closing(sqlite3.connect(rig.ring.uri)) as conn:
        assert conn.execute("SELECT count(*) FROM orders").fetchone() == (200,)
    outer.execute("SELECT * FROM orders").fetchall()
    (stale,) = rig.end()
    assert stale.kind is AnomalyKind.RESET_BLOCKED
    assert stale.severity is Severity.WARNING
    outer.close()


def test_another_threads_transaction_can_not_be_ended(rig: Rig) -> None:
    began, done = threading.Event(), threading.Event()

    def work() -> None:
        with contextlib.closing(rig.ring.connect()) as conn:
            conn.execute("DELETE FROM orders")
            began.set()
            done.wait(30)

    thread = threading.Thread(target=work, name="worker-7")
    thread.start()
    began.wait(30)
    leaked, blocked, running = rig.end()
    done.set()
    thread.join()
    assert running.kind is AnomalyKind.LEAKED_THREAD
    assert any("test_another_threads_transaction" in line for line in running.stack)
    assert leaked.kind is AnomalyKind.LEAKED_TRANSACTION
    assert leaked.thread == "worker-7"
    assert blocked.kind is AnomalyKind.RESET_BLOCKED
    with contextlib.closing(sqlite3.connect(rig.ring.uri)) as conn:
        assert conn.execute("SELECT count(*) FROM orders").fetchone() == (200,)
    assert rig.end() == ()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="autocommit= is new in 3.12")
def test_autocommit_false_is_no_leak_but_is_reset(rig: Rig) -> None:
    with contextlib.closing(rig.ring.connect(autocommit=False)) as conn:
        assert conn.in_transaction
        assert rig.end() == ()
        conn.execute("DELETE FROM orders")
        assert rig.end() == ()
        assert conn.execute("SELECT count(*) FROM orders").fetchone() == (200,)


# ---------------------------------------------------------------- sensors that fail


def test_a_sensor_that_fails_is_off_after_one_warning(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise LookupError("a bug")

    monkeypatch.setattr(Tables, "missing", broken)
    with contextlib.closing(rig.ring.connect()) as conn:
        with (
            pytest.warns(RuntimeWarning, match="'failed' failed and is off") as caught,
            pytest.raises(sqlite3.OperationalError),
        ):
            conn.execute("SELECT * FROM nowhere")
        assert len(caught) == 1
        with pytest.raises(sqlite3.OperationalError):
            conn.execute("SELECT * FROM nowhere")


def test_its_warning_never_becomes_the_programs_error(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise LookupError("a bug")

    monkeypatch.setattr(Tables, "missing", broken)
    with (
        contextlib.closing(rig.ring.connect()) as conn,
        pytest.raises(sqlite3.OperationalError, match="nowhere"),
    ):
        conn.execute("SELECT * FROM nowhere")
    assert "a bug" in caplog.text


def test_without_sensors_resets_still_work() -> None:
    databases = Databases(policy=ResetPolicy.TEST, sensors=False)
    ring = Ring.restore(SNAPSHOT)
    databases.add(ring)
    databases.begin_test("one")
    conn = ring.connect()
    conn.deserialize(EMPTY_SCHEMA)
    other = ring.connect()
    other.execute("DELETE FROM orders")
    ended = databases.end_test("one", None, "test")
    assert ended.anomalies == databases.anomalies() == ()
    assert ended.resets["default"].blockers
    assert other.execute("SELECT count(*) FROM orders").fetchone() == (200,)
    member = member_of(conn)
    assert member is not None
    assert member.left
    other.close()
    conn.close()
    databases.close()
