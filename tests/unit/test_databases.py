"""All rings of a process: names, variables, policies and boundaries."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

import pytest

from snapfarm_worker import connections
from snapfarm_worker.anomaly import Anomaly, AnomalyKind, Level, Severity
from snapfarm_worker.databases import Boundary, Databases
from snapfarm_worker.engines import sqlalchemy_url
from snapfarm_worker.errors import RingError
from snapfarm_worker.ring import ResetPolicy, Ring
from snapfarm_worker.widefixtures import WideFixture
from support.golden import ORDERS, golden

SNAPSHOT = golden()


@pytest.fixture
def databases() -> Iterator[Databases]:
    databases = Databases(policy=ResetPolicy.TEST, sensors=True)
    yield databases
    databases.close()


def add(databases: Databases, name: str, policy: ResetPolicy | None = None) -> Ring:
    ring = Ring.restore(golden(name))
    databases.add(ring, policy=policy)
    return ring


def delete(ring: Ring) -> None:
    with contextlib.closing(ring.connect()) as conn, conn:
        conn.execute("DELETE FROM orders")


def orders(ring: Ring) -> int:
    with contextlib.closing(ring.connect()) as conn:
        return int(conn.execute("SELECT count(*) FROM orders").fetchone()[0])


def test_sqlite3_knows_rings_as_long_as_there_are_any() -> None:
    databases = Databases(policy=ResetPolicy.TEST, sensors=False)
    assert sqlite3.connect is connections.original_connect
    ring = add(databases, "default")
    add(databases, "other")
    assert sqlite3.connect is connections.connect
    databases.close()
    databases.close()
    assert sqlite3.connect is connections.original_connect
    assert not ring.is_open


def test_without_a_database_the_error_tells_how_to_declare_one(databases: Databases) -> None:
    assert databases.environment() == {}
    with pytest.raises(RingError, match=r"\[tool\.farm\.golden\.default\]"):
        databases.get()


def test_the_only_database_is_the_default(databases: Databases) -> None:
    ring = add(databases, "shop-2")
    assert databases.get() is databases.get("shop-2") is ring
    url = sqlalchemy_url(ring.uri)
    assert databases.environment() == {
        "FARM_URI": ring.uri,
        "FARM_URI_SHOP_2": ring.uri,
        "FARM_SQLALCHEMY_URL": url,
        "FARM_SQLALCHEMY_URL_SHOP_2": url,
    }
    with pytest.raises(RingError, match="'nope': choose one of 'shop-2'"):
        databases.get("nope")


def test_of_several_the_default_is_named_so(databases: Databases) -> None:
    first, second = add(databases, "a"), add(databases, "b")
    assert databases.names == ("a", "b")
    assert databases.environment().keys().isdisjoint({"FARM_URI", "FARM_SQLALCHEMY_URL"})
    with pytest.raises(RingError, match="database named 'default': choose one of 'a', 'b'"):
        databases.get()
    default = add(databases, "default")
    assert databases.get() is default
    rings = {"": default, "_A": first, "_B": second, "_DEFAULT": default}
    assert databases.environment() == {
        **{f"FARM_URI{suffix}": ring.uri for suffix, ring in rings.items()},
        **{f"FARM_SQLALCHEMY_URL{s}": sqlalchemy_url(ring.uri) for s, ring in rings.items()},
    }


def test_two_databases_of_one_variable(databases: Databases) -> None:
    add(databases, "a-b")
    for name in ("a_b", "a-b", "A.b"):
        ring = Ring.restore(golden(name))
        with pytest.raises(RingError, match="FARM_URI_A_B"):
            databases.add(ring)
        ring.close()


@pytest.mark.parametrize(
    ("policy", "boundaries"),
    [
        (ResetPolicy.TEST, {"test", "module", "session"}),
        (ResetPolicy.MODULE, {"module", "session"}),
        (ResetPolicy.SESSION, {"session"}),
        (ResetPolicy.NEVER, set()),
    ],
)
@pytest.mark.parametrize("boundary", ["test", "module", "session"])
@pytest.mark.parametrize("said_by", ["test", "database", "suite"])
def test_policies(
    policy: ResetPolicy, boundaries: set[str], boundary: Boundary, said_by: str
) -> None:
    """The test's policy comes before the database's, and that before the suite's."""
    opposite = ResetPolicy.NEVER if boundary in boundaries else ResetPolicy.TEST
    databases = Databases(policy=policy if said_by == "suite" else opposite, sensors=True)
    ring = Ring.restore(SNAPSHOT)
    databases.add(ring, policy={"test": opposite, "database": policy, "suite": None}[said_by])
    databases.begin_test("one")
    delete(ring)
    ended = databases.end_test("one", policy if said_by == "test" else None, boundary)
    assert ("default" in ended.resets) is (boundary in boundaries)
    assert orders(ring) == (ORDERS if boundary in boundaries else 0)
    databases.close()


def test_a_transaction_is_named_even_where_nothing_is_reset(databases: Databases) -> None:
    ring = add(databases, "default", ResetPolicy.NEVER)
    databases.begin_test("one")
    conn = ring.connect()
    conn.execute("DELETE FROM orders")
    ended = databases.end_test("one", None, "test")
    assert [each.kind for each in ended.anomalies] == [AnomalyKind.LEAKED_TRANSACTION]
    assert ended.resets == {}
    assert conn.in_transaction
    conn.close()


def test_a_database_that_nobody_used_is_not_restored(databases: Databases) -> None:
    loads = []
    databases.add(Ring("default", lambda: loads.append(1) or SNAPSHOT))  # type: ignore[func-returns-value]  # None or it
    databases.begin_test("one")
    with databases.wide_fixture(WideFixture("module fixture 'wide'")):
        pass
    assert databases.end_test("one", None, "session").resets == {}
    assert loads == []


def test_each_database_is_reset_on_its_own(databases: Databases) -> None:
    first, second = add(databases, "a"), add(databases, "b")
    databases.begin_test("one")
    delete(first)
    ended = databases.end_test("one", None, "test")
    assert {name: outcome.tier for name, outcome in ended.resets.items()} == {
        "a": "in-place",
        "b": "clean",
    }
    assert orders(first) == orders(second) == ORDERS


def test_the_fixtures_connection_may_leave_what_python_began(databases: Databases) -> None:
    ring = add(databases, "default")
    databases.begin_test("one")
    conn = databases.open_fixture(ring)
    conn.execute("DELETE FROM orders")
    databases.close_fixture(conn)
    assert databases.end_test("one", None, "test").anomalies == ()


@pytest.mark.parametrize("sql", ["BEGIN", "  begin immediate", "SAVEPOINT a"])
def test_but_not_what_the_test_began(databases: Databases, sql: str) -> None:
    ring = add(databases, "default")
    databases.begin_test("one")
    conn = databases.open_fixture(ring)
    conn.execute(sql)
    databases.close_fixture(conn)
    (found,) = databases.end_test("one", None, "test").anomalies
    assert found.kind is AnomalyKind.LEAKED_TRANSACTION
    assert "farm_db" in found.message


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK", "commit()", "rollback()", "with"])
def test_an_explicit_transaction_that_ended_is_forgotten(databases: Databases, end: str) -> None:
    ring = add(databases, "default")
    databases.begin_test("one")
    conn = databases.open_fixture(ring)
    conn.execute("BEGIN")
    conn.execute("DELETE FROM customers")
    if end == "commit()":
        conn.commit()
    elif end == "rollback()":
        conn.rollback()
    elif end == "with":
        with conn:
            pass
    else:
        conn.execute(end)
    conn.execute("DELETE FROM orders")
    databases.close_fixture(conn)
    assert databases.end_test("one", None, "test").anomalies == ()


def test_the_fixtures_connection_may_be_closed_by_the_test(databases: Databases) -> None:
    ring = add(databases, "default")
    conn = databases.open_fixture(ring)
    conn.close()
    databases.close_fixture(conn)
    assert [member.closed for member in ring.members()] == [True]
    assert ring.is_free()


def test_what_a_framework_empties_is_told_of_tests_that_fail() -> None:
    databases = Databases(policy=ResetPolicy.TEST, sensors=Level.FULL)
    ring = Ring.restore(SNAPSHOT)
    databases.add(ring, managed=True)
    conn = ring.connect()  # as a framework that keeps its connection

    def run(test: str, *statements: str, fails: bool = False) -> tuple[Anomaly, ...]:
        databases.begin_test(test)
        for statement in statements:
            conn.execute(statement).fetchall()
        conn.commit()
        if fails:
            databases.test_failed()
        return databases.end_test(test, None, "test").anomalies

    read = "SELECT * FROM orders"
    assert run("creates", read) == ()
    assert run("flushes", "DELETE FROM orders", "DELETE FROM pairs") == ()
    assert run("passes", read) == ()
    assert run("deletes", "DELETE FROM orders", read, fails=True) == ()
    (found,) = run("fails", read, fails=True)
    assert (found.kind, found.severity) == (AnomalyKind.EMPTY_TABLE_READ, Severity.ERROR)
    assert (found.table, found.polluter) == ("orders", "flushes")
    with databases.wide_fixture(WideFixture("session fixture 'empty'")):
        conn.execute("DELETE FROM customers")
        conn.commit()
    assert run("expects", "SELECT * FROM customers", fails=True) == ()
    ring.reset()
    assert run("restored", read, fails=True) == ()
    conn.close()
    databases.close()
