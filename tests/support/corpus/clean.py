"""Tricky but legitimate programs, of which no sensor may say anything that weighs as an error."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from snapfarm_worker.ring import ResetPolicy
from support.corpus.empty_reads import EMPTY, Order, deletes, sql
from support.corpus.removals import (
    COUNT,
    READ,
    REMOVALS,
    removes,
    removes_by_backup,
    removes_by_orm,
    removes_by_script,
    removes_on_a_loop,
    removes_on_another_thread,
    removes_one_by_one,
)
from support.corpus.stage import Case, Stage, anywhere, opened
from support.golden import ORDERS


def rolls_back(stage: Stage) -> None:
    """Remove, read, and take it back."""
    with opened(stage) as conn:
        conn.execute("DELETE FROM orders")
        assert conn.execute(READ).fetchall() == []
        conn.rollback()
        assert conn.execute(COUNT).fetchone() == (ORDERS,)


def fails_and_rolls_back(stage: Stage) -> None:
    """Let an exception close a connection in a transaction."""
    with contextlib.suppress(KeyError), opened(stage) as conn:
        conn.execute("DELETE FROM orders")
        raise KeyError


def uses_temporary_tables(stage: Stage) -> None:
    """Hide a table by a temporary one."""
    with opened(stage) as conn:
        conn.execute("CREATE TEMP TABLE orders(id)")
        assert conn.execute(READ).fetchall() == []
        assert conn.execute(COUNT).fetchone() == (0,)
        conn.execute("DROP TABLE temp.orders")
        assert conn.execute(COUNT).fetchone() == (ORDERS,)


def attaches_memory(stage: Stage) -> None:
    """Attach an empty database with a table of the same name."""
    with opened(stage) as conn:
        conn.execute("ATTACH ':memory:' AS other")
        conn.execute("CREATE TABLE other.orders(id)")
        assert conn.execute("SELECT * FROM other.orders").fetchall() == []
        conn.commit()
        conn.execute("DETACH other")


def attaches_the_ring(stage: Stage) -> None:
    """Attach the ring to a database of the program's own."""
    with contextlib.closing(sqlite3.connect("file::memory:", uri=True)) as conn:
        conn.execute("ATTACH ? AS ring", (stage.uri,))
        assert conn.execute("SELECT count(*) FROM ring.orders").fetchone() == (ORDERS,)
        assert len(conn.execute(READ).fetchall()) == ORDERS


def uses_savepoints(stage: Stage) -> None:
    """Nest savepoints, and roll one of them back."""
    with opened(stage, isolation_level=None) as conn:
        conn.execute("SAVEPOINT a")
        conn.execute("SAVEPOINT b")
        conn.execute("DELETE FROM orders")
        assert conn.execute(READ).fetchall() == []
        conn.execute("ROLLBACK TO b")
        assert conn.execute(READ).fetchone()
        conn.execute("RELEASE a")


def reads_only(stage: Stage) -> None:
    """Open the ring for reading, and be refused a write."""
    with opened(stage) as conn:
        conn.execute("PRAGMA query_only = ON")
        with contextlib.suppress(sqlite3.OperationalError):
            conn.execute("DELETE FROM orders")
        assert conn.execute(COUNT).fetchone() == (ORDERS,)


def uses_two_databases(stage: Stage) -> None:
    """Have a database of its own with tables of the same names."""
    with contextlib.closing(sqlite3.connect(":memory:")) as other, opened(stage) as conn:
        other.executescript("CREATE TABLE orders(id); CREATE TABLE mine(id);")
        assert other.execute(READ).fetchall() == []
        other.execute("INSERT INTO orders VALUES (1)")
        with contextlib.suppress(sqlite3.OperationalError):
            other.execute("SELECT * FROM customers")
        assert conn.execute(COUNT).fetchone() == (ORDERS,)


def migrates_another_database(stage: Stage) -> None:
    """Look whether a table is there, and make it where it is not."""
    del stage
    with contextlib.closing(sqlite3.connect(":memory:")) as conn:
        try:
            conn.execute("SELECT * FROM log")
        except sqlite3.OperationalError:
            conn.execute("CREATE TABLE log(id, text)")
        assert conn.execute("SELECT * FROM log").fetchall() == []


def migrates_a_file(stage: Stage) -> None:
    """Look on one connection, and make the table on another one."""
    del stage
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "own.sqlite")
        conn = sqlite3.connect(path)
        with contextlib.closing(conn), contextlib.suppress(sqlite3.OperationalError):
            conn.execute("SELECT * FROM log")
        with contextlib.closing(sqlite3.connect(path)) as conn:
            conn.executescript("CREATE TABLE log(id); CREATE TABLE more(id);")
            assert conn.execute("SELECT * FROM log").fetchall() == []


def copies_what_it_missed(stage: Stage) -> None:
    """Ask a new database for a table, and copy one there that has it."""
    del stage
    with (
        contextlib.closing(sqlite3.connect(":memory:")) as source,
        contextlib.closing(sqlite3.connect(":memory:")) as target,
    ):
        source.execute("CREATE TABLE log(id)")
        with contextlib.suppress(sqlite3.OperationalError):
            target.execute("SELECT * FROM log")
        source.backup(target)
        assert target.execute("SELECT * FROM log").fetchall() == []


def restores_another_database(stage: Stage) -> None:
    """Deserialize where it is right."""
    with contextlib.closing(sqlite3.connect(":memory:")) as conn:
        conn.deserialize(EMPTY)
        assert conn.execute(READ).fetchall() == []
        with contextlib.suppress(sqlite3.OperationalError):
            conn.execute("SELECT * FROM log")
    with opened(stage) as conn:
        assert conn.serialize()


def holds_a_cursor_in_a_generator(stage: Stage) -> None:
    """Let a generator hold a cursor, and end it."""
    with opened(stage) as conn:

        def rows() -> Generator[object]:
            yield from conn.execute(READ)

        started = rows()
        next(started)
        started.close()
        assert len(list(rows())) == ORDERS


def breaks_out_of_a_loop(stage: Stage) -> None:
    """Leave a loop over a cursor early."""
    with opened(stage) as conn:
        for _ in conn.execute(READ):
            break
        assert conn.execute(READ).fetchone()


def pools(stage: Stage) -> None:
    """Keep connections in a pool that outlives the test."""
    engine = sa.create_engine(stage.url, poolclass=sa.pool.QueuePool)
    stage.cleanups.callback(engine.dispose)
    for _ in range(3):
        with engine.connect() as conn:
            assert conn.execute(sa.text(COUNT)).scalar() == ORDERS


def uses_an_async_engine(stage: Stage) -> None:
    """Delete and read on an event loop."""

    async def main() -> None:
        engine = create_async_engine(stage.url.replace("sqlite:", "sqlite+aiosqlite:", 1))
        async with engine.begin() as conn:
            await conn.execute(sa.text("DELETE FROM orders"))
        async with engine.connect() as conn:
            assert (await conn.execute(sa.text(READ))).all() == []
        await engine.dispose()

    asyncio.run(main())


def nests_by_orm(stage: Stage) -> None:
    """Roll a nested transaction back."""
    engine = sa.create_engine(stage.url)
    with Session(engine) as session:
        with session.begin_nested() as nested:
            session.execute(sa.delete(Order))
            nested.rollback()
        assert session.scalars(sa.select(Order)).first() is not None
        session.rollback()
    engine.dispose()


def reads_what_is_empty(stage: Stage) -> None:
    """Read a table that has no rows in the golden database either."""
    with opened(stage) as conn:
        assert conn.execute("SELECT * FROM empty").fetchall() == []
        assert conn.execute("SELECT * FROM orders WHERE id = -1").fetchall() == []


def retries(stage: Stage) -> None:
    """Meet a lock, and get over it."""
    with opened(stage) as holder, opened(stage, timeout=0) as conn:
        holder.execute("DELETE FROM pairs")
        for _ in range(3):
            try:
                conn.execute("INSERT INTO pairs VALUES ('c', 'd')")
                break
            except sqlite3.OperationalError:
                holder.rollback()
        conn.commit()


def retries_on_another_connection(stage: Stage) -> None:
    """Meet a lock, and try again on a new connection."""
    with opened(stage) as holder:
        holder.execute("DELETE FROM pairs")
        with opened(stage, timeout=0) as conn, contextlib.suppress(sqlite3.OperationalError):
            conn.execute("SELECT * FROM pairs").fetchall()
        holder.rollback()
        with opened(stage) as conn:
            assert conn.execute("SELECT * FROM pairs").fetchall()


def waits_for_a_lock(stage: Stage) -> None:
    """Wait for a writer on another thread."""
    held = threading.Event()

    def write() -> None:
        with opened(stage) as conn:
            conn.execute("DELETE FROM pairs")
            held.set()
            time.sleep(0.01)
            conn.rollback()

    thread = threading.Thread(target=write)
    thread.start()
    held.wait(30)
    with opened(stage) as conn:
        assert conn.execute("SELECT * FROM pairs").fetchall()
    thread.join()


def drops_and_asks(stage: Stage) -> None:
    """Ask for what was dropped, renamed and made anew."""
    with opened(stage) as conn:
        conn.executescript(
            "DROP VIEW totals; DROP TABLE pairs; ALTER TABLE customers RENAME COLUMN name TO nom;"
            "CREATE TABLE pairs(x);"
        )
        for statement in (
            "SELECT * FROM totals",
            "SELECT a FROM pairs",
            "SELECT name FROM customers",
        ):
            with contextlib.suppress(sqlite3.OperationalError):
                conn.execute(statement)
        assert conn.execute("SELECT * FROM pairs").fetchall() == []


def mistypes(stage: Stage) -> None:
    """Ask for what no database has."""
    with opened(stage) as conn:
        for statement in (
            "SELECT name FROM orders",
            "SELECT * FROM nowhere",
            "SELECT * FROM temp.customers",
            "SELECT FROM",
        ):
            with contextlib.suppress(sqlite3.OperationalError):
                conn.execute(statement)


def rolls_back_on_farm_db(stage: Stage) -> None:
    """Leave uncommitted rows on the connection of farm_db."""
    conn = stage.databases.open_fixture(stage.ring)
    conn.execute("DELETE FROM orders")
    assert conn.execute(READ).fetchall() == []
    stage.databases.close_fixture(conn)


def sets_callbacks(stage: Stage) -> None:
    """Have every callback, and see the program's own statements in them only."""
    traced: list[str] = []
    with opened(stage) as conn:
        conn.set_trace_callback(traced.append)
        conn.set_authorizer(lambda *_: sqlite3.SQLITE_OK)
        conn.set_progress_handler(lambda: 0, 100)
        conn.create_function("twice", 1, lambda value: 2 * value)
        conn.row_factory = sqlite3.Row
        assert conn.execute("SELECT twice(2) AS n").fetchone()["n"] == 4
        conn.execute("DELETE FROM orders")
        assert conn.execute(READ).fetchall() == []
        conn.commit()
        conn.set_authorizer(None)
    assert [line.split()[0] for line in traced] == ["SELECT", "BEGIN", "DELETE", "SELECT", "COMMIT"]


def reads_uncommitted(stage: Stage) -> None:
    """Read uncommitted what is committed later."""
    with opened(stage) as writer, opened(stage) as reader:
        reader.execute("PRAGMA read_uncommitted = 1")
        writer.execute("DELETE FROM orders")
        assert reader.execute(COUNT).fetchone() == (0,)
        writer.commit()


def starts_threads(stage: Stage) -> None:
    """Start threads, and join them."""
    threads = [threading.Thread(target=sql(READ), args=(stage,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def runs_a_program(stage: Stage) -> None:
    """Run a program that knows nothing of the ring."""
    del stage
    subprocess.run([sys.executable, "-S", "-c", ""], check=True)


def gives_a_copy(stage: Stage) -> None:
    """Do as the remedy for other processes says: give them a file made by backup()."""
    counting = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute(sys.argv[2]))"
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "copy.sqlite"))
        with opened(stage) as conn, contextlib.closing(sqlite3.connect(path)) as copy:
            conn.backup(copy)
        command = [sys.executable, "-S", "-c", counting, path, COUNT]
        found = subprocess.run(command, check=True, capture_output=True, text=True)
    assert found.stdout == f"({ORDERS},)\n"


def copies_to_a_file(stage: Stage) -> None:
    """Write the ring to a file, and read it there."""
    with tempfile.TemporaryDirectory() as folder, opened(stage) as conn:
        path = str(Path(folder, "copy.sqlite"))
        conn.execute("VACUUM INTO ?", (path,))
        with contextlib.closing(sqlite3.connect(path)) as copy:
            assert copy.execute(COUNT).fetchone() == (ORDERS,)


def backs_up(stage: Stage) -> None:
    """Copy the ring into memory, and change the copy."""
    with contextlib.closing(sqlite3.connect(":memory:")) as copy, opened(stage) as conn:
        conn.backup(copy)
        copy.execute("DELETE FROM orders")
        assert copy.execute(READ).fetchall() == []
        copy.commit()


def writes_in_autocommit(stage: Stage) -> None:
    """Close a connection that never has a transaction."""
    with opened(stage, isolation_level=None) as conn:
        conn.execute("INSERT INTO pairs VALUES ('p', 'q')")


def changes_nothing(stage: Stage) -> None:
    """Close a connection in a transaction whose statements have found no row to change."""
    with opened(stage) as conn:
        conn.execute("UPDATE orders SET total = 1 WHERE id < 0")
        assert conn.execute("DELETE FROM orders WHERE id < 0 RETURNING id").fetchall() == []
        assert conn.in_transaction


def vacuums(stage: Stage) -> None:
    """Rewrite the whole database."""
    with opened(stage, isolation_level=None) as conn:
        conn.execute("VACUUM")
        conn.execute("ANALYZE")
        conn.execute("REINDEX")
        assert conn.execute(COUNT).fetchone() == (ORDERS,)


def resets(stage: Stage) -> None:
    """Reset the ring in the middle of a test."""
    deletes(stage)
    sql(READ)(stage)
    stage.ring.reset()
    with opened(stage) as conn:
        assert conn.execute(COUNT).fetchone() == (ORDERS,)


ANYWHERE: list[Callable[[Stage], None]] = [
    removes_by_script,
    removes_one_by_one,
    removes_on_another_thread,
    removes_by_backup,
    removes_on_a_loop,
    removes_by_orm,
    rolls_back,
    fails_and_rolls_back,
    uses_temporary_tables,
    attaches_memory,
    uses_savepoints,
    reads_only,
    uses_two_databases,
    migrates_another_database,
    migrates_a_file,
    copies_what_it_missed,
    restores_another_database,
    holds_a_cursor_in_a_generator,
    breaks_out_of_a_loop,
    pools,
    uses_an_async_engine,
    nests_by_orm,
    reads_what_is_empty,
    retries,
    retries_on_another_connection,
    waits_for_a_lock,
    drops_and_asks,
    mistypes,
    rolls_back_on_farm_db,
    sets_callbacks,
    starts_threads,
    runs_a_program,
    gives_a_copy,
    backs_up,
    writes_in_autocommit,
    changes_nothing,
    vacuums,
    resets,
]

CASES = [
    *(
        Case(f"removes-{name}-{policy}", (), removes(*statements), policy=policy)
        for name, statements in REMOVALS.items()
        for policy in (ResetPolicy.TEST, ResetPolicy.MODULE)
    ),
    *(case for program in ANYWHERE for case in anywhere(program.__name__, program)),
    Case("attaches_the_ring", (), attaches_the_ring),
    Case("copies_to_a_file", (), copies_to_a_file),
    Case("reads_uncommitted", (), reads_uncommitted),
]
