"""Several databases, a mirror, real transactions; and data migrations that a flush takes away."""

import threading

from audit.models import Entry
from catalog.models import Category, Product
from django.contrib.auth.models import Permission
from django.core.cache import cache
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.test import Client, TestCase, TransactionTestCase
from orders.models import Customer, Order


class TwoDatabases(TestCase):
    databases = {"default", "archive"}

    def test_each_has_its_rows(self):
        self.assertEqual(Order.objects.count(), 3)
        self.assertEqual(Entry.objects.count(), 40)

    def test_each_has_its_tables_alone(self):
        self.assertNotIn("audit_entry", connection.introspection.table_names())
        self.assertNotIn("orders_order", connections["archive"].introspection.table_names())

    def test_a_view_writes_to_both(self):
        Client().post("/orders/1/pay/")
        self.assertTrue(Order.objects.get(pk=1).paid)
        self.assertEqual(Entry.objects.filter(action="paid").count(), 1)

    def test_and_nothing_is_left_of_it(self):
        self.assertFalse(Order.objects.get(pk=1).paid)
        self.assertFalse(Entry.objects.filter(action="paid").exists())


class Mirror(TestCase):
    databases = {"default", "replica"}

    def test_the_replica_has_the_rows_of_the_default(self):
        self.assertEqual(Customer.objects.using("replica").count(), 3)


class Transactions(TransactionTestCase):
    def setUp(self):
        self.customer = Customer.objects.create(name="Barbara")

    def test_rows_of_migrations_are_gone_after_a_flush(self):
        # The first of its class may still have them; whoever comes after it has none.
        Customer.objects.exclude(pk=self.customer.pk).delete()
        self.assertEqual(Customer.objects.count(), 1)

    def test_commit_hooks_run(self):
        called = []
        with transaction.atomic():
            Order.objects.create(customer=self.customer)
            transaction.on_commit(lambda: called.append(True))
        self.assertEqual(called, [True])

    def test_a_thread_sees_what_was_committed(self):
        found = []

        def look():
            found.append(Customer.objects.filter(name="Barbara").exists())
            connection.close()

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        self.assertEqual(found, [True])

    def test_a_thread_writes(self):
        def write():
            Customer.objects.create(name="of a thread")
            connection.close()

        # One after the other: in Django's own database in memory, tables are locked for each other.
        for _ in range(4):
            thread = threading.Thread(target=write)
            thread.start()
            thread.join()
        self.assertEqual(Customer.objects.filter(name="of a thread").count(), 4)

    def test_permissions_are_made_again_by_each_flush(self):
        # That of a test with serialized_rollback makes none, and may have been the last.
        call_command("flush", interactive=False, verbosity=0)
        self.assertTrue(Permission.objects.filter(codename="add_order").exists())

    def test_the_cache_in_the_database(self):
        cache.set("answer", 42)
        self.assertEqual(cache.get("answer"), 42)


class SerializedRollback(TransactionTestCase):
    databases = {"default", "archive"}
    serialized_rollback = True

    def test_rows_of_migrations_are_there(self):
        self.assertEqual(Category.objects.count(), 5)
        self.assertEqual(Product.objects.count(), 25)
        self.assertEqual(Entry.objects.count(), 40)
        Order.objects.all().delete()

    def test_and_here_as_well(self):
        self.assertEqual(Order.objects.count(), 3)
        self.assertEqual(Product.objects.count(), 25)


class Sequences(TransactionTestCase):
    reset_sequences = True

    def test_numbers_begin_at_one(self):
        Customer.objects.all().delete()
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM sqlite_sequence WHERE seq > 0")
        self.assertEqual(Customer.objects.create(name="first").pk, 1)
