"""Ordinary code, on which sensors keep quiet."""

from __future__ import annotations

import contextlib
import gc
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from snapfarm_worker.widefixtures import WideFixture
from support.sensor_rig import EMPTY_SCHEMA, SHARING, Rig

#: From 3.13 on, freeing an open connection is a ResourceWarning.
LEAKS = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(params=SHARING)
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    rig = Rig(request.param)
    yield rig
    rig.databases.close()


def writes(conn: sqlite3.Connection) -> None:
    conn.execute("DELETE FROM orders")
    assert conn.execute("SELECT * FROM orders").fetchall() == []
    conn.commit()
    assert conn.execute("SELECT count(*) FROM orders").fetchone() == (0,)


def drops(conn: sqlite3.Connection) -> None:
    conn.execute("DROP TABLE orders")
    with pytest.raises(sqlite3.OperationalError):
        conn.execute("SELECT * FROM orders")
    conn.commit()
    with pytest.raises(sqlite3.OperationalError):
        conn.execute("SELECT * FROM orders")


def drops_in_a_transaction(conn: sqlite3.Connection) -> None:
    conn.execute("BEGIN")
    conn.execute("  \n /* away */ DROP TABLE orders")
    with pytest.raises(sqlite3.OperationalError):
        conn.execute("SELECT * FROM orders")
    conn.rollback()


def renames(conn: sqlite3.Connection) -> None:
    conn.execute("DROP VIEW totals")
    conn.execute("ALTER TABLE orders RENAME TO bestellungen")
    conn.execute("ALTER TABLE customers RENAME COLUMN name TO nom")
    conn.commit()
    for sql in ("SELECT * FROM orders", "SELECT name FROM customers"):
        with pytest.raises(sqlite3.OperationalError):
            conn.execute(sql)


def replaces_and_cascades(conn: sqlite3.Connection) -> None:
    conn.execute("PRAGMA foreign_keys = ON")
    conn.executescript("REPLACE INTO customers VALUES (1, 'x'); DELETE FROM customers;")
    assert conn.execute("SELECT * FROM orders").fetchall() == []


def mistypes(conn: sqlite3.Connection) -> None:
    """`name` is a golden column, but not of the table that was asked."""
    for sql in (
        "SELECT name FROM orders",
        "SELECT nothing FROM customers",
        "SELECT * FROM nowhere",
        "SELECT * FROM temp.customers",
        "INSERT INTO orders(name) VALUES (1)",
        "SELECT FROM",
    ):
        with pytest.raises(sqlite3.OperationalError):
            conn.execute(sql)


def shadows(conn: sqlite3.Connection) -> None:
    conn.execute("CREATE TEMP TABLE customers(id)")
    assert conn.execute("SELECT * FROM customers").fetchall() == []


def reads_an_empty_golden_table(conn: sqlite3.Connection) -> None:
    assert conn.execute("SELECT * FROM empty").fetchall() == []


def reads_and_stops_early(conn: sqlite3.Connection) -> None:
    assert conn.execute("SELECT * FROM orders").fetchone()
    for _ in conn.execute("SELECT * FROM orders"):
        break


def savepoints(conn: sqlite3.Connection) -> None:
    conn.execute("SAVEPOINT a")
    conn.execute("DELETE FROM orders")
    conn.execute("ROLLBACK TO a")
    conn.execute("RELEASE a")


def serializes(conn: sqlite3.Connection) -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as other:
        other.deserialize(EMPTY_SCHEMA)
        assert other.execute("SELECT * FROM orders").fetchall() == []
        conn.serialize()


def overwrites_by_backup(conn: sqlite3.Connection) -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as other:
        other.deserialize(EMPTY_SCHEMA)
        other.backup(conn)
    assert conn.execute("SELECT * FROM orders").fetchall() == []


ORDINARY = [
    writes,
    drops,
    drops_in_a_transaction,
    renames,
    replaces_and_cascades,
    mistypes,
    shadows,
    reads_an_empty_golden_table,
    reads_and_stops_early,
    savepoints,
    serializes,
    overwrites_by_backup,
]


@pytest.mark.parametrize("code", ORDINARY, ids=lambda code: code.__name__)
def test_ordinary_code_raises_no_alarm(rig: Rig, code: Any) -> None:
    with contextlib.closing(rig.ring.connect()) as conn:
        code(conn)
    assert rig.end() == ()
    with contextlib.closing(rig.ring.connect()) as conn:
        assert conn.execute("SELECT count(*) FROM orders").fetchone() == (200,)


@pytest.mark.parametrize("code", ORDINARY, ids=lambda code: code.__name__)
def test_ordinary_code_with_a_bystander_raises_no_alarm(rig: Rig, code: Any) -> None:
    with (
        contextlib.closing(rig.ring.connect()) as other,
        contextlib.closing(rig.ring.connect()) as conn,
    ):
        other.execute("SELECT * FROM customers").fetchall()
        code(conn)
    assert rig.end() == ()


@LEAKS
def test_what_wider_fixtures_hold_is_not_the_tests(rig: Rig) -> None:
    with rig.databases.wide_fixture(WideFixture("module fixture 'wide'")):
        outer = rig.ring.connect()
        outer.execute("INSERT INTO empty VALUES (1)")
        idle = rig.ring.connect()
    assert rig.end() == ()
    assert rig.end() == ()
    assert outer.in_transaction
    outer.close()
    del idle
    gc.collect()
    assert rig.end() == ()


def test_a_connection_that_is_still_in_use_is_no_leak(rig: Rig) -> None:
    kept = rig.ring.connect()
    kept.execute("SELECT 1").fetchall()
    assert rig.end() == ()
    kept.close()
    assert rig.end() == ()


def test_an_engine_that_is_dropped_is_no_leak(rig: Rig) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    engine = sqlalchemy.create_engine(
        f"sqlite:///{rig.ring.uri}&uri=true", poolclass=sqlalchemy.pool.QueuePool
    )
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("SELECT * FROM orders")).fetchall()
    assert rig.end() == ()
    engine.dispose()
    assert rig.end() == ()
