"""`farm golden` and `farm doctor` in a Django project, which declares no golden database."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from snapfarm.errors import EXIT_OK, EXIT_USAGE
from support.django_shop import ONE_TEST, goldens, shop_in
from support.pytest_runs import Runs
from support.suite import LIMIT, clean_environment


@pytest.fixture
def shop(tmp_path: Path) -> Runs:
    """The sample project, in a folder of its own."""
    return shop_in(tmp_path / "shop")


def farm(runs: Runs, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the farm on a project, from somewhere else, with further variables."""
    return subprocess.run(
        [sys.executable, "-m", "snapfarm.cli", *command, "--root", str(runs.root)],
        cwd=runs.root.parent,
        env={**clean_environment(), **more},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def test_what_it_builds_is_what_a_run_takes(shop: Runs) -> None:
    before = farm(shop, "golden", "show", "--json")
    assert before.returncode == EXIT_OK, before.stderr
    named = {one["name"]: one for one in json.loads(before.stdout)}
    assert [one["cached"] for one in named.values()] == [False, False]
    assert named["archive"]["parts"]["Django settings"] == "shop.settings"

    built = farm(shop, "golden", "build", "archive")
    assert built.returncode == EXIT_OK, built.stderr
    assert built.stdout.startswith("golden  archive ")
    assert built.stdout.count("\n") == 1

    # All databases of a project are built in one go, and are then the same for whoever asks.
    run = shop.run(ONE_TEST, way="command")
    assert run.exit_code == 0, run.text
    assert goldens(run) == {"default": True, "archive": True}

    file = shop.root / "exported.sqlite"
    exported = farm(shop, "golden", "export", "default", str(file))
    assert exported.returncode == EXIT_OK, exported.stderr
    with contextlib.closing(sqlite3.connect(file)) as conn:
        assert conn.execute("SELECT count(*) FROM orders_order").fetchone() == (3,)

    cleared = farm(shop, "golden", "clear")
    assert cleared.stdout == (
        "golden  default   1 cache entry removed\ngolden  archive   1 cache entry removed\n"
    )


def test_what_conftests_print_does_not_get_between(shop: Runs) -> None:
    shop.write({"conftest.py": "print('loaded')\n"})
    shown = farm(shop, "golden", "show", "--json")
    assert {one["name"] for one in json.loads(shown.stdout)} == {"default", "archive"}


def test_what_a_project_gives_to_pytest_counts_there_too(shop: Runs) -> None:
    # Options of pytest's cache; and no plugin but those that it names.
    options = "--ff --strict-config -p pytest_django.plugin -p xdist.plugin -n 4 --farm 2 -x"
    settings = "DJANGO_SETTINGS_MODULE = shop.settings\ncache_dir = .elsewhere"
    shop.write({"pytest.ini": f"[pytest]\naddopts = {options}\n{settings}\n"})
    shown = farm(shop, "golden", "show", "--json", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert shown.returncode == EXIT_OK, shown.stderr
    assert {one["name"] for one in json.loads(shown.stdout)} == {"default", "archive"}
    assert not (shop.root / ".elsewhere").exists()


#: Begins as pytest-cov does.
MEASURES = """
import os
import pytest

def pytest_addoption(parser):
    parser.addoption("--cov", action="append", default=[], dest="cov_source")

@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config):
    if early_config.known_args_namespace.cov_source:
        os.remove(".coverage")
"""


def test_what_was_measured_before_is_kept(shop: Runs) -> None:
    options = "addopts = -p measures --cov=shop\nDJANGO_SETTINGS_MODULE = shop.settings"
    shop.write({"pytest.ini": f"[pytest]\n{options}\n", "measures.py": MEASURES, ".coverage": "it"})
    shown = farm(shop, "golden", "show", "--json", PYTHONPATH=str(shop.root))
    assert shown.returncode == EXIT_OK, shown.stderr
    assert (shop.root / ".coverage").read_text() == "it"


@pytest.mark.parametrize(
    ("conftest", "settings", "told"),
    [
        ("raise LookupError('no such thing')\n", "", "no such thing"),
        ("import sys\nsys.exit(0)\n", "", "SystemExit: 0"),
        ("import pytest\npytest.exit('not here')\n", "", "not here"),
        ("", "DEBUG = undefined\n", "NameError: name 'undefined' is not defined"),
    ],
)
def test_a_project_that_does_not_load_is_told_of(
    shop: Runs, conftest: str, settings: str, told: str
) -> None:
    with (shop.root / "shop" / "settings.py").open("a") as out:
        out.write(settings)
    shop.write({"conftest.py": conftest})
    shown = farm(shop, "golden", "show")
    assert shown.returncode == EXIT_USAGE, shown.stderr
    assert told in shown.stderr
    assert shown.stderr.splitlines()[-1].startswith(f"farm: {shop.root}: pytest could not be")


def test_without_django(shop: Runs) -> None:
    shop.write({"farm.toml": "django = false\n"})
    shown = farm(shop, "golden", "show")
    assert shown.returncode == EXIT_USAGE
    assert "farm.toml: declares no golden database" in shown.stderr


def test_doctor_says_where_they_come_from(shop: Runs) -> None:
    looked = farm(shop, "doctor")
    assert looked.returncode == EXIT_OK, looked.stdout
    assert "the SQLite databases of shop.settings: see farm golden show" in looked.stdout
