"""More of Django than each change has to be tested with: run by `make samples`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from snapfarm_worker.anomaly import Anomaly, AnomalyKind
from support.django_shop import MIGRATIONS_TOLD, ONE_TEST, RESTORED, goldens, shop_in
from support.pytest_runs import Runs
from support.suite import LIMIT, clean_environment


@pytest.fixture
def shop(tmp_path: Path) -> Runs:
    """The sample project, in a folder of its own."""
    return shop_in(tmp_path / "shop")


def test_plain_pytest_has_golden_databases_where_they_are_asked_for(
    shop: Runs, tmp_path: Path
) -> None:
    shop.write(
        {
            "tests/test_restored.py": RESTORED,
            "farm.toml": "[django]\nrestore_migration_data = true\n",
        }
    )
    archive = tmp_path / "archive-of-tests.sqlite3"
    plain = shop.run("tests/test_restored.py", way="plain", env={"SHOP_ARCHIVE": str(archive)})
    assert plain.counts == "7 passed", plain.text
    assert not plain.trace
    assert not archive.exists()


def test_what_changes_a_database_makes_it_anew(shop: Runs) -> None:
    first = shop.run(ONE_TEST, "--farm=1")
    assert goldens(first) == {"default": False, "archive": False}
    assert first.exit_code == 0, first.text

    fixture = shop.root / "catalog" / "fixtures" / "labels.json"
    fixture.write_text("[]")
    (shop.root / "tests" / "test_catalog.py").unlink()
    second = shop.run(ONE_TEST, "--farm=1")
    assert goldens(second) == {"default": False, "archive": False}
    assert "file catalog/fixtures/labels.json changed\n" in second.stdout

    bare, plain = (
        shop.run(ONE_TEST, "--no-migrations", *more, way=way)
        for way, more in (("farm", ("--farm=1",)), ("plain", ()))
    )
    assert goldens(bare) == {"default": False, "archive": False}
    assert bare.counts == plain.counts == "1 failed"

    known = shop.run(ONE_TEST, "--farm=1", "--reuse-db")
    assert goldens(known) == {"default": True, "archive": True}
    assert known.exit_code == 0, known.text
    anew = shop.run(ONE_TEST, "--farm=1", "--reuse-db", "--create-db")
    assert goldens(anew) == {"default": False, "archive": False}
    assert anew.exit_code == 0, anew.text


FLUSHED = """
import pytest
from orders.models import Customer, Order

pytestmark = pytest.mark.django_db(transaction=True)


def test_commits():
    Customer.objects.create(name="Barbara")


def test_is_used_to_a_flush():
    assert Order.objects.count() == 0


def test_expects_rows_of_migrations():
    assert Order.objects.count() == 3
"""


def test_a_failure_after_a_flush_is_explained(shop: Runs) -> None:
    shop.write({"tests/test_flushed.py": FLUSHED})
    run = shop.run("tests/test_flushed.py", "--farm=1")
    assert run.counts == "1 failed, 2 passed", run.text
    assert run.report is not None
    (found,) = msgspec.convert(run.report["anomalies"], list[Anomaly])
    assert (found.kind, found.table) == (AnomalyKind.EMPTY_TABLE_READ, "orders_order")
    assert found.test == "tests/test_flushed.py::test_expects_rows_of_migrations"
    assert found.polluter == "tests/test_flushed.py::test_commits"
    assert "anomalies: 1 empty-table-read, orders_order" in run.stdout


CHANGED_EARLY = """
def pytest_configure():
    from django.conf import settings

    settings.LANGUAGE_CODE = "de"
"""


def test_what_a_conftest_changes_is_not_known_to_the_builder(shop: Runs) -> None:
    shop.write({"conftest.py": MIGRATIONS_TOLD + CHANGED_EARLY})
    run = shop.run(ONE_TEST, "--farm=1")
    assert run.exit_code == 0, run.text
    assert "LANGUAGE_CODE differs in a process of its own" in run.stdout.replace("\n", " ")
    assert len(run.trace) > 60


def test_a_broken_migration_fails_as_without_a_farm(shop: Runs) -> None:
    shop.write({"orders/migrations/0018_broken.py": "raise ValueError('a broken migration')\n"})
    plain, farm = shop.compare(ONE_TEST)
    assert farm.shown == plain.shown, farm.text
    assert farm.counts == "1 error"
    assert "migrate as ever, since" in farm.stdout

    insisting = shop.run(ONE_TEST, env={"FARM_DJANGO": "on"})
    assert insisting.exit_code == 4, insisting.text
    assert "a broken migration" in insisting.stderr

    without = shop.run(ONE_TEST, "--farm=1", env={"FARM_DJANGO": "off"})
    assert without.shown == plain.shown
    assert not goldens(without)


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_the_runner_of_manage_py(shop: Runs, start_method: str) -> None:
    shop.write({"farm.toml": "[django]\nrestore_migration_data = true\n"})
    for path in (shop.root / "tests").glob("test_*.py"):
        path.unlink()
    # Each class is handed to a process as a whole, so there are two of them.
    cases, _, _ = RESTORED.partition("    def test_each_where_it_belongs")
    cases = cases.replace("range(4)", "range(0)")
    shop.write(
        {
            "tests/test_one.py": cases,
            "tests/test_two.py": cases,
            "run.py": RUN.format(start_method),
        }
    )
    environment = clean_environment() | {"SHOP_RUNNER": "snapfarm.django.FarmRunner"}
    if start_method == "fork":
        # Spawned processes of Django 5.2 do not find a database that is a file.
        environment["SHOP_ARCHIVE"] = str(shop.root / "archive-of-tests.sqlite3")
    done = subprocess.run(
        [sys.executable, "run.py", "test", "--parallel", "2", "-v", "2", "--noinput"],
        cwd=shop.root, env=environment, capture_output=True, text=True, timeout=LIMIT,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "Ran 4 tests" in said
    assert "Applying" not in said


RUN = """
import multiprocessing
import os
import sys

if __name__ == "__main__":
    multiprocessing.set_start_method("{}")
    os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
"""


#: Two aliases in one file, one without migrations, one that is left alone, and a name with a blank.
SEVERAL = """
SECRET_KEY = "a key for tests"
INSTALLED_APPS = ["notes"]
SQLITE = "django.db.backends.sqlite3"
SHARED = {"ENGINE": SQLITE, "TEST": {"NAME": "shared.sqlite3", "MIGRATE": False}}
DATABASES = {
    "default": {"ENGINE": "django.db.backends.dummy"},
    "my db": {"ENGINE": SQLITE, "NAME": "notes.sqlite3", "TEST": {"DEPENDENCIES": []}},
    "one": SHARED | {"NAME": "one"},
    "other": SHARED | {"NAME": "one"},
}
for shared in ("one", "other"):
    DATABASES[shared]["TEST"] = SHARED["TEST"] | {"DEPENDENCIES": ["my db"]}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""
NOTES_MODELS = """
from django.db import models


class Note(models.Model):
    text = models.CharField(max_length=80)
"""
NOTES_MIGRATION = """
from django.db import migrations, models


def first(apps, schema_editor):
    notes = apps.get_model("notes", "Note").objects.using(schema_editor.connection.alias)
    notes.create(text="the first")


class Migration(migrations.Migration):
    operations = [
        migrations.CreateModel(
            "Note",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("text", models.CharField(max_length=80)),
            ],
        ),
        migrations.RunPython(first),
    ]
"""
NOTES_TESTS = """
import pytest
from django.db import connections
from notes.models import Note


@pytest.mark.django_db(databases=["my db", "one", "other"])
def test_each_as_its_settings_say():
    assert Note.objects.using("my db").count() == 1
    assert Note.objects.using("one").count() == 0
    assert Note.objects.using("other").count() == 0
    one, other = (connections[alias].settings_dict["NAME"] for alias in ("one", "other"))
    assert one == other
    assert "shared.sqlite3" in one


@pytest.mark.django_db(databases=["my db"], transaction=True)
def test_a_commit():
    Note.objects.using("my db").create(text="another")
    assert Note.objects.using("my db").count() == 2
"""


NOTES = {
    "pytest.ini": "[pytest]\nDJANGO_SETTINGS_MODULE = settings\npythonpath = .\n",
    "settings.py": SEVERAL,
    "notes/__init__.py": "",
    "notes/models.py": NOTES_MODELS,
    "notes/migrations/__init__.py": "",
    "notes/migrations/0001_initial.py": NOTES_MIGRATION,
    "test_notes.py": NOTES_TESTS,
}


def test_several_databases_in_all_their_forms(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "notes", NOTES | {"conftest.py": MIGRATIONS_TOLD})
    plain = runs.run(way="plain")
    farm = runs.run()
    assert plain.counts == "2 passed", plain.text
    assert farm.shown == plain.shown, farm.text
    assert not farm.trace
    assert goldens(farm) == {"my_db": False, "one": False, "other": False}
    assert not list(runs.root.glob("*.sqlite3*"))


#: Tears down all fixtures after each test, as a worker does that knows of no further one.
ALONE = """
from _pytest.runner import runtestprotocol


def pytest_runtest_protocol(item, nextitem):
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    runtestprotocol(item, nextitem=None)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
"""


def test_databases_are_set_up_anew_for_a_test_that_comes_late(tmp_path: Path) -> None:
    """1. A worker runs its last test, and tears down.  2. It is handed another one."""
    runs = Runs(tmp_path / "notes", NOTES | {"conftest.py": MIGRATIONS_TOLD + ALONE})
    run = runs.run("--farm=1", "-W", "error::pytest.PytestWarning")
    assert run.counts == "2 passed", run.text
    assert not run.trace  # nothing was migrated
    assert not list(runs.root.glob("*.sqlite3*"))
