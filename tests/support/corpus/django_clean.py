"""Tricky but legitimate programs that use Django's ORM."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import unittest
from typing import TYPE_CHECKING

from snapfarm_worker.ring import ResetPolicy
from support.corpus.django_faults import in_django, lists
from support.corpus.empty_reads import deletes
from support.corpus.stage import Case, anywhere
from support.golden import CUSTOMERS, ORDERS

if TYPE_CHECKING:
    from support.corpus.django_models import Shop


def deletes_and_lists(shop: Shop) -> None:
    """Delete all, and read."""
    shop.orders.all().delete()
    lists(shop)
    assert not shop.orders.exists()
    assert shop.orders.first() is None


def deletes_one_by_one(shop: Shop) -> None:
    """Delete each object by itself."""
    for order in shop.orders.all():
        order.delete()
    assert shop.orders.count() == 0


def deletes_parents(shop: Shop) -> None:
    """Delete what orders belong to: Django deletes orders first."""
    shop.customers.all().delete()
    lists(shop)


def deletes_unseen(shop: Shop) -> None:
    """Delete past Django's own collecting, and by a statement of the program's."""
    shop.orders.filter(id__gt=100)._raw_delete("default")
    with shop.default.cursor() as cursor:
        cursor.execute("DELETE FROM orders WHERE id <= %s", [100])
    assert list(shop.orders.raw("SELECT * FROM orders")) == []


def rolls_back_a_block(shop: Shop) -> None:
    """Empty a table in a block, read it there, and take all back."""
    from django.db import transaction

    with contextlib.suppress(KeyError), transaction.atomic():
        shop.orders.all().delete()
        lists(shop)
        raise KeyError
    assert shop.orders.count() == ORDERS


def nests_blocks(shop: Shop) -> None:
    """Take back the innermost of three savepoints, and then the block."""
    from django.db import transaction

    with transaction.atomic():
        shop.orders.filter(id=1).delete()
        with transaction.atomic(), contextlib.suppress(KeyError), transaction.atomic():
            shop.orders.all().delete()
            lists(shop)
            raise KeyError
        assert shop.orders.count() == ORDERS - 1
        with shop.default.cursor() as cursor:
            cursor.execute("SAVEPOINT own")
            shop.customers.all().delete()
            cursor.execute("ROLLBACK TO own")
        transaction.set_rollback(True)
    assert shop.orders.count() == ORDERS


def refills_in_bulk(shop: Shop) -> None:
    """Replace all objects by new ones."""
    shop.orders.all().delete()
    made = shop.orders.bulk_create(
        (shop.order(customer_id=1, total=n) for n in range(300)), batch_size=50
    )
    assert shop.orders.count() == len(made)
    shop.orders.bulk_update(made, ["total"])
    shop.orders.bulk_create(
        [shop.order(id=made[0].pk, customer_id=1, total=1)], ignore_conflicts=True
    )


def follows_keys_to_nothing(shop: Shop) -> None:
    """Join a table that the test itself has emptied, in each way that Django has."""
    shop.orders.all().delete()
    assert not shop.orders.select_related("customer").exists()
    assert len(shop.customers.prefetch_related("orders")) == CUSTOMERS
    assert shop.customers.filter(orders__isnull=True).count() == CUSTOMERS
    assert not shop.customers.filter(id__in=shop.orders.values("customer"))


def leaves_an_iterator_early(shop: Shop) -> None:
    """Leave an iterator before its end, and let it be freed."""
    for order in shop.orders.iterator(chunk_size=5):
        assert order.pk == 1
        break
    assert len(list(shop.orders.iterator(chunk_size=50))) == ORDERS


def closes_connections(shop: Shop) -> None:
    """Close what Django does not close, as it is a database in memory; and go on."""
    from django.db import close_old_connections, connections, reset_queries

    assert shop.orders.count() == ORDERS
    shop.default.close()
    close_old_connections()
    connections.close_all()
    reset_queries()
    assert shop.orders.count() == ORDERS


def uses_threads(shop: Shop) -> None:
    """Use connections of threads, closed as Django's documentation asks, or not at all."""

    def work(number: int) -> None:
        shop.orders.filter(id=number + 1).delete()
        if number % 2:
            from django.db import connection

            connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shop.orders.count() == ORDERS - 4


def deletes_on_a_loop(shop: Shop) -> None:
    """Delete and read on an event loop."""

    async def main() -> None:
        await shop.orders.all().adelete()
        assert [order async for order in shop.orders.all()] == []
        assert not await shop.orders.aexists()

    asyncio.run(main())


def gets_or_makes(shop: Shop) -> None:
    """Let Django look first, in a block of its own."""
    shop.orders.all().delete()
    _, made = shop.orders.get_or_create(id=7, defaults={"customer_id": 1, "total": 1})
    assert made
    _, made = shop.orders.select_for_update().update_or_create(id=7, defaults={"total": 2})
    assert not made


def acts_on_commit(shop: Shop) -> None:
    """Delete once a block is committed."""
    from django.db import transaction

    with transaction.atomic():
        transaction.on_commit(shop.orders.all().delete)
        assert shop.orders.exists()
    lists(shop)


def migrates_a_table(shop: Shop) -> None:
    """Ask for a table that is not there yet, make it, and drop it."""
    from django.db import DatabaseError

    with contextlib.suppress(DatabaseError):
        shop.note.objects.count()
    with shop.default.schema_editor() as editor:
        editor.create_model(shop.note)
    assert not shop.note.objects.exists()
    assert "notes" in shop.default.introspection.table_names()
    with shop.default.schema_editor() as editor:
        editor.delete_model(shop.note)


def remakes_a_table(shop: Shop) -> None:
    """Let Django change a table of the golden database, for which it makes it anew."""
    from django.db import models

    field = models.TextField(default="")
    field.contribute_to_class(shop.order, "remark")
    try:
        with shop.default.schema_editor() as editor:
            editor.execute("DROP VIEW totals")
            editor.add_field(shop.order, field)
        shop.orders.all().delete()
        assert list(shop.orders.filter(remark="")) == []
        with shop.default.schema_editor() as editor:
            editor.remove_field(shop.order, field)
    finally:
        shop.order._meta.local_fields.remove(field)
        shop.order._meta._expire_cache()


def runs_test_cases(shop: Shop) -> None:
    """Run test cases of Django's, in the transactions of their class and their own."""
    from django.test import TestCase

    class Cases(TestCase):  # type: ignore[misc]  # Django has no types
        @classmethod
        def setUpTestData(cls) -> None:
            shop.orders.filter(id__gt=10).delete()

        def test_empties(self) -> None:
            assert shop.orders.count() == 10
            shop.orders.all().delete()
            assert not shop.orders.exists()

        def test_has_what_it_was_given(self) -> None:
            assert shop.orders.count() == 10

    found = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Cases).run(found)
    assert found.testsRun == 2
    assert found.wasSuccessful(), found.errors + found.failures
    assert shop.orders.count() == ORDERS


PROGRAMS = (
    deletes_and_lists, deletes_one_by_one, deletes_parents, deletes_unseen, rolls_back_a_block,
    nests_blocks, refills_in_bulk, follows_keys_to_nothing, leaves_an_iterator_early,
    closes_connections, uses_threads, deletes_on_a_loop, gets_or_makes, acts_on_commit,
    migrates_a_table, remakes_a_table, runs_test_cases,
)  # fmt: skip

CASES = [
    *(
        case
        for program in PROGRAMS
        for case in anywhere(f"django-{program.__name__}", in_django(program))
    ),
    *(
        Case(
            f"django-{program.__name__}-after",
            (),
            in_django(program),
            (deletes,),
            ResetPolicy.MODULE,
        )
        for program in (deletes_parents, gets_or_makes, deletes_unseen)
    ),
]
