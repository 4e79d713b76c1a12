"""Faults: other databases, other processes, rings that are gone, snapshots that do not match."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import aiosqlite
import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from snapfarm_worker.anomaly import AnomalyKind, Severity
from snapfarm_worker.ring import RingKind
from snapfarm_worker.snapshot import Snapshot, TableInfo
from support.corpus.empty_reads import Order
from support.corpus.stage import GOLDEN, Case, Stage, opened

K = AnomalyKind
READ = "SELECT * FROM orders"

# ---------------------------------------------------------------- the wrong database


def asks(database: str, statement: str = READ, **options: object) -> None:
    """Ask a database for a table, and take no table for no rows."""
    conn: sqlite3.Connection = sqlite3.connect(database, **options)  # type: ignore[call-overload]  # options of sqlite3.connect
    with contextlib.closing(conn), contextlib.suppress(sqlite3.OperationalError):
        conn.execute(statement).fetchall()


def asks_a_new_file(stage: Stage) -> None:
    """Ask a file that did not exist."""
    del stage
    with tempfile.TemporaryDirectory() as folder:
        asks(str(Path(folder, "app.sqlite")))


def asks_by_orm(stage: Stage) -> None:
    """Ask an engine of SQLAlchemy's on nothing."""
    del stage
    engine = sa.create_engine("sqlite://")
    with Session(engine) as session, contextlib.suppress(sa.exc.OperationalError):
        session.scalars(sa.select(Order)).all()
    engine.dispose()


def asks_on_a_loop(stage: Stage) -> None:
    """Ask with aiosqlite."""
    del stage

    async def main() -> None:
        async with aiosqlite.connect(":memory:") as conn:
            with contextlib.suppress(sqlite3.OperationalError):
                await conn.execute_fetchall("SELECT count(*) FROM customers")

    asyncio.run(main())


def asks_a_misspelt_ring(stage: Stage) -> None:
    """Ask a name that is nearly the ring's."""
    asks(stage.uri.replace("default", "defualt"), uri=True)


def asks_without_the_cache(stage: Stage) -> None:
    """Forget one of the address's parameters."""
    asks(stage.uri.replace("&cache=shared", ""), uri=True)


def makes_tables_in_a_misspelt_ring(stage: Stage) -> None:
    """Make the schema in a name that is nearly the ring's, and read there."""
    uri = stage.uri.replace("default", "default2")
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as conn:
        conn.execute("CREATE TABLE orders(id)")
        assert conn.execute(READ).fetchall() == []


def writes_to_a_misspelt_ring(stage: Stage) -> None:
    """Write to a name that is nearly the ring's."""
    uri = stage.uri.replace("default", "default-1")
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as conn:
        conn.execute("CREATE TABLE orders(id)")
        conn.execute("INSERT INTO orders VALUES (1)")
        conn.commit()


# ---------------------------------------------------------------- rings that are gone


def connections_of(stage: Stage) -> list[sqlite3.Connection]:
    """Return the connections that keep rings alive, as a careless clean-up finds them."""
    del stage
    return [
        each
        for each in gc.get_objects()
        if type(each) is sqlite3.Connection and _is_of_a_ring(each)
    ]


def _is_of_a_ring(conn: sqlite3.Connection) -> bool:
    try:
        return any(name == "orders" for (name,) in conn.execute("SELECT name FROM sqlite_schema"))
    except sqlite3.Error:
        return False


def sentinel_of(stage: Stage) -> sqlite3.Connection:
    """Return the connection that keeps the ring alive."""
    sentinel = stage.ring._sentinel
    assert sentinel is not None
    return sentinel._conn


def closes_what_it_finds(stage: Stage) -> None:
    """Close all connections that there are."""
    own = sentinel_of(stage)
    for conn in connections_of(stage):
        if conn is own:
            conn.close()


def closes_the_keeper(stage: Stage) -> None:
    """Close the ring's own connection, and connect again."""
    sentinel_of(stage).close()
    with opened(stage) as conn, contextlib.suppress(sqlite3.OperationalError):
        conn.execute(READ)


def closes_the_keeper_while_connected(stage: Stage) -> None:
    """Close the ring's own connection while another one is open."""
    with opened(stage) as conn:
        sentinel_of(stage).close()
        assert conn.execute(READ).fetchall()


def restores_the_keeper(stage: Stage) -> None:
    """Call deserialize() on the ring's own connection."""
    sentinel_of(stage).deserialize(GOLDEN.data)


def closes_the_ring(stage: Stage) -> None:
    """Close the ring as a whole."""
    stage.ring.close()


def closes_the_ring_and_asks(stage: Stage) -> None:
    """Close the ring, and ask what its address means now."""
    stage.ring.close()
    asks(stage.uri, uri=True)


# ---------------------------------------------------------------- other processes


def in_a_fork(work: Callable[[], object]) -> None:
    """Do something in a forked process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads, from 3.12 on
        pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def forks(stage: Stage, statement: str = READ) -> None:
    """Fork, and open the ring in the child."""
    in_a_fork(functools.partial(asks, stage.uri, statement, uri=True))


def forks_a_process(stage: Stage) -> None:
    """Use multiprocessing."""
    process = multiprocessing.get_context("fork").Process(
        target=asks, args=(stage.uri,), kwargs={"uri": True}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    process.join()
    process.close()


def forks_with_an_engine(stage: Stage) -> None:
    """Use an engine in a child."""

    def work() -> None:
        engine = sa.create_engine(stage.url)
        with engine.connect() as conn:
            conn.execute(sa.text(READ)).all()

    in_a_fork(work)


def forks_with_a_connection(stage: Stage) -> None:
    """Use a connection in a child that was opened before the fork."""
    with opened(stage) as conn:
        conn.execute(READ).fetchall()
        in_a_fork(lambda: conn.execute(READ).fetchall())


PYTHON = (
    sys.executable,
    "-S",
    "-c",
    "import sqlite3, sys; sqlite3.connect(sys.argv[-1], uri=True)",
)


def runs(stage: Stage) -> None:
    """Give the address to another program."""
    subprocess.run([*PYTHON, stage.uri], check=True)


def runs_with_a_variable(stage: Stage) -> None:
    """Give the address to another program in a variable."""
    environment = dict(os.environ, DATABASE_URL=stage.uri)
    subprocess.run([sys.executable, "-S", "-c", ""], env=environment, check=True)


def runs_in_a_shell(stage: Stage) -> None:
    """Give the address to a shell."""
    assert os.system(f"true '{stage.uri}'") == 0


def spawns(stage: Stage) -> None:
    """Spawn a program."""
    pid = os.posix_spawn("/bin/true", ["true", stage.uri], os.environ)
    os.waitpid(pid, 0)


def runs_on_a_loop(stage: Stage) -> None:
    """Give the address to a program of asyncio's."""

    async def main() -> None:
        process = await asyncio.create_subprocess_exec("true", stage.uri)
        await process.wait()

    asyncio.run(main())


def spawns_by_multiprocessing(stage: Stage) -> None:
    """Give the address to a process of multiprocessing's that is not forked."""
    process = multiprocessing.get_context("spawn").Process(target=print, args=({"at": stage.uri},))
    process.start()
    process.join()
    process.close()


def spawns_a_pool(stage: Stage) -> None:
    """Give the address to processes of a pool that are not forked."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        assert list(pool.map(len, [stage.uri])) == [len(stage.uri)]


# ---------------------------------------------------------------- snapshots


def mismatched(**changes: object) -> Snapshot:
    """Return the golden snapshot with a manifest that says something else."""
    manifest = msgspec.structs.replace(GOLDEN.manifest, **changes)
    return Snapshot(manifest, GOLDEN.data)


def with_rows(table: str, rows: int) -> tuple[TableInfo, ...]:
    """Return the golden tables, one of them with another number of rows."""
    return tuple(
        msgspec.structs.replace(each, rows=rows) if each.name == table else each
        for each in GOLDEN.manifest.tables
    )


def does_nothing(stage: Stage) -> None:
    """Do nothing."""
    del stage


class _Asking:
    def __init__(self, database: str, statement: str = READ, **options: object) -> None:
        self._ask = functools.partial(asks, database, statement, **options)

    def __call__(self, stage: Stage) -> None:
        del stage
        self._ask()


CASES = [
    Case("wrong-memory", (K.WRONG_DATABASE,), _Asking(":memory:"), table="orders"),
    Case("wrong-temporary", (K.WRONG_DATABASE,), _Asking("")),
    Case("wrong-view", (K.WRONG_DATABASE,), _Asking(":memory:", "SELECT * FROM totals")),
    Case(
        "wrong-insert", (K.WRONG_DATABASE,), _Asking(":memory:", "INSERT INTO pairs VALUES (1,2)")
    ),
    Case("wrong-uri", (K.WRONG_DATABASE,), _Asking("file:app?mode=memory&cache=shared", uri=True)),
    *(
        Case(program.__name__, (K.WRONG_DATABASE,), program)
        for program in (
            asks_a_new_file,
            asks_by_orm,
            asks_on_a_loop,
            asks_a_misspelt_ring,
            makes_tables_in_a_misspelt_ring,
        )
    ),
    Case("asks_without_the_cache", (K.WRONG_DATABASE,), asks_without_the_cache),
    Case("writes_to_a_misspelt_ring", (K.LOST_WRITE,), writes_to_a_misspelt_ring),
    *(
        Case(f"{program.__name__}-{kind}", (K.RING_VANISHED,), program, ring=kind)
        for program in (
            closes_what_it_finds,
            closes_the_keeper,
            closes_the_keeper_while_connected,
            restores_the_keeper,
            closes_the_ring,
            closes_the_ring_and_asks,
        )
        for kind in (RingKind.SHARED_CACHE, RingKind.MEMDB)
    ),
    *(
        Case(program.__name__, (K.FOREIGN_PROCESS,), program)
        for program in (
            forks,
            forks_a_process,
            forks_with_an_engine,
            forks_with_a_connection,
        )
    ),
    *(
        # What such a process does with the address, nobody knows.
        Case(program.__name__, (K.FOREIGN_PROCESS,), program, severity=Severity.WARNING)
        for program in (
            runs,
            runs_with_a_variable,
            runs_in_a_shell,
            spawns,
            runs_on_a_loop,
            spawns_by_multiprocessing,
            spawns_a_pool,
        )
    ),
    *(
        Case(f"mismatch-{name}", (K.SNAPSHOT_MISMATCH,), does_nothing, snapshot=snapshot)
        for name, snapshot in {
            "more-rows": mismatched(tables=with_rows("orders", 201)),
            "no-rows": mismatched(tables=with_rows("customers", 0)),
            "another-table": mismatched(
                tables=(*GOLDEN.manifest.tables, TableInfo("bills", "table", 3))
            ),
            "schema": mismatched(schema_digest="0" * 64),
            "user-version": mismatched(user_version=8),
            "application": mismatched(application_id=1),
        }.items()
    ),
]
