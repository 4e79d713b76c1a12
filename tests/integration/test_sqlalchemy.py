"""SQLAlchemy on rings: the pools that it picks, and the fixtures."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Session

from snapfarm_worker.databases import Databases
from snapfarm_worker.engines import async_engine, sqlalchemy_url, sync_engine
from snapfarm_worker.errors import RingError
from snapfarm_worker.ring import ResetPolicy, Ring, RingKind
from support.golden import ORDERS, golden

COUNT = sa.text("SELECT count(*) FROM orders")
INSERT = sa.text("INSERT INTO empty VALUES (1)")


@pytest.fixture
def databases() -> Iterator[Databases]:
    databases = Databases(policy=ResetPolicy.TEST, sensors=True)
    yield databases
    databases.close()


@pytest.fixture(params=list(RingKind))
def ring(databases: Databases, request: pytest.FixtureRequest) -> Ring:
    ring = Ring.restore(golden(), kind=request.param)
    databases.add(ring)
    return ring


def end_test(databases: Databases) -> list[str]:
    """End a test; return the anomalies."""
    return [each.kind for each in databases.end_test("test", None, "test").anomalies]


def test_sessions_have_transactions_of_their_own(databases: Databases) -> None:
    ring = Ring.restore(golden())
    databases.add(ring)
    engine = sync_engine(ring)
    databases.begin_test("test")
    with Session(engine) as first, Session(engine) as second:
        first.execute(INSERT)
        second.execute(sa.text("SELECT 1")).all()
        second.rollback()
        first.commit()
        assert second.scalar(sa.text("SELECT count(*) FROM empty")) == 1
    assert end_test(databases) == []
    with engine.connect() as conn:
        assert conn.scalar(sa.text("SELECT count(*) FROM empty")) == 0


def test_threads_commit_through_one_engine(databases: Databases, ring: Ring) -> None:
    engine = sync_engine(ring)
    databases.begin_test("test")

    def work() -> None:
        for _ in range(5):
            with engine.begin() as conn:
                conn.execute(INSERT)

    threads = [threading.Thread(target=work) for _ in range(4)]
    if ring.kind is RingKind.PRIVATE:
        # One connection for all: they share its transaction too, so one has to end first.
        for thread in threads:
            thread.start()
            thread.join()
    else:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with engine.connect() as conn:
        assert conn.scalar(sa.text("SELECT count(*) FROM empty")) == 20
    assert end_test(databases) == []
    with engine.connect() as conn:
        assert conn.scalar(sa.text("SELECT count(*) FROM empty")) == 0
        assert conn.scalar(COUNT) == ORDERS
    engine.dispose()


def test_an_asynchronous_engine_lives_in_any_loop(databases: Databases, ring: Ring) -> None:
    engine = async_engine(ring)
    databases.begin_test("test")

    async def insert() -> int:
        async with engine.begin() as conn:
            await conn.execute(INSERT)
        async with engine.connect() as conn:
            return int(await conn.scalar(sa.text("SELECT count(*) FROM empty")) or 0)

    assert [asyncio.run(insert()) for _ in range(2)] == [1, 2]
    assert end_test(databases) == []
    asyncio.run(engine.dispose())


def test_what_the_caller_says_counts(ring: Ring) -> None:
    url = sqlalchemy_url(ring.uri)
    engine = sa.create_engine(url, pool_size=5, max_overflow=2, pool_pre_ping=True)
    assert isinstance(engine.pool, sa.NullPool | sa.StaticPool)
    engine = sa.create_engine(url, poolclass=sa.QueuePool, pool_size=2)
    assert isinstance(engine.pool, sa.QueuePool)
    assert engine.pool.size() == 2
    with engine.connect() as conn:
        assert conn.scalar(COUNT) == ORDERS
    engine.dispose()
    engine = sa.create_engine(url + "&check_same_thread=true", poolclass=sa.QueuePool)
    assert engine.dialect.create_connect_args(engine.url)[1]["check_same_thread"] is True


def test_flask_sqlalchemy_joins_the_ring(ring: Ring) -> None:
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = sqlalchemy_url(ring.uri)
    db = SQLAlchemy(app)
    with app.app_context():
        assert db.session.scalar(COUNT) == ORDERS
        db.session.remove()
        db.engine.dispose()


def test_without_sqlalchemy_the_error_says_what_to_install(
    ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aiosqlite", None)
    with pytest.raises(RingError, match=r"needs aiosqlite, which .* -m pip install aiosqlite"):
        async_engine(ring)
