"""Tests through one SQLAlchemy engine, made once for all tests on FARM_URI."""

from __future__ import annotations

import sqlite3
import threading

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from snapfarm_worker.fixtures import FarmRing


class Base(DeclarativeBase):
    """The tables that are mapped here."""


class Coupon(Base):
    """A coupon."""

    __tablename__ = "coupon"

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str]
    percent: Mapped[int]
    uses_left: Mapped[int]


def test_the_engine_sees_the_golden_rows(engine: sa.Engine) -> None:
    with engine.connect() as conn:
        assert conn.execute(sa.text("SELECT count(*) FROM customer")).scalar_one() == 300


def test_tables_are_reflected(engine: sa.Engine) -> None:
    metadata = sa.MetaData()
    metadata.reflect(engine, views=True)
    assert len(metadata.tables) == 46
    foreign = metadata.tables["sales_order"].c.customer.foreign_keys
    assert [key.column.table.name for key in foreign] == ["customer"]


@pytest.mark.parametrize("code", ["SUMMER", "AUTUMN", "WINTER"])
def test_a_session_commits(engine: sa.Engine, code: str) -> None:
    with Session(engine) as session:
        session.add(Coupon(code=code, percent=5, uses_left=1))
        session.commit()
    with Session(engine) as session:
        codes = session.scalars(sa.select(Coupon.code).order_by(Coupon.id)).all()
    assert codes == ["WELCOME", "LAST-ONE", "USED-UP", code]


def test_a_session_rolls_back(engine: sa.Engine) -> None:
    with Session(engine) as session:
        session.execute(sa.delete(Coupon))
        session.rollback()
        assert session.scalar(sa.select(sa.func.count(Coupon.id))) == 3


def test_a_nested_transaction(engine: sa.Engine) -> None:
    with Session(engine) as session, session.begin():
        session.add(Coupon(code="OUTER", percent=5, uses_left=1))
        session.flush()
        inner = session.begin_nested()
        session.add(Coupon(code="INNER", percent=5, uses_left=1))
        session.flush()
        inner.rollback()
    with Session(engine) as session:
        assert session.scalar(sa.select(sa.func.count(Coupon.id))) == 4


def test_sqlite3_and_the_engine_share_the_ring(
    engine: sa.Engine, farm_db: sqlite3.Connection
) -> None:
    with engine.begin() as conn:
        conn.execute(sa.text("UPDATE coupon SET uses_left = 7"))
    assert farm_db.execute("SELECT DISTINCT uses_left FROM coupon").fetchall() == [(7,)]


def test_the_engine_in_a_thread(engine: sa.Engine) -> None:
    counts: list[int] = []

    def count() -> None:
        with Session(engine) as session:
            counts.append(session.scalar(sa.select(sa.func.count(Coupon.id))) or 0)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [3, 3, 3, 3]


def test_an_engine_of_the_ring_itself(farm_ring: FarmRing) -> None:
    # Any kind of ring, "private" too, can be reached this way.
    engine = sa.create_engine("sqlite://", creator=farm_ring.connect, poolclass=sa.pool.NullPool)
    with engine.connect() as conn:
        assert conn.execute(sa.text("SELECT count(*) FROM product")).scalar_one() == 400
