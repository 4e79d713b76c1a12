"""Django projects: their databases are migrated once, and behave as they do without a farm."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

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


@pytest.fixture
def shop(tmp_path: Path) -> Runs:
    """The sample project, in a folder of its own; it tells of the migrations that it applies."""
    folder = tmp_path / "shop"
    shutil.copytree(SHOP, folder, ignore=shutil.ignore_patterns("__pycache__", ".farm"))
    runs = Runs(folder)
    shutil.copyfile(SHOP / "pytest.ini", folder / "pytest.ini")
    runs.write({"conftest.py": MIGRATIONS_TOLD})
    return runs


def goldens(run: PytestRun) -> dict[object, object]:
    """Return the golden databases of a run, with whether each came from the cache."""
    assert run.report is not None, run.text
    found = run.report["golden"]
    assert isinstance(found, list)
    return {each["name"]: each["cached"] for each in found}


def test_a_project_has_the_same_outcomes_and_migrates_once(shop: Runs) -> None:
    plain, farm = shop.compare()
    assert plain.exit_code == 0, plain.text
    assert farm.shown == plain.shown, farm.text
    applied = [line for line in plain.trace if line.startswith("default")]
    assert len(applied) > 60
    assert not farm.trace
    assert goldens(farm) == {"default": False, "archive": False}
    assert farm.report is not None
    assert not farm.report["anomalies"], farm.text

    again = shop.run("tests/test_orders.py", way="command")
    assert again.exit_code == 0, again.text
    assert goldens(again) == {"default": True, "archive": True}
