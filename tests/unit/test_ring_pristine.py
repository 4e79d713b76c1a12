"""Whatever a test leaves behind, the next one starts pristine, and nobody else is blamed."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import threading
from collections.abc import Iterator

import pytest

from snapfarm_worker import connections
from snapfarm_worker.anomaly import AnomalyKind
from snapfarm_worker.databases import Databases
from snapfarm_worker.ring import ResetPolicy, Ring, RingKind
from snapfarm_worker.widefixtures import WideFixture
from support.golden import ORDERS, golden

SHARING = [RingKind.SHARED_CACHE, RingKind.MEMDB]


@pytest.fixture(params=list(RingKind))
def databases(request: pytest.FixtureRequest) -> Iterator[Databases]:
    databases = Databases(policy=ResetPolicy.TEST, sensors=True)
    databases.add(Ring.restore(golden(), kind=request.param))
    yield databases
    databases.close()


@pytest.fixture(params=SHARING)
def ring(request: pytest.FixtureRequest) -> Iterator[Ring]:
    with Ring.restore(golden(), kind=request.param) as ring:
        yield ring


def orders(conn: sqlite3.Connection) -> int:
    return int(conn.execute("SELECT count(*) FROM orders").fetchone()[0])


def orders_in(ring: Ring) -> int:
    with contextlib.closing(ring.connect(timeout=0)) as conn:
        return orders(conn)


# ---------------------------------------------------------------- what leaves no version behind


@pytest.mark.parametrize("end", ["ROLLBACK", ""])
def test_without_a_journal_what_is_rolled_back_stays_until_the_reset(ring: Ring, end: str) -> None:
    with contextlib.closing(ring.connect(isolation_level=None)) as conn:
        conn.execute("PRAGMA journal_mode = OFF")
        conn.execute("BEGIN")
        conn.execute("DELETE FROM orders")
        conn.execute(end)
        ring.reset()
        assert orders(conn) == ORDERS
    assert orders_in(ring) == ORDERS


# ---------------------------------------------------------------- what damages the database


def test_a_memdb_that_the_sentinel_can_not_open_any_more_is_replaced() -> None:
    with Ring.restore(golden(), kind=RingKind.MEMDB) as ring:
        with contextlib.closing(ring.connect()) as conn:
            conn.execute("PRAGMA locking_mode = EXCLUSIVE")
            conn.execute("PRAGMA journal_mode = WAL")
            conn.execute("DELETE FROM orders")
            conn.commit()
        ring.mark()
        assert ring.reset().tier == "retired"
        assert orders_in(ring) == ORDERS


def test_a_schema_that_does_not_parse_any_more_is_replaced(ring: Ring) -> None:
    with contextlib.closing(ring.connect(isolation_level=None)) as conn:
        conn.execute("PRAGMA writable_schema = ON")
        conn.execute("UPDATE sqlite_schema SET sql = 'nonsense'")
        conn.execute("PRAGMA schema_version = 4711")
    ring.schema_version()
    ring.mark()
    ring.reset()
    assert orders_in(ring) == ORDERS


# ---------------------------------------------------------------- who holds a lock


@pytest.mark.parametrize("policy", [ResetPolicy.MODULE, ResetPolicy.SESSION])
def test_what_a_test_of_the_module_left_is_ended_with_the_module(
    databases: Databases, policy: ResetPolicy
) -> None:
    ring = databases.get()
    databases.begin_test("one")
    leaking = ring.connect()
    leaking.execute("DELETE FROM orders")
    found = databases.end_test("one", policy, "test").anomalies
    assert [each.kind for each in found] == [AnomalyKind.LEAKED_TRANSACTION]
    databases.begin_test("two")
    assert databases.end_test("two", policy, "session").anomalies == ()
    assert not leaking.in_transaction
    assert orders_in(ring) == ORDERS
    leaking.close()


def test_what_a_wider_fixture_began_outlives_the_module(databases: Databases) -> None:
    ring = databases.get()
    databases.begin_test("one")
    with databases.wide_fixture(WideFixture("module fixture 'wide'")):
        wide = ring.connect()
        wide.execute("INSERT INTO empty VALUES (1)")
    databases.end_test("one", ResetPolicy.MODULE, "test")
    databases.begin_test("two")
    assert databases.end_test("two", ResetPolicy.MODULE, "module").anomalies == ()
    assert wide.in_transaction
    wide.close()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="autocommit= is new in 3.12")
def test_an_uncommitted_write_of_another_thread_is_not_overlooked(ring: Ring) -> None:
    """With `autocommit=False` a transaction says nothing, so that only the lock tells of it."""
    written, end = threading.Event(), threading.Event()

    def write() -> None:
        with contextlib.closing(ring.connect(autocommit=False)) as conn:
            conn.execute("DELETE FROM orders")
            written.set()
            end.wait(60)
            conn.commit()

    thread = threading.Thread(target=write)
    thread.start()
    assert written.wait(60)
    own = ring.connect(isolation_level=None)
    own.execute("BEGIN")
    try:
        assert ring.reset().tier == "retired"
    finally:
        end.set()
        thread.join()
    assert orders_in(ring) == ORDERS
    own.close()


def test_a_proxy_that_refuses_to_tell_its_class_is_no_cursor(ring: Ring) -> None:
    class Proxy:
        def __init__(self, conn: sqlite3.Connection) -> None:
            self.conn = conn

        def refuse(self) -> type:
            raise RuntimeError("working outside of a context")

        locals()["__class__"] = property(refuse)

    conn = ring.connect()
    proxy = Proxy(conn)
    cursor = conn.execute("SELECT * FROM orders")
    assert len(ring.reset().blockers) == 1
    assert ring.is_free()
    cursor.close()
    proxy.conn.close()


# ---------------------------------------------------------------- what outlives a test


@pytest.mark.parametrize("how", ["execute", "executemany", "executescript"])
def test_a_cursor_that_a_reset_closed_can_be_used_again(databases: Databases, how: str) -> None:
    ring = databases.get()
    conn = ring.connect()
    cursor = conn.cursor()
    cursor.row_factory = sqlite3.Row
    cursor.arraysize = 7
    cursor.execute("SELECT * FROM orders")
    if ring.kind is not RingKind.PRIVATE:
        ring.reset()
        with pytest.raises(sqlite3.ProgrammingError):
            cursor.fetchone()
    else:
        ring.reset()
    if how == "executemany":
        cursor.executemany("INSERT INTO empty VALUES (?)", [(1,), (2,)])
    else:
        getattr(cursor, how)("SELECT 1")
    assert cursor.row_factory is sqlite3.Row
    assert cursor.arraysize == 7
    cursor.close()
    with pytest.raises(sqlite3.ProgrammingError):
        cursor.execute("SELECT 1")
    conn.close()


@pytest.mark.parametrize("leave", ["COMMIT", "", "SELECT * FROM orders"])
def test_a_connection_that_is_kept_sees_golden_rows_after_a_reset(
    databases: Databases, leave: str
) -> None:
    ring = databases.get()
    kept = ring.connect(isolation_level=None)
    for _ in range(3):
        databases.begin_test("one")
        assert orders(kept) == ORDERS
        kept.execute("BEGIN")
        kept.execute("DELETE FROM orders WHERE id % 2")
        cursor = kept.execute(leave)
        ended = databases.end_test("one", None, "test")
        assert (AnomalyKind.LEAKED_TRANSACTION in [a.kind for a in ended.anomalies]) == (
            leave != "COMMIT"
        )
        assert not kept.in_transaction
        cursor.close()
    kept.close()


def test_a_leaked_transaction_is_named_once(databases: Databases) -> None:
    databases.begin_test("one")
    kept = databases.get().connect()
    kept.execute("DELETE FROM orders")
    assert len(databases.end_test("one", ResetPolicy.NEVER, "test").anomalies) == 1
    databases.begin_test("two")
    assert databases.end_test("two", ResetPolicy.NEVER, "test").anomalies == ()
    kept.close()


# ---------------------------------------------------------------- what other code expects


def test_as_a_class_attribute_connect_does_not_become_a_method(ring: Ring) -> None:
    class Backend:
        connect = connections.connect

    Backend().connect(ring.uri, uri=True).close()


def test_a_pool_is_known_behind_the_projects_own_creator(databases: Databases) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    ring = databases.get()
    databases.begin_test("one")
    engine = sqlalchemy.create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(ring.uri, uri=True),
        poolclass=sqlalchemy.pool.QueuePool,
    )
    with engine.begin() as conn:
        conn.execute(sqlalchemy.text("DELETE FROM orders"))
    del engine, conn
    assert databases.end_test("one", None, "test").anomalies == ()
