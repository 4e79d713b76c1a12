"""Programs that remove all rows of a table themselves, in every way that there is, and read it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import aiosqlite
import sqlalchemy as sa
from sqlalchemy.orm import Session

from support.corpus.empty_reads import Order, deletes, overwrites, sql
from support.corpus.stage import Stage, opened

READ = "SELECT * FROM orders"
COUNT = "SELECT count(*) FROM orders"

#: What removes all orders, in every way that there is; each is followed by a read.
REMOVALS: dict[str, tuple[str, ...]] = {
    "all": ("DELETE FROM orders",),
    "where": ("DELETE FROM orders WHERE id > 0",),
    "limit": ("DELETE FROM orders WHERE id IN (SELECT id FROM orders LIMIT 500)",),
    "with": (
        "WITH o AS (SELECT id FROM orders) DELETE FROM orders WHERE id IN (SELECT id FROM o)",
    ),
    "returning": ("DELETE FROM orders RETURNING id",),
    "cascade": ("PRAGMA foreign_keys = ON", "DELETE FROM customers"),
    "replaced-parents": (
        "PRAGMA foreign_keys = ON",
        "REPLACE INTO customers SELECT id, 'new' FROM customers",
    ),
    "trigger": (
        "CREATE TRIGGER t AFTER UPDATE ON pairs BEGIN DELETE FROM orders; END",
        "UPDATE pairs SET b = 'x'",
    ),
    "temporary-trigger": (
        "CREATE TEMP TRIGGER t AFTER INSERT ON pairs BEGIN DELETE FROM orders; END",
        "INSERT INTO pairs VALUES ('x', 'y')",
    ),
    "drop": ("DROP TABLE orders", "CREATE TABLE orders(id, customer, total)"),
    "rename": (
        "DROP VIEW totals",
        "ALTER TABLE orders RENAME TO old",
        "CREATE TABLE orders(id, customer, total)",
        "CREATE VIEW totals AS SELECT customer, total FROM orders",
    ),
    "view": (
        "DROP VIEW totals",
        "CREATE VIEW totals AS SELECT 1 AS customer, 2 AS total WHERE 0",
        "SELECT * FROM totals",
        "DELETE FROM orders",
    ),
    "savepoint": ("SAVEPOINT a", "DELETE FROM orders", "RELEASE a"),
    "replace-or-delete": ("UPDATE OR REPLACE orders SET id = 1", "DELETE FROM orders WHERE id = 1"),
}


def removes(*statements: str) -> Callable[[Stage], None]:
    """Return a program that removes all orders and then reads them, committed or not."""

    def program(stage: Stage) -> None:
        with opened(stage) as conn:
            for statement in statements:
                conn.execute(statement).fetchall()
            assert conn.execute(READ).fetchall() == []
            conn.commit()
            assert conn.execute(COUNT).fetchone() == (0,)
        with opened(stage) as conn:
            assert conn.execute("SELECT * FROM totals").fetchall() == []

    return program


def removes_by_script(stage: Stage) -> None:
    """Remove in a script, and read in it, too."""
    with opened(stage) as conn:
        conn.executescript("BEGIN; DELETE FROM orders; SELECT * FROM orders; COMMIT;")
        assert conn.execute(READ).fetchall() == []


def removes_one_by_one(stage: Stage) -> None:
    """Remove with executemany."""
    with opened(stage) as conn:
        ids = conn.execute("SELECT id FROM orders").fetchall()
        conn.executemany("DELETE FROM orders WHERE id = ?", ids)
        conn.commit()
        assert conn.execute(COUNT).fetchone() == (0,)


def removes_on_another_thread(stage: Stage) -> None:
    """Remove on one thread, and read on others."""
    with ThreadPoolExecutor(2) as executor:
        executor.submit(deletes, stage).result()
        executor.submit(sql(READ), stage).result()
    sql(READ)(stage)


def removes_by_backup(stage: Stage) -> None:
    """Replace the ring's content."""
    overwrites(stage)
    with opened(stage) as conn:
        assert conn.execute(READ).fetchall() == []


def removes_on_a_loop(stage: Stage) -> None:
    """Remove with aiosqlite."""

    async def main() -> None:
        async with aiosqlite.connect(stage.uri, uri=True) as conn:
            await conn.execute("DELETE FROM orders")
            await conn.commit()
            assert await conn.execute_fetchall(READ) == []

    asyncio.run(main())


def removes_by_orm(stage: Stage) -> None:
    """Remove with SQLAlchemy's unit of work."""
    engine = sa.create_engine(stage.url)
    with Session(engine) as session:
        for order in session.scalars(sa.select(Order)):
            session.delete(order)
        session.commit()
        assert session.scalars(sa.select(Order)).all() == []
    engine.dispose()
