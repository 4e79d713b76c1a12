"""Measures a Django suite whose databases are migrated first: pytest, pytest-xdist and the farm."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from benchmarks.model import Bar, Result, Table
from benchmarks.options import Options, command
from benchmarks.suites import (
    COLUMNS,
    CPU,
    DJANGO,
    MEASURED,
    WALL,
    bar_of,
    farm,
    measure_all,
    new_suite,
    pytest_alone,
    xdist,
)
from support.django_shop import SHOP

NAME = "django"

#: Tests of the sample project itself.
_ITS_OWN = 42

_NOTE = MEASURED + (
    "The sample project tests/samples/django_shop: 60 migrations and Django's own, on two SQLite "
    "databases; its tests, and more of the same kinds, nine of ten in a transaction that is rolled "
    "back. With pytest-xdist each worker migrates. On the farm the golden databases come from the "
    "cache; *cold* migrates first."
)

#: One file of tests: each with a few queries, as tests of views and models have.
_TESTS = """
from catalog.models import Category, Product
from django.test import Client, TestCase, TransactionTestCase
from orders.models import Customer, Order


class Rolled{number}(TestCase):
    databases = {{"default", "archive"}}

    @classmethod
    def setUpTestData(cls):
        cls.customer = Customer.objects.create(name="number {number}")
{rolled}

class Flushed{number}(TransactionTestCase):
{flushed}
"""
_ROLLED = """
    def test_{turn}(self):
        order = Order.objects.create(customer=self.customer)
        for product in Product.objects.order_by("pk")[:10]:
            order.lines.create(product=product, cents=product.cents, pieces={turn} + 1)
        self.assertEqual(order.lines.count(), 10)
        self.assertEqual(Client().post(f"/orders/{{order.pk}}/pay/").json()["cents"], order.total())
        self.assertEqual(len(Client().get("/products/").json()["products"]), 25)
"""
_FLUSHED = """
    def test_{turn}(self):
        category = Category.objects.create(name="made here")
        Product.objects.create(name="one", slug="zero", category=category, cents=100)
        self.assertEqual(Client().get("/products/").json()["products"][-1:], ["zero"])
"""
_ROLLED_IN_FILE, _FLUSHED_IN_FILE = 18, 2

VARIANTS = (
    pytest_alone("pytest", DJANGO),
    xdist("xdist -n 2", 2, DJANGO),
    farm("farm -n 2", 2, DJANGO),
    farm("farm -n 2, cold", 2, DJANGO, cold=True),
    xdist("xdist -n 4", 4, DJANGO),
    farm("farm -n 4", 4, DJANGO),
)


def write_project(folder: Path, files: int) -> int:
    """Copy the sample project and add files of tests; return how many tests there are."""
    shutil.copytree(SHOP, folder, ignore=shutil.ignore_patterns("__pycache__", ".farm"))
    for number in range(files):
        rolled = "".join(_ROLLED.format(turn=turn) for turn in range(_ROLLED_IN_FILE))
        flushed = "".join(_FLUSHED.format(turn=turn) for turn in range(_FLUSHED_IN_FILE))
        text = _TESTS.format(number=number, rolled=rolled, flushed=flushed)
        (folder / "tests" / f"test_more_{number:02}.py").write_text(text)
    return _ITS_OWN + files * (_ROLLED_IN_FILE + _FLUSHED_IN_FILE)


def run(options: Options) -> Result:
    """Measure the suite at 2 and 4 workers."""
    if importlib.util.find_spec("pytest_django") is None:
        return Result(NAME, (), ())
    bars: tuple[Bar, ...] = ()
    with new_suite() as folder:
        tests = write_project(folder, 2 if options.quick else 20)
        title = f"{tests} tests of a Django project with 60 migrations"
        table = Table("shop", title, _NOTE, COLUMNS, {})
        measure_all(table, VARIANTS, folder, tests, options.rounds_of(5, 1))
    for workers in () if options.quick else (2, 4):
        ours, peer = f"farm -n {workers}", f"xdist -n {workers}"
        for column, required in ((WALL, 1.5), (CPU, 1.0)):
            bars += bar_of(f"Django, {column}, {ours}", required, table, column, ours, peer)
    return Result(NAME, (table,), bars)


if __name__ == "__main__":
    command({NAME: run})()
