"""Programs that use peewee: a fault of each kind that a program can commit with it, and sound ones.

peewee keeps a connection for each thread, in autocommit; only its blocks begin transactions.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import threading
from collections.abc import Callable, Iterator

import peewee

from snapfarm_worker.anomaly import AnomalyKind
from snapfarm_worker.ring import ResetPolicy
from support.corpus.elsewhere import in_a_fork
from support.corpus.empty_reads import EMPTY, deletes, drops, sql, victim
from support.corpus.held import let_run
from support.corpus.lost import uncommitted
from support.corpus.stage import Case, Program, Stage, anywhere
from support.golden import CUSTOMERS, ORDERS

K = AnomalyKind


class Customer(peewee.Model):
    """A customer of the golden database."""

    name = peewee.TextField()

    class Meta:
        """Where it is."""

        table_name = "customers"


class Order(peewee.Model):
    """An order of the golden database."""

    customer = peewee.ForeignKeyField(Customer, column_name="customer", backref="orders")
    total = peewee.FloatField()

    class Meta:
        """Where it is."""

        table_name = "orders"


class Note(peewee.Model):
    """A table that only a test makes."""

    text = peewee.TextField()


MODELS = (Customer, Order, Note)


def raw(database: peewee.SqliteDatabase) -> sqlite3.Connection:
    """Return the connection below, opened if need be."""
    conn = database.connection()  # type: ignore[no-untyped-call]  # peewee's
    assert isinstance(conn, sqlite3.Connection)
    return conn


def in_peewee(
    program: Callable[[Stage, peewee.SqliteDatabase], object],
    *,
    at: str = "",
    closes: bool = True,
    timeout: float = 5,
) -> Program:
    """Return a program of peewee's, on the ring or at another name."""

    @functools.wraps(program)
    def run(stage: Stage) -> None:
        database = peewee.SqliteDatabase(at or stage.uri, uri=True, timeout=timeout)
        stage.cleanups.callback(raw(database).close)
        with database.bind_ctx(MODELS):
            program(stage, database)
        if closes:
            database.close()

    return run


@contextlib.contextmanager
def another(stage: Stage, *, timeout: float = 0) -> Iterator[peewee.SqliteDatabase]:
    """Connect a second time."""
    database = peewee.SqliteDatabase(stage.uri, uri=True, timeout=timeout)
    with contextlib.closing(database):
        yield database


# ---------------------------------------------------------------- faults


def lists(*_: object) -> None:
    """Read objects."""
    assert list(Order.select()) == []


def counts(*_: object) -> None:
    """Let the database count."""
    assert Order.select().count() == 0


def joins(*_: object) -> None:
    """Read customers by their orders."""
    assert list(Customer.select().join(Order).where(Order.total > 1)) == []


def prefetches(*_: object) -> None:
    """Read orders in a statement that peewee adds."""
    assert not any(customer.orders for customer in Customer.select().prefetch(Order))


def gets_or_fails(*_: object) -> None:
    """Miss one object, which is all that the test would tell."""
    assert Order.get_or_none(id=3) is None


def lists_on_a_thread(stage: Stage, database: peewee.SqliteDatabase) -> None:
    """Read on a thread, with a connection of its own."""

    def work() -> None:
        with database.connection_context():
            lists()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def empties(*_: object) -> None:
    """Delete all."""
    Order.delete().execute()


def misses_a_table(*_: object) -> None:
    """Read a table that is not there."""
    with contextlib.suppress(peewee.OperationalError):
        lists()


def leaves_the_ring(stage: Stage, database: peewee.SqliteDatabase) -> None:
    """Restore into peewee's own connection."""
    raw(database).deserialize(EMPTY)
    lists()


def writes_after_leaving(stage: Stage, database: peewee.SqliteDatabase) -> None:
    """Write on a connection that has left the ring."""
    raw(database).deserialize(EMPTY)
    with database.atomic():
        Order.create(customer=1, total=1)


def counts_in_a_fork(*_: object) -> None:
    """Use a connection in a forked process."""
    in_a_fork(Order.select().count)


def meets_a_lock(stage: Stage, database: peewee.SqliteDatabase) -> None:
    """Write while another connection is in a block."""
    with another(stage) as other, database.atomic() as block:
        Order.delete().execute()
        with other.bind_ctx(MODELS), contextlib.suppress(peewee.OperationalError):
            Order.create(customer=1, total=1)
        block.rollback()


def reads_dirty(stage: Stage, database: peewee.SqliteDatabase) -> None:
    """Read what a block rolls back."""
    with another(stage) as other, database.atomic() as block:
        Order.create(customer=1, total=1)
        other.pragma("read_uncommitted", 1)
        with other.bind_ctx(MODELS):
            Order.select().count()
        block.rollback()


def begins(stage: Stage, database: peewee.SqliteDatabase) -> None:
    """Begin by hand."""
    database.begin()
    Order.delete().execute()


def enters_a_block(stage: Stage, database: peewee.SqliteDatabase) -> None:
    """Enter a block by hand, and do not leave it."""
    block = database.atomic()
    block.__enter__()
    stage.cleanups.push(lambda *_: block is None)


def holds_an_iterator(stage: Stage, database: peewee.SqliteDatabase) -> None:
    """Keep an iterator that has not come to its end."""
    rows = Order.select().iterator()
    next(rows)
    stage.cleanups.push(lambda *_: rows is None)


def drops_its_database(stage: Stage, database: peewee.SqliteDatabase) -> None:
    """Connect with an object that nobody closes."""
    other = peewee.SqliteDatabase(stage.uri, uri=True)
    assert raw(other).execute("SELECT count(*) FROM orders").fetchone() == (ORDERS,)


def lets_a_thread_run(stage: Stage, database: peewee.SqliteDatabase) -> None:
    """Let a thread run on."""
    let_run(stage)


def creates(*_: object) -> None:
    """Leave an object."""
    Order.create(customer=1, total=1)


def makes_a_table(stage: Stage, database: peewee.SqliteDatabase) -> None:
    """Leave a table."""
    database.create_tables([Note])


def closes_in_a_transaction(stage: Stage, database: peewee.SqliteDatabase) -> None:
    """Close in a transaction that peewee has not begun, and so does not know of."""
    database.begin()
    Order.create(customer=1, total=1)


# ---------------------------------------------------------------- sound programs


def deletes_and_lists(*_: object) -> None:
    """Delete all, and read."""
    empties()
    lists()
    prefetches()
    gets_or_fails()


def deletes_parents(stage: Stage, database: peewee.SqliteDatabase) -> None:
    """Delete what orders belong to, and with them what belongs to it."""
    for customer in Customer.select():
        customer.delete_instance(recursive=True)
    lists()


def rolls_back_a_block(stage: Stage, database: peewee.SqliteDatabase) -> None:
    """Empty a table in a block, and take it back; within savepoints, too."""
    with database.atomic() as block:
        with database.atomic() as inner:
            empties()
            lists()
            inner.rollback()
        assert Order.select().count() == ORDERS
        empties()
        block.rollback()
    assert Order.select().count() == ORDERS


def refills_in_bulk(stage: Stage, database: peewee.SqliteDatabase) -> None:
    """Replace all objects by new ones."""
    with database.atomic():
        empties()
        Order.bulk_create([Order(customer=1, total=n) for n in range(300)], batch_size=50)
        Order.insert(id=1, customer=1, total=1).on_conflict_ignore().execute()
        Order.insert(id=1, customer=2, total=1).on_conflict_replace().execute()
    assert Order.select().join(Customer).count() == 300


def uses_threads(stage: Stage, database: peewee.SqliteDatabase) -> None:
    """Delete on threads that close their connections."""

    def work() -> None:
        with database.connection_context(), database.atomic():
            empties()
            lists()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lists()


def makes_and_drops(stage: Stage, database: peewee.SqliteDatabase) -> None:
    """Make a table where there is none, and drop it."""
    assert "note" not in database.get_tables()
    database.create_tables([Note, Customer], safe=True)
    assert list(Note.select()) == []
    database.drop_tables([Note])
    assert Customer.select().count() == CUSTOMERS


_ALONE: tuple[tuple[AnomalyKind, Program], ...] = (
    (K.WRONG_DATABASE, in_peewee(misses_a_table, at=":memory:")),
    (K.FOREIGN_PROCESS, in_peewee(counts_in_a_fork)),
    (K.LOCK_ERROR, in_peewee(meets_a_lock)),
    (K.DIRTY_READ, in_peewee(reads_dirty)),
    (K.LEAKED_TRANSACTION, in_peewee(begins, closes=False)),
    (K.LEAKED_TRANSACTION, in_peewee(enters_a_block, closes=False)),
    (K.LEAKED_CURSOR, in_peewee(holds_an_iterator)),
    (K.LEAKED_CONNECTION, in_peewee(drops_its_database)),
    (K.LEAKED_THREAD, in_peewee(lets_a_thread_run)),
)
_READERS = (lists, counts, joins, prefetches, gets_or_fails, lists_on_a_thread)
_SOUND = (
    deletes_and_lists,
    deletes_parents,
    rolls_back_a_block,
    refills_in_bulk,
    uses_threads,
    makes_and_drops,
)

FAULTS = [
    *(victim(f"peewee-{reader.__name__}", in_peewee(reader), deletes) for reader in _READERS),
    victim("after-peewee", sql("SELECT * FROM orders"), in_peewee(empties)),
    Case(
        "peewee-dropped",
        (K.MISSING_TABLE,),
        in_peewee(misses_a_table),
        (drops,),
        ResetPolicy.MODULE,
    ),
    Case("peewee-leaves", (K.LEFT_RING, K.EMPTY_TABLE_READ), in_peewee(leaves_the_ring)),
    Case("peewee-writes-after", (K.LEFT_RING, K.LOST_WRITE), in_peewee(writes_after_leaving)),
    uncommitted("peewee-closes", in_peewee(closes_in_a_transaction)),
    *(Case(f"peewee-{program.__name__}", (kind,), program) for kind, program in _ALONE),
    Case("peewee-creates", (K.LEAKED_WRITE,), in_peewee(creates), policy=ResetPolicy.MODULE),
    Case("peewee-schema", (K.SCHEMA_CHANGE,), in_peewee(makes_a_table), policy=ResetPolicy.NEVER),
]
CLEAN = [
    case
    for program in _SOUND
    for case in anywhere(f"peewee-{program.__name__}", in_peewee(program))
]
