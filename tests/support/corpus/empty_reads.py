"""Faults: reads of tables that should have rows, or should be there, and which test is to blame."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable
from sqlite3 import connect as early_connect
from typing import Any

import aiosqlite
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from snapfarm_worker.anomaly import AnomalyKind
from snapfarm_worker.ring import ResetPolicy, RingKind
from support.corpus.stage import Case, Program, Stage, opened
from support.golden import image

K = AnomalyKind
EMPTY = image(
    "CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE orders(id, customer, "
    "total); CREATE TABLE pairs(a, b);"
)


class Base(DeclarativeBase):
    """Models of the golden database."""


class Order(Base):
    """An order."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[int]
    total: Mapped[float]


def sql(*statements: str, **options: object) -> Program:
    """Return a program that executes statements, fetches all rows, and commits."""

    def program(stage: Stage) -> None:
        with opened(stage, **options) as conn:
            for statement in statements:
                with contextlib.suppress(sqlite3.OperationalError):
                    conn.execute(statement).fetchall()
            conn.commit()

    return program


# ---------------------------------------------------------------- tests that pollute

deletes = sql("DELETE FROM orders")


def truncates_in_a_script(stage: Stage) -> None:
    """Empty a table and make it anew, as some helpers do."""
    with opened(stage) as conn:
        conn.executescript("DROP TABLE orders; CREATE TABLE orders(id, customer, total);")


def cascades(stage: Stage) -> None:
    """Empty a table by deleting what its rows belong to."""
    with opened(stage) as conn:
        conn.execute("PRAGMA foreign_keys = ON")
        conn.execute("DELETE FROM customers")
        conn.commit()


def overwrites(stage: Stage) -> None:
    """Replace all by backup()."""
    with contextlib.closing(sqlite3.connect(":memory:")) as source, opened(stage) as conn:
        source.deserialize(EMPTY)
        source.backup(conn)


def deletes_in_a_thread(stage: Stage) -> None:
    """Delete on another thread."""
    thread = threading.Thread(target=deletes, args=(stage,))
    thread.start()
    thread.join()


def deletes_by_orm(stage: Stage) -> None:
    """Delete with SQLAlchemy."""
    engine = sa.create_engine(stage.url)
    with Session(engine) as session:
        session.execute(sa.delete(Order))
        session.commit()
    engine.dispose()


# ---------------------------------------------------------------- tests that read


def reads_by_orm(stage: Stage) -> None:
    """Read objects with SQLAlchemy."""
    engine = sa.create_engine(stage.url)
    with Session(engine) as session:
        assert session.scalars(sa.select(Order)).all() == []
    engine.dispose()


def reads_on_a_loop(stage: Stage) -> None:
    """Read with aiosqlite."""

    async def main() -> None:
        async with (
            aiosqlite.connect(stage.uri, uri=True) as conn,
            conn.execute("SELECT * FROM orders") as cursor,
        ):
            assert await cursor.fetchall() == []

    asyncio.run(main())


def reads_by_async_engine(stage: Stage) -> None:
    """Read with SQLAlchemy on an event loop."""

    async def main() -> None:
        engine = create_async_engine(stage.url.replace("sqlite:", "sqlite+aiosqlite:", 1))
        async with engine.connect() as conn:
            assert (await conn.execute(sa.text("SELECT count(*) FROM orders"))).scalar() == 0
        await engine.dispose()

    asyncio.run(main())


def reads_in_a_thread(stage: Stage) -> None:
    """Read on a thread, where the error would be far from the test."""
    thread = threading.Thread(target=sql("SELECT * FROM orders"), args=(stage,), name="reader")
    thread.start()
    thread.join()


def reads_with_callbacks(stage: Stage) -> None:
    """Read on a connection with every callback that a program may set."""
    traced: list[str] = []
    asked: list[object] = []
    with opened(stage) as conn:
        conn.set_trace_callback(traced.append)
        conn.set_authorizer(lambda *args: asked.append(args) or 0)  # type: ignore[func-returns-value]  # None or 0
        conn.row_factory = sqlite3.Row
        conn.text_factory = bytes
        assert conn.execute("SELECT total FROM orders").fetchall() == []
    assert traced == ["SELECT total FROM orders"]
    assert not any("EXISTS" in str(each) for each in asked)
    assert any("orders" in str(each) for each in asked)


class OwnConnection(sqlite3.Connection):
    """A factory of the suite's own."""

    def rows(self, table: str) -> list[Any]:
        """Return all rows of a table."""
        return self.execute(f"SELECT * FROM {table}").fetchall()


def reads_by_own_factory(stage: Stage) -> None:
    """Read on a class of the program's own."""
    with contextlib.closing(sqlite3.connect(stage.uri, uri=True, factory=OwnConnection)) as conn:
        assert conn.rows("orders") == []


def reads_by_a_function(stage: Stage) -> None:
    """Read on what a factory that is a function makes, with cursors of a class of its own."""

    class OwnCursor(sqlite3.Cursor):
        def all(self, table: str) -> list[Any]:
            return self.execute(f"SELECT * FROM {table}").fetchall()

    def factory(*args: Any, **options: Any) -> OwnConnection:
        return OwnConnection(*args, **options)

    conn: sqlite3.Connection = sqlite3.connect(stage.uri, uri=True, factory=factory)  # type: ignore[call-overload]  # may be any callable
    with contextlib.closing(conn):
        assert conn.cursor(OwnCursor).all("orders") == []


def reads_by_early_connect(stage: Stage) -> None:
    """Read through a `connect` that was imported by name before there was a farm."""
    with contextlib.closing(early_connect(stage.uri, uri=True)) as conn:
        assert conn.execute("SELECT * FROM orders").fetchone() is None


def reads_after_a_rollback(stage: Stage) -> None:
    """What this test has inserted is gone, and was not deleted."""
    with opened(stage) as conn:
        conn.execute("INSERT INTO orders(customer, total) VALUES (1, 1)")
        conn.rollback()
        assert conn.execute("SELECT * FROM orders").fetchall() == []


def reads_after_a_refusal(stage: Stage) -> None:
    """Nothing was inserted, so that a cascade finds nothing to delete."""
    with opened(stage) as conn:
        conn.execute("PRAGMA foreign_keys = ON")
        with contextlib.suppress(sqlite3.IntegrityError):
            conn.execute("INSERT INTO orders(customer, total) VALUES (1000, 1)")
        conn.executemany("DELETE FROM customers WHERE id = ?", [(1000,)])
        assert conn.execute("SELECT * FROM orders").fetchall() == []
        conn.rollback()


def reads_by_peewee(stage: Stage) -> None:
    """Read with peewee."""
    import peewee

    database = peewee.SqliteDatabase(stage.uri, uri=True)
    rows = database.execute_sql("SELECT count(*) FROM orders")  # type: ignore[no-untyped-call]  # peewee's
    assert rows.fetchone() == (0,)
    database.close()


def reads_in_scripts(stage: Stage) -> None:
    """Read in scripts, the same statement in two of them."""
    with opened(stage) as conn:
        conn.executescript("DELETE FROM empty; SELECT * FROM orders;")
        conn.executescript("SELECT * FROM orders; DELETE FROM empty;")


READS = {
    "count": "SELECT count(*) FROM orders",
    "sum": "SELECT sum(total) FROM orders",
    "exists": "SELECT EXISTS (SELECT 1 FROM orders)",
    "where": "SELECT id FROM orders WHERE id = 7",
    "join": "SELECT c.name FROM customers c LEFT JOIN orders o ON o.customer = c.id",
    "view": "SELECT * FROM totals",
    "cte": "WITH o AS (SELECT * FROM orders) SELECT count(*) FROM o",
    "subquery": "SELECT name FROM customers WHERE id IN (SELECT customer FROM orders)",
    "insert-select": "INSERT INTO log(text) SELECT total FROM orders",
    "update": "UPDATE orders SET total = 1 WHERE id = 3",
    "union": "SELECT id FROM customers UNION SELECT id FROM orders",
    "scalar": "SELECT (SELECT max(total) FROM orders), 1",
    "window": "SELECT id, row_number() OVER (ORDER BY total) FROM orders",
    "recursive": "WITH RECURSIVE o(i) AS (SELECT id FROM orders UNION SELECT i + 1 FROM o "
    "WHERE i < 9) SELECT * FROM o",
    "except": "SELECT id FROM customers EXCEPT SELECT customer FROM orders",
    "values": "VALUES ((SELECT count(*) FROM orders))",
    "delete-where": "DELETE FROM empty WHERE x IN (SELECT id FROM orders)",
    "returning": "UPDATE orders SET total = 1 RETURNING id",
    "update-from": "UPDATE empty SET x = o.total FROM orders o WHERE o.id = empty.x",
    "upsert": "INSERT INTO empty SELECT total FROM main.orders WHERE true",
    "quoted": 'SELECT "total" FROM "main"."ORDERS"',
    "made-of": "CREATE TEMP TABLE copied AS SELECT * FROM orders",
    "index": "SELECT customer FROM orders INDEXED BY orders_customer WHERE customer = 1",
    "rowid": "SELECT rowid FROM orders LIMIT 1",
    "comment": "/* DELETE FROM orders */ SELECT * FROM orders -- all",
}
READERS: list[Callable[[Stage], None]] = [
    reads_by_orm,
    reads_on_a_loop,
    reads_by_async_engine,
    reads_in_a_thread,
    reads_with_callbacks,
    reads_by_own_factory,
    reads_by_a_function,
    reads_by_early_connect,
    reads_after_a_rollback,
    reads_after_a_refusal,
    reads_by_peewee,
    reads_in_scripts,
]
POLLUTERS: list[Callable[[Stage], None]] = [
    truncates_in_a_script,
    cascades,
    overwrites,
    deletes_in_a_thread,
    deletes_by_orm,
]


def victim(
    name: str,
    program: Program,
    *after: Program,
    policy: ResetPolicy = ResetPolicy.MODULE,
    ring: RingKind = RingKind.SHARED_CACHE,
    also: tuple[AnomalyKind, ...] = (),
) -> Case:
    """Return the case of a program that reads orders, which the first test before it emptied."""
    return Case(name, (K.EMPTY_TABLE_READ, *also), program, after, policy, ring, table="orders")


def left(*statements: str) -> Program:
    """Return a program that leaves the ring, and then executes statements."""

    def program(stage: Stage) -> None:
        with opened(stage, isolation_level=None) as conn:
            conn.execute("SELECT * FROM orders").fetchall()
            conn.deserialize(EMPTY)
            for statement in statements:
                with contextlib.suppress(sqlite3.OperationalError):
                    conn.execute(statement).fetchall()

    return program


def leaves_in_sqlalchemy(stage: Stage) -> None:
    """Restore into a connection of the ring through SQLAlchemy."""
    engine = sa.create_engine(stage.url)
    with engine.connect() as conn:
        driver = conn.connection.driver_connection
        assert driver is not None
        driver.deserialize(EMPTY)
        assert conn.execute(sa.text("SELECT * FROM orders")).all() == []
    engine.dispose()


def leaves_unseen(stage: Stage) -> None:
    """Leave by sqlite3's own method, around the connection's."""
    conn = sqlite3.connect(stage.uri, uri=True)
    stage.cleanups.callback(conn.close)
    sqlite3.Connection.deserialize(conn, EMPTY)


def leaves_on_a_loop(stage: Stage) -> None:
    """Leave the ring with aiosqlite."""

    async def main() -> None:
        async with aiosqlite.connect(stage.uri, uri=True) as conn:
            await conn._execute(conn._conn.deserialize, EMPTY)  # type: ignore[no-untyped-call]  # aiosqlite's
            await conn.execute_fetchall("SELECT * FROM pairs")

    asyncio.run(main())


def leaves_in_a_thread(stage: Stage) -> None:
    """Leave the ring on a thread."""
    thread = threading.Thread(target=left("SELECT * FROM customers"), args=(stage,))
    thread.start()
    thread.join()


class Restoring:
    """A context manager that restores where it must not."""

    def __init__(self, uri: str) -> None:
        self.conn = sqlite3.connect(uri, uri=True)

    def __enter__(self) -> sqlite3.Connection:
        self.conn.deserialize(EMPTY)
        return self.conn

    def __exit__(self, *error: object) -> None:
        self.conn.close()


def leaves_by_context_manager(stage: Stage) -> None:
    """Leave the ring inside of a helper."""
    with Restoring(stage.uri) as conn:
        assert conn.execute("SELECT count(*) FROM orders").fetchone() == (0,)


def missing_by_orm(stage: Stage) -> None:
    """Ask for a dropped table with SQLAlchemy."""
    engine = sa.create_engine(stage.url)
    with Session(engine) as session, contextlib.suppress(sa.exc.OperationalError):
        session.scalars(sa.select(Order)).all()
    engine.dispose()


def missing_on_a_loop(stage: Stage) -> None:
    """Ask for a dropped table with aiosqlite."""

    async def main() -> None:
        async with aiosqlite.connect(stage.uri, uri=True) as conn:
            with contextlib.suppress(sqlite3.OperationalError):
                await conn.execute("SELECT * FROM orders")

    asyncio.run(main())


drops = sql("DROP TABLE orders")
renames_a_column = sql("DROP VIEW totals", "ALTER TABLE orders RENAME COLUMN total TO amount")

CASES = [
    *(victim(f"earlier-test-{name}", sql(statement), deletes) for name, statement in READS.items()),
    *(victim(reader.__name__, reader, deletes, policy=ResetPolicy.NEVER) for reader in READERS),
    *(
        victim(
            f"after-{polluter.__name__}",
            sql("SELECT * FROM orders"),
            polluter,
            sql("SELECT * FROM customers"),
        )
        for polluter in POLLUTERS
    ),
    victim("memdb", sql("SELECT * FROM orders"), deletes, ring=RingKind.MEMDB),
    victim(
        "made-if-not-there",
        sql("CREATE TABLE IF NOT EXISTS orders(id, customer, total)", "SELECT * FROM orders"),
        deletes,
    ),
    victim(
        "swept-when-empty",
        sql(
            "PRAGMA foreign_keys = ON", "DELETE FROM customers WHERE id = 1", "SELECT * FROM orders"
        ),
        deletes,
        also=(K.LEAKED_WRITE,),
    ),
    Case("left-count", (K.LEFT_RING, K.EMPTY_TABLE_READ), left("SELECT count(*) FROM orders")),
    Case("left-select", (K.LEFT_RING, K.EMPTY_TABLE_READ), left("SELECT * FROM customers")),
    Case("left-only", (K.LEFT_RING,), left()),
    Case("left-missing", (K.LEFT_RING, K.MISSING_TABLE), left("SELECT * FROM log")),
    Case("left-missing-view", (K.LEFT_RING, K.MISSING_TABLE), left("SELECT * FROM totals")),
    Case("left-memdb", (K.LEFT_RING,), left(), ring=RingKind.MEMDB),
    *(
        Case(program.__name__, (K.LEFT_RING, K.EMPTY_TABLE_READ), program)
        for program in (
            leaves_in_sqlalchemy,
            leaves_on_a_loop,
            leaves_in_a_thread,
            leaves_by_context_manager,
        )
    ),
    Case("leaves_unseen", (K.LEFT_RING,), leaves_unseen),
    Case(
        "dropped-select",
        (K.MISSING_TABLE,),
        sql("SELECT * FROM orders"),
        (drops,),
        ResetPolicy.MODULE,
        table="orders",
    ),
    Case(
        "dropped-and-another-made",
        (K.MISSING_TABLE, K.SCHEMA_CHANGE),
        sql("CREATE TABLE other(x)", "SELECT * FROM orders"),
        (drops,),
        ResetPolicy.MODULE,
        table="orders",
    ),
    Case("dropped-orm", (K.MISSING_TABLE,), missing_by_orm, (drops,), ResetPolicy.MODULE),
    Case("dropped-aiosqlite", (K.MISSING_TABLE,), missing_on_a_loop, (drops,), ResetPolicy.NEVER),
    Case(
        "renamed-column",
        (K.MISSING_TABLE,),
        sql("SELECT total FROM orders"),
        (renames_a_column,),
        ResetPolicy.SESSION,
        table="orders",
    ),
    Case(
        "renamed-table",
        (K.MISSING_TABLE,),
        sql("SELECT * FROM pairs"),
        (sql("ALTER TABLE pairs RENAME TO couples"),),
        ResetPolicy.NEVER,
        table="pairs",
    ),
]
