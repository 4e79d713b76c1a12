"""Faults: locks met, dirty reads; transactions, cursors, connections and threads left open."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sqlite3
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor

import aiosqlite
import sqlalchemy as sa
from sqlalchemy.orm import Session

from snapfarm_worker.anomaly import AnomalyKind
from snapfarm_worker.ring import ResetPolicy, RingKind
from support.corpus.empty_reads import Order, sql
from support.corpus.stage import Case, Program, Stage, opened

K = AnomalyKind
INSERT = "INSERT INTO orders(customer, total) VALUES (1, 1)"
READ = "SELECT * FROM orders"


def kept(stage: Stage, **options: object) -> sqlite3.Connection:
    """Return a connection that the test leaves open; it is closed after everything."""
    conn: sqlite3.Connection = sqlite3.connect(stage.uri, uri=True, **options)  # type: ignore[call-overload]  # options of sqlite3.connect
    stage.cleanups.callback(conn.close)
    return conn


# ---------------------------------------------------------------- locks


def meets_a_lock(stage: Stage, statement: str, holding: str = "DELETE FROM orders") -> None:
    """Meet the lock of another connection, and swallow the error."""
    with opened(stage) as holder, opened(stage, timeout=0) as conn:
        holder.execute(holding)
        with contextlib.suppress(sqlite3.OperationalError):
            conn.execute(statement).fetchall()
        conn.rollback()
        holder.rollback()


def meets_a_lock_of_a_thread(stage: Stage) -> None:
    """Meet the lock of another thread, which waits for something else."""
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with opened(stage) as conn:
            conn.execute("DELETE FROM orders")
            held.set()
            done.wait(30)
            conn.rollback()

    thread = threading.Thread(target=hold, name="holder-3")
    thread.start()
    held.wait(30)
    with opened(stage, timeout=0) as conn, contextlib.suppress(sqlite3.OperationalError):
        conn.execute(INSERT)
    done.set()
    thread.join()


def meets_a_lock_by_orm(stage: Stage) -> None:
    """Meet a lock in a flush."""
    engine = sa.create_engine(stage.url, connect_args={"timeout": 0})
    with Session(engine) as holder, Session(engine) as session:
        holder.execute(sa.delete(Order))
        session.add(Order(customer=1, total=2))
        with contextlib.suppress(sa.exc.OperationalError):
            session.flush()
        session.rollback()
        holder.rollback()
    engine.dispose()


def meets_a_lock_on_a_loop(stage: Stage) -> None:
    """Meet a lock of another connection of the same loop."""

    async def main() -> None:
        async with (
            aiosqlite.connect(stage.uri, uri=True) as holder,
            aiosqlite.connect(stage.uri, uri=True, timeout=0) as conn,
        ):
            await holder.execute("DELETE FROM orders")
            with contextlib.suppress(sqlite3.OperationalError):
                await conn.execute(INSERT)
            await conn.rollback()
            await holder.rollback()

    asyncio.run(main())


def meets_a_cursors_lock(stage: Stage) -> None:
    """Meet the lock of a cursor that nobody has read to its end."""
    with opened(stage) as reader, opened(stage, timeout=0) as conn:
        cursor = reader.execute(READ)
        cursor.fetchone()
        with contextlib.suppress(sqlite3.OperationalError):
            conn.execute(INSERT)
        cursor.close()
        conn.rollback()


# ---------------------------------------------------------------- dirty reads


def reads_dirty(
    stage: Stage,
    undo: Callable[[sqlite3.Connection], object] = lambda conn: conn.rollback(),
    read: str = READ,
    write: str = INSERT,
) -> None:
    """Read what is rolled back later."""
    with opened(stage) as writer, opened(stage) as reader:
        reader.execute("PRAGMA read_uncommitted = 1")
        writer.execute(write).fetchall()
        reader.execute(read).fetchall()
        with contextlib.suppress(ValueError):
            undo(writer)


def fails_in_a_block(conn: sqlite3.Connection) -> None:
    """Let a `with` block roll back."""
    with conn:
        raise ValueError


def reads_dirty_by_engine(stage: Stage) -> None:
    """Read uncommitted as SQLAlchemy calls it."""
    engine = sa.create_engine(stage.url)
    dirty = engine.execution_options(isolation_level="READ UNCOMMITTED")
    with engine.connect() as writer, dirty.connect() as reader:
        writer.execute(sa.text(INSERT))
        reader.execute(sa.text("SELECT count(*) FROM orders")).all()
        writer.rollback()
    engine.dispose()


def reads_dirty_in_a_thread(stage: Stage) -> None:
    """Read uncommitted on another thread."""

    def read() -> None:
        with opened(stage) as conn:
            conn.execute("PRAGMA read_uncommitted(true)")
            conn.execute(READ).fetchall()

    with opened(stage) as writer:
        writer.execute(INSERT)
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
        writer.rollback()


# ---------------------------------------------------------------- left open


def leaves_a_transaction(stage: Stage, statements: tuple[str, ...]) -> None:
    """End in the middle of a transaction."""
    conn = kept(stage)
    for statement in statements:
        conn.execute(statement)


def leaves_a_transaction_of_an_engine(stage: Stage) -> None:
    """Keep a session with flushed objects."""
    engine = sa.create_engine(stage.url)
    session = Session(engine)
    stage.cleanups.callback(engine.dispose)
    stage.cleanups.callback(session.close)
    session.execute(sa.delete(Order))


def leaves_a_transaction_of_a_thread(stage: Stage) -> None:
    """Begin on a thread that has ended."""
    opened_there: list[sqlite3.Connection] = []

    def work() -> None:
        conn = sqlite3.connect(stage.uri, uri=True, check_same_thread=False)
        conn.execute("DELETE FROM pairs")
        opened_there.append(conn)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    stage.cleanups.callback(opened_there[0].close)


def leaves_the_fixtures_transaction(stage: Stage) -> None:
    """Say BEGIN on the connection of farm_db."""
    conn = stage.databases.open_fixture(stage.ring)
    conn.execute("BEGIN")
    stage.databases.close_fixture(conn)


def leaves_the_fixtures_savepoint(stage: Stage) -> None:
    """Leave a savepoint open on the connection of farm_db."""
    conn = stage.databases.open_fixture(stage.ring)
    conn.execute("SAVEPOINT one")
    conn.execute("DELETE FROM pairs")
    stage.databases.close_fixture(conn)


def leaves_a_cursor(stage: Stage, read: Callable[[sqlite3.Cursor], object]) -> None:
    """Keep a cursor with rows to fetch."""
    conn = kept(stage)
    cursor = conn.execute(READ)
    read(cursor)
    stage.cleanups.callback(cursor.close)


def leaves_a_generator(stage: Stage) -> None:
    """Keep a generator that has not come to its end."""
    conn = kept(stage)

    def rows() -> Generator[object]:
        yield from conn.execute(READ)

    started = rows()
    next(started)
    stage.cleanups.callback(started.close)


def leaves_a_closed_connections_cursor(stage: Stage) -> None:
    """Close the connection, and keep its cursor."""
    conn = sqlite3.connect(stage.uri, uri=True)
    cursor = conn.execute(READ)
    cursor.fetchone()
    conn.close()
    stage.cleanups.push(lambda *_: cursor is None)


def leaves_a_threads_cursor(stage: Stage) -> None:
    """Keep a cursor of a thread that has ended."""
    kept_there: list[sqlite3.Cursor] = []

    def work() -> None:
        conn = sqlite3.connect(stage.uri, uri=True, check_same_thread=False)
        stage.cleanups.callback(conn.close)
        kept_there.append(conn.execute(READ))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    stage.cleanups.callback(kept_there[0].close)


def leaves_a_result(stage: Stage) -> None:
    """Keep a result of SQLAlchemy's that streams."""
    engine = sa.create_engine(stage.url)
    conn = engine.connect()
    stage.cleanups.callback(engine.dispose)
    stage.cleanups.callback(conn.close)
    driver = conn.connection.driver_connection
    assert driver is not None
    cursor = driver.execute(READ)
    cursor.fetchone()
    stage.cleanups.callback(cursor.close)


def drops_a_connection(stage: Stage, use: Callable[[sqlite3.Connection], object]) -> None:
    """Use a connection and never close it."""
    use(sqlite3.connect(stage.uri, uri=True))


def drops_in_a_cycle(stage: Stage) -> None:
    """Drop a connection that only the garbage collector can free."""
    holder: dict[str, object] = {"conn": sqlite3.connect(stage.uri, uri=True)}
    holder["self"] = holder


def misuses_with(stage: Stage) -> None:
    """Believe that `with` closes a connection."""
    with sqlite3.connect(stage.uri, uri=True) as conn:
        conn.execute(READ).fetchall()


def drops_on_a_thread(stage: Stage) -> None:
    """Drop a connection on a thread."""
    thread = threading.Thread(target=misuses_with, args=(stage,))
    thread.start()
    thread.join()


class Repository:
    """An object with a connection, and no way to close it."""

    def __init__(self, uri: str) -> None:
        self.conn = sqlite3.connect(uri, uri=True)

    def count(self) -> int:
        """Return how many orders there are."""
        return int(self.conn.execute("SELECT count(*) FROM orders").fetchone()[0])


def drops_an_object(stage: Stage) -> None:
    """Drop an object that has a connection."""
    assert Repository(stage.uri).count() == 200


def let_run(stage: Stage, first: Callable[[], object] = bool, *, daemon: bool = False) -> None:
    """Start a thread that does something, and then runs until all is over."""
    running, done = threading.Event(), threading.Event()

    def work() -> None:
        first()
        running.set()
        done.wait(30)

    thread = threading.Thread(target=work, name="poller", daemon=daemon)
    thread.start()
    running.wait(30)
    stage.cleanups.callback(thread.join)
    stage.cleanups.callback(done.set)


def leaves_a_thread(stage: Stage, *, daemon: bool = False) -> None:
    """Let a thread run on."""
    let_run(stage, daemon=daemon)


def leaves_a_connected_thread(stage: Stage) -> None:
    """Let a thread run on that is connected."""
    conns: list[sqlite3.Connection] = []
    let_run(stage, lambda: conns.append(kept(stage, check_same_thread=False)))


def leaves_an_executor(stage: Stage) -> None:
    """Do not shut an executor down."""
    executor = ThreadPoolExecutor(1)
    executor.submit(sql(READ), stage).result()
    stage.cleanups.callback(executor.shutdown)


def leaves_a_timer(stage: Stage) -> None:
    """Leave a timer running."""
    timer = threading.Timer(300, print)
    timer.start()
    stage.cleanups.callback(timer.join)
    stage.cleanups.callback(timer.cancel)


class Worker(threading.Thread):
    """A thread of a class of the program's own."""

    def __init__(self) -> None:
        super().__init__(name="own")
        self.done = threading.Event()

    def run(self) -> None:
        """Wait."""
        self.done.wait(30)


def leaves_a_thread_of_its_own_class(stage: Stage) -> None:
    """Do not stop a worker."""
    worker = Worker()
    worker.start()
    stage.cleanups.callback(worker.join)
    stage.cleanups.callback(worker.done.set)


def exhausts(cursor: sqlite3.Cursor) -> None:
    """Fetch one row only, after all."""
    cursor.fetchmany(3)


CURSORS: dict[str, Program] = {
    "cursor-unread": functools.partial(leaves_a_cursor, read=lambda cursor: None),
    "cursor-one-row": functools.partial(leaves_a_cursor, read=sqlite3.Cursor.fetchone),
    "cursor-some": functools.partial(leaves_a_cursor, read=exhausts),
    "cursor-generator": leaves_a_generator,
    "cursor-closed-connection": leaves_a_closed_connections_cursor,
    "cursor-result": leaves_a_result,
    "cursor-thread": leaves_a_threads_cursor,
}

CASES = [
    Case("lock-insert", (K.LOCK_ERROR,), functools.partial(meets_a_lock, statement=INSERT)),
    Case("lock-select", (K.LOCK_ERROR,), functools.partial(meets_a_lock, statement=READ)),
    Case(
        "lock-memdb",
        (K.LOCK_ERROR,),
        functools.partial(meets_a_lock, statement=INSERT),
        ring=RingKind.MEMDB,
    ),
    Case(
        "lock-schema",
        (K.LOCK_ERROR,),
        functools.partial(meets_a_lock, statement="DROP TABLE orders"),
    ),
    *(
        Case(program.__name__, (K.LOCK_ERROR,), program)
        for program in (
            meets_a_lock_of_a_thread,
            meets_a_lock_by_orm,
            meets_a_lock_on_a_loop,
            meets_a_cursors_lock,
        )
    ),
    Case("dirty-rollback", (K.DIRTY_READ,), reads_dirty, table="orders"),
    Case(
        "dirty-close",
        (K.DIRTY_READ, K.LOST_WRITE),
        functools.partial(reads_dirty, undo=lambda conn: conn.close()),
    ),
    Case(
        "dirty-sql",
        (K.DIRTY_READ,),
        functools.partial(reads_dirty, undo=lambda conn: conn.execute("ROLLBACK")),
    ),
    Case("dirty-block", (K.DIRTY_READ,), functools.partial(reads_dirty, undo=fails_in_a_block)),
    Case(
        "dirty-view",
        (K.DIRTY_READ,),
        functools.partial(reads_dirty, read="SELECT * FROM totals", write="DELETE FROM orders"),
    ),
    Case(
        "dirty-trigger", (K.DIRTY_READ,), functools.partial(reads_dirty, read="SELECT * FROM log")
    ),
    Case(
        "dirty-returning",
        (K.DIRTY_READ,),
        functools.partial(reads_dirty, write="DELETE FROM orders RETURNING id"),
    ),
    Case("reads_dirty_by_engine", (K.DIRTY_READ,), reads_dirty_by_engine),
    Case("reads_dirty_in_a_thread", (K.DIRTY_READ,), reads_dirty_in_a_thread),
    *(
        Case(
            f"transaction-{statements[0].split()[0]}-{policy}",
            (K.LEAKED_TRANSACTION,),
            functools.partial(leaves_a_transaction, statements=statements),
            policy=policy,
        )
        for statements in (("BEGIN",), (INSERT,), ("SAVEPOINT x", "DELETE FROM orders"))
        for policy in (ResetPolicy.TEST, ResetPolicy.MODULE)
    ),
    *(
        Case(program.__name__, (K.LEAKED_TRANSACTION,), program)
        for program in (
            leaves_a_transaction_of_an_engine,
            leaves_a_transaction_of_a_thread,
            leaves_the_fixtures_transaction,
            leaves_the_fixtures_savepoint,
        )
    ),
    *(
        Case(f"{name}-{policy}", (K.LEAKED_CURSOR,), program, policy=policy, ring=ring)
        for name, program in CURSORS.items()
        for policy, ring in (
            (ResetPolicy.TEST, RingKind.SHARED_CACHE),
            (ResetPolicy.NEVER, RingKind.SHARED_CACHE),
            (ResetPolicy.MODULE, RingKind.MEMDB),
        )
    ),
    Case(
        "connection-used",
        (K.LEAKED_CONNECTION,),
        functools.partial(drops_a_connection, use=lambda conn: conn.execute(READ).fetchall()),
    ),
    Case(
        "connection-unused",
        (K.LEAKED_CONNECTION,),
        functools.partial(drops_a_connection, use=lambda conn: None),
    ),
    *(
        Case(program.__name__, (K.LEAKED_CONNECTION,), program)
        for program in (drops_in_a_cycle, misuses_with, drops_on_a_thread, drops_an_object)
    ),
    Case("thread", (K.LEAKED_THREAD,), leaves_a_thread),
    Case("thread-daemon", (K.LEAKED_THREAD,), functools.partial(leaves_a_thread, daemon=True)),
    Case("thread-connected", (K.LEAKED_THREAD,), leaves_a_connected_thread),
    *(
        Case(program.__name__, (K.LEAKED_THREAD,), program)
        for program in (leaves_an_executor, leaves_a_timer, leaves_a_thread_of_its_own_class)
    ),
]
