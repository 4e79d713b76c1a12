"""Faults of programs that use Django's ORM."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sqlite3
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from snapfarm_worker.anomaly import AnomalyKind
from snapfarm_worker.ring import ResetPolicy, RingKind
from support.corpus.elsewhere import in_a_fork
from support.corpus.empty_reads import EMPTY, deletes, drops, renames_a_column, sql, victim
from support.corpus.held import let_run
from support.corpus.lost import uncommitted
from support.corpus.stage import Case, Program, Stage

if TYPE_CHECKING:
    from support.corpus.django_models import Shop

K = AnomalyKind


def in_django(program: Callable[[Shop], object], *, at: str = "", **options: object) -> Program:
    """Return a program of Django's, on the ring or at another name, with settings OPTIONS."""

    @functools.wraps(program)
    def run(stage: Stage) -> None:
        from support.corpus.django_models import Shop  # configures Django in this process

        program(Shop(stage, at or stage.uri, options))

    return run


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """Swallow what Django makes of SQLite's errors."""
    from django.db import DatabaseError

    with contextlib.suppress(DatabaseError):
        yield


# ---------------------------------------------------------------- reads


def lists(shop: Shop) -> None:
    """Read objects."""
    assert list(shop.orders.all()) == []


def counts(shop: Shop) -> None:
    """Let the database count."""
    assert shop.orders.count() == 0


def asks_for_any(shop: Shop) -> None:
    """Ask whether there is a row."""
    assert not shop.orders.filter(total__gt=1).exists()


def aggregates(shop: Shop) -> None:
    """Sum up."""
    from django.db.models import Sum

    assert shop.orders.aggregate(all=Sum("total")) == {"all": None}


def joins(shop: Shop) -> None:
    """Read customers by their orders."""
    assert shop.customers.filter(orders__total__gt=1).first() is None


def follows_keys(shop: Shop) -> None:
    """Read objects with those that they belong to."""
    assert not list(shop.orders.select_related("customer"))


def prefetches(shop: Shop) -> None:
    """Read orders in a statement that Django adds."""
    for customer in shop.customers.prefetch_related("orders"):
        assert not customer.orders.all()


def updates(shop: Shop) -> None:
    """Change rows that are gone."""
    assert shop.orders.filter(id=3).update(total=1) == 0


def gets_or_fails(shop: Shop) -> None:
    """Miss one object, which is all that the test would tell."""
    with contextlib.suppress(shop.order.DoesNotExist):
        shop.orders.get(id=3)


def lists_on_a_thread(shop: Shop) -> None:
    """Read on a thread, which has a connection of its own."""
    thread = threading.Thread(target=lists, args=(shop,))
    thread.start()
    thread.join()


def counts_on_a_loop(shop: Shop) -> None:
    """Read on an event loop."""

    async def main() -> None:
        assert await shop.orders.acount() == 0

    asyncio.run(main())


def deletes_all(shop: Shop) -> None:
    """Delete as Django does."""
    shop.orders.all().delete()


def deletes_parents(shop: Shop) -> None:
    """Delete customers; Django deletes their orders itself."""
    shop.customers.all().delete()


def misses_a_table(shop: Shop) -> None:
    """Read a table that is gone."""
    with refused():
        shop.orders.count()


def misses_a_column(shop: Shop) -> None:
    """Read a column that is gone."""
    with refused():
        list(shop.orders.values_list("total"))


# ---------------------------------------------------------------- other databases


def leaves_the_ring(shop: Shop) -> None:
    """Restore into Django's own connection."""
    shop.default.ensure_connection()
    shop.default.connection.deserialize(EMPTY)
    assert shop.orders.count() == 0


def writes_after_leaving(shop: Shop) -> None:
    """Write on a connection that has left the ring."""
    shop.default.ensure_connection()
    shop.default.connection.deserialize(EMPTY)
    shop.orders.create(id=1, customer_id=1, total=1)


def counts_in_a_fork(shop: Shop) -> None:
    """Use Django in a forked process."""
    shop.customers.count()
    in_a_fork(shop.orders.count)


# ---------------------------------------------------------------- held, left, lost


def meets_a_lock(shop: Shop) -> None:
    """Write while another connection is in a block."""
    from django.db import transaction

    with transaction.atomic("other"):
        shop.orders.using("other").filter(id=1).delete()
        with refused():
            shop.orders.create(customer_id=1, total=1)
        transaction.set_rollback(True, "other")


def reads_dirty(shop: Shop) -> None:
    """Read what another block rolls back."""
    from django.db import transaction

    with shop.default.cursor() as cursor:
        cursor.execute("PRAGMA read_uncommitted = 1")
    with transaction.atomic("other"):
        shop.orders.using("other").create(customer_id=1, total=1)
        shop.orders.count()
        transaction.set_rollback(True, "other")


def enters_a_block(shop: Shop) -> None:
    """Enter a block by hand, and do not leave it."""
    from django.db import transaction

    transaction.atomic().__enter__()
    shop.orders.filter(id=1).delete()


def switches_autocommit_off(shop: Shop) -> None:
    """Write without autocommit."""
    shop.default.set_autocommit(False)
    shop.orders.filter(id=1).delete()


def holds_an_iterator(shop: Shop) -> None:
    """Keep an iterator that has not come to its end."""
    rows = shop.orders.iterator(chunk_size=5)
    next(rows)
    shop.stage.cleanups.callback(rows.close)


def drops_a_raw_connection(shop: Shop) -> None:
    """Open a connection beside Django's, by its settings."""
    conn = sqlite3.connect(shop.default.settings_dict["NAME"], uri=True)
    assert conn.execute("SELECT count(*) FROM orders").fetchone() == (200,)


def polls_on_a_thread(shop: Shop) -> None:
    """Let a thread with a connection of its own run on."""
    let_run(shop.stage, shop.orders.count)


def creates(shop: Shop) -> None:
    """Leave an object."""
    shop.orders.create(customer_id=1, total=1)


def creates_many(shop: Shop) -> None:
    """Leave objects."""
    shop.orders.bulk_create(shop.order(customer_id=1, total=n) for n in range(3))


def makes_a_table(shop: Shop) -> None:
    """Leave a table, as tests of migrations do."""
    with shop.default.schema_editor() as editor:
        editor.create_model(shop.note)


def closes_without_commit(shop: Shop) -> None:
    """Close a connection that is not in autocommit."""
    shop.default.set_autocommit(False)
    shop.orders.create(customer_id=1, total=1)
    shop.default.connection.close()


_READERS: tuple[Callable[[Shop], object], ...] = (
    lists, counts, asks_for_any, aggregates, joins, follows_keys, prefetches, updates,
    gets_or_fails, lists_on_a_thread, counts_on_a_loop,
)  # fmt: skip
_ALONE: tuple[tuple[AnomalyKind, Program], ...] = (
    (K.WRONG_DATABASE, in_django(misses_a_table, at=":memory:")),
    (K.WRONG_DATABASE, in_django(misses_a_table, at="file:farm-defualt?mode=memory&cache=shared")),
    (K.FOREIGN_PROCESS, in_django(counts_in_a_fork)),
    (K.LOCK_ERROR, in_django(meets_a_lock, timeout=0)),
    (K.DIRTY_READ, in_django(reads_dirty)),
    (K.LEAKED_TRANSACTION, in_django(enters_a_block)),
    (K.LEAKED_TRANSACTION, in_django(switches_autocommit_off)),
    (K.LEAKED_CURSOR, in_django(holds_an_iterator)),
    (K.LEAKED_CONNECTION, in_django(drops_a_raw_connection)),
    (K.LEAKED_THREAD, in_django(polls_on_a_thread)),
)

CASES = [
    *(victim(f"django-{reader.__name__}", in_django(reader), deletes) for reader in _READERS),
    *(
        victim(
            f"after-django-{polluter.__name__}",
            sql("SELECT * FROM orders"),
            in_django(polluter),
            sql("SELECT * FROM pairs"),
            policy=ResetPolicy.NEVER,
        )
        for polluter in (deletes_all, deletes_parents)
    ),
    *(
        Case(
            f"django-{reader.__name__}",
            (K.MISSING_TABLE,),
            in_django(reader),
            (after,),
            ResetPolicy.SESSION,
            table="orders",
        )
        for after, reader in ((drops, misses_a_table), (renames_a_column, misses_a_column))
    ),
    Case("django-leaves", (K.LEFT_RING, K.EMPTY_TABLE_READ), in_django(leaves_the_ring)),
    Case("django-writes-after", (K.LEFT_RING, K.LOST_WRITE), in_django(writes_after_leaving)),
    uncommitted("django-closes", in_django(closes_without_commit)),
    *(
        Case(f"django-{number}-{program.__name__}", (kind,), program)
        for number, (kind, program) in enumerate(_ALONE)
    ),
    Case("django-memdb", (K.LOCK_ERROR,), in_django(meets_a_lock, timeout=0), ring=RingKind.MEMDB),
    *(
        Case(
            f"django-{program.__name__}",
            (K.LEAKED_WRITE,),
            in_django(program),
            policy=ResetPolicy.MODULE,
        )
        for program in (creates, creates_many)
    ),
    Case("django-schema", (K.SCHEMA_CHANGE,), in_django(makes_a_table), policy=ResetPolicy.NEVER),
]
