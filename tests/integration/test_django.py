"""Django projects: their databases are migrated once, and behave as they do without a farm."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.django_shop import MIGRATIONS_TOLD, ONE_TEST, RESTORED, goldens, shop_in
from support.pytest_runs import Runs


@pytest.fixture
def shop(tmp_path: Path) -> Runs:
    """The sample project, in a folder of its own."""
    return shop_in(tmp_path / "shop")


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


def test_rows_of_migrations_come_back_where_that_is_asked_for(shop: Runs, tmp_path: Path) -> None:
    shop.write(
        {
            "tests/test_restored.py": RESTORED,
            "farm.toml": "[django]\nrestore_migration_data = true\n",
        }
    )
    # One database is in memory, the other in a file.
    archive = tmp_path / "archive-of-tests.sqlite3"
    run = shop.run("tests/test_restored.py", env={"SHOP_ARCHIVE": str(archive)})
    assert run.counts == "7 passed", run.text
    assert not run.trace
    assert run.report is not None
    assert not run.report["anomalies"], run.text


TURNS = """
import os
import time
from pathlib import Path

from catalog.models import Category
from django.test import TestCase, TransactionTestCase

committed = Path(os.environ["TRACE"] + "-committed")


class InTransactions(TestCase):
    def test_00(self):
        # As long as the other worker has anything else to do.
        end = time.monotonic() + 60
        while not committed.exists() or committed.stat().st_size < 4:
            assert time.monotonic() < end


for number in range(1, 12):
    setattr(
        InTransactions,
        f"test_{number:02}",
        lambda self: self.assertEqual(Category.objects.count(), 5),
    )


class Committing(TransactionTestCase):
    pass


def commits(self):
    with committed.open("a") as file:
        file.write("x")


for number in range(4):
    setattr(Committing, f"test_{number}", commits)
"""


def test_no_worker_gets_tests_that_need_rows_back_after_a_flush(shop: Runs) -> None:
    shop.write({"tests/test_turns.py": TURNS})
    run = shop.run("tests/test_turns.py")
    assert run.counts == "16 passed", run.text


CHANGED_LATE = """
import pytest


@pytest.fixture(scope="session")
def django_db_modify_db_settings():
    from django.conf import settings

    settings.LANGUAGE_CODE = "de"
"""


def test_a_database_that_does_not_fit_is_left_to_django(shop: Runs) -> None:
    shop.write({"conftest.py": MIGRATIONS_TOLD + CHANGED_LATE})
    run = shop.run(ONE_TEST, "--farm=1")
    assert run.exit_code == 0, run.text
    assert "LANGUAGE_CODE changed after the settings were loaded" in run.stdout.replace("\n", " ")
    assert len(run.trace) > 60


LIVE = """
import socketserver

import pytest
from django.core.servers.basehttp import ThreadedWSGIServer
from django.test import LiveServerTestCase
from django.test.testcases import LiveServerThread

asked = []
serve = socketserver.BaseServer.serve_forever


@pytest.fixture(autouse=True, scope="module")
def listening():
    def serve_forever(self, poll_interval=0.5):
        asked.append((type(self).__name__, poll_interval))
        serve(self, poll_interval)

    socketserver.BaseServer.serve_forever = serve_forever
    yield
    socketserver.BaseServer.serve_forever = serve


class Own(ThreadedWSGIServer):
    def serve_forever(self):
        super().serve_forever(0.05)


class OwnThread(LiveServerThread):
    server_class = Own


class Live(LiveServerTestCase):
    def test_it(self):
        assert asked[-1] == ("ThreadedWSGIServer", 0.02)


class LiveOwn(LiveServerTestCase):
    server_thread_class = OwnThread

    def test_it(self):
        assert asked[-1] == ("Own", 0.05)
"""


def test_live_servers_look_often_whether_they_shall_stop(shop: Runs) -> None:
    shop.write({"tests/test_interval.py": LIVE})
    run = shop.run("tests/test_interval.py", "--farm=1")
    assert run.counts == "2 passed", run.text
