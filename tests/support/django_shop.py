"""The sample project of Django, copied for a test, and what its tests may be."""

from __future__ import annotations

import shutil
from pathlib import Path

from support.pytest_runs import PytestRun, Runs

SHOP = Path(__file__).parents[1] / "samples" / "django_shop"

#: Writes down which process applies which migration; the process that builds sees no conftest.
MIGRATIONS_TOLD = """
import os

from django.db.migrations.executor import MigrationExecutor

original = MigrationExecutor.apply_migration


def apply_migration(self, state, migration, *args, **kwargs):
    with open(os.environ["TRACE"], "a") as trace:
        print(self.connection.alias, migration, file=trace)
    return original(self, state, migration, *args, **kwargs)


MigrationExecutor.apply_migration = apply_migration
"""


#: Data migrations are there at the beginning of each test, whatever those before it have committed.
RESTORED = """
import pytest
from audit.models import Entry
from django.db import connections
from django.test import TransactionTestCase
from orders.models import Customer, Order


@pytest.mark.django_db(transaction=True, databases=["default", "archive"])
@pytest.mark.parametrize("turn", range(4))
def test_both(turn, live_server):
    assert Order.objects.count() == 3
    assert Entry.objects.count() == 40
    Order.objects.all().delete()
    Entry.objects.all().delete()
    assert Customer.objects.create(name=f"number {turn}").pk == 4


class Serialized(TransactionTestCase):
    databases = {"default", "archive"}
    serialized_rollback = True

    def test_rows(self):
        self.assertEqual(Order.objects.count(), 3)
        self.assertEqual(Entry.objects.count(), 40)
        Order.objects.all().delete()

    def test_and_no_json(self):
        self.assertEqual(Order.objects.count(), 3)
        for alias in self.databases:
            self.assertEqual(connections[alias]._test_serialized_contents, "[]")

    def test_each_where_it_belongs(self):
        self.assertTrue(connections["default"].is_in_memory_db())
        self.assertIn("archive", connections["archive"].settings_dict["NAME"])
        self.assertFalse(connections["archive"].is_in_memory_db())
"""

#: Passes where migrations were run, or their result is there.
ONE_TEST = "tests/test_fixtures.py::test_rows_of_migrations"


def shop_in(folder: Path) -> Runs:
    """Copy the project into a new folder; it tells there of the migrations that it applies.

    They are quicker there: of its reference data they bring a hundredth.
    """
    shutil.copytree(SHOP, folder, ignore=shutil.ignore_patterns("__pycache__", ".farm"))
    runs = Runs(folder)
    shutil.copyfile(SHOP / "pytest.ini", folder / "pytest.ini")
    seed = folder / "places" / "migrations" / "0002_seed_places.py"
    rows = seed.read_text("utf-8")
    assert "4_000" in rows
    seed.write_text(rows.replace("4_000", "40"), "utf-8")
    runs.write({"conftest.py": MIGRATIONS_TOLD})
    return runs


def goldens(run: PytestRun) -> dict[object, object]:
    """Return the golden databases of a run, with whether each came from the cache."""
    assert run.report is not None, run.text
    found = run.report["golden"]
    assert isinstance(found, list)
    return {each["name"]: each["cached"] for each in found}
