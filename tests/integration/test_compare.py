"""`farm compare` on suites of files, with real runs of all three runners."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import msgspec
import pytest

from snapfarm.compare.model import Comparison
from snapfarm.errors import (
    EXIT_INTERRUPTED,
    EXIT_NO_TESTS,
    EXIT_OK,
    EXIT_TESTS_FAILED,
    EXIT_USAGE,
)
from support.suite import Suite, SuiteRun

#: Workers are asked for in many ways, and all of them are overruled.
SETTINGS = """
[pytest]
addopts = -n 3 --dist loadfile --farm 3 --ff
"""
GOLDEN = {
    "farm.toml": "report = 'report.json'\n[golden.default]\nschema = ['schema.sql']\n",
    "schema.sql": "CREATE TABLE bill (id INTEGER PRIMARY KEY); INSERT INTO bill VALUES (1);",
}
TESTS = """
import os
import pytest

@pytest.fixture
def broken():
    yield
    raise ValueError("in its teardown")

@pytest.mark.parametrize("turn", range(4))
def test_database(farm_db, turn):
    farm_db.execute("INSERT INTO bill VALUES (NULL)")
    farm_db.commit()
    assert farm_db.execute("SELECT count(*) FROM bill").fetchone() == (2,)

def test_error(broken): pass
def test_skipped(): pytest.skip("no")
@pytest.mark.xfail(strict=False)
def test_xpassed(): pass
def test_count():
    assert os.environ.get("PYTEST_XDIST_WORKER_COUNT") in (None, "2")
"""
ASKS = """
def test_that_asks(request):
    assert not hasattr(request.config, "workerinput"), "I am distributed"
"""
#: Passes in every other run of it; where it is run is written to the file `order`.
UNSTABLE = """
import os
from pathlib import Path
import pytest

RUNS = Path(__file__).with_name("runs")

def test_unstable():
    runs = int(RUNS.read_text()) if RUNS.exists() else 0
    RUNS.write_text(str(runs + 1))
    assert runs % 2 == 0

@pytest.mark.parametrize("number", range(8))
def test_order(number):
    with open(Path(__file__).with_name("order"), "a") as order:
        order.write(f"{os.environ.get('PYTEST_XDIST_WORKER', 'plain')} {number}\\n")
"""
#: As `python -m snapfarm.cli`, where pytest-xdist is not installed.
WITHOUT_XDIST = """
import sys
from snapfarm.compare import runs
from snapfarm.cli import main
runs.has_xdist = lambda: False
main(sys.argv[1:])
"""


def compare(suite: Suite, *args: str, start: tuple[str, ...] = ("-m", "snapfarm.cli")) -> SuiteRun:
    with suite.started_command([sys.executable, *start, "compare", *args]) as running:
        return running.wait()


def test_three_runners_of_one_suite(tmp_path: Path) -> None:
    suite = Suite(tmp_path, {"pytest.ini": SETTINGS, "test_all.py": TESTS, "test_asks.py": ASKS})
    suite.write(GOLDEN)
    # What pytest remembers is the same for all runs, and remains.
    failed = tmp_path / ".pytest_cache/v/cache/lastfailed"
    failed.parent.mkdir(parents=True)
    failed.write_text('{"test_all.py::test_count": true}')
    before = sorted(path for path in tmp_path.rglob("*") if ".pytest_cache" in path.parts)

    run = compare(suite, "-n", "2", "--json", "found.json", "-rA")

    assert run.exit_code == EXIT_TESTS_FAILED, run.output
    found = msgspec.json.decode((tmp_path / "found.json").read_bytes(), type=Comparison)
    assert list(found.runners) == ["plain", "xdist -n 2", "farm -n 2"]
    assert (found.workers, found.rounds, found.arguments) == (2, 1, ("-rA",))
    for name, line in found.runners.items():
        assert line.exit_statuses == (1,)
        passed, failures = (6, {}) if name == "plain" else (5, {"failed": 1})
        assert line.outcomes == {
            "passed": passed, "error, passed": 1, "skipped": 1, "xpassed": 1, **failures
        }  # fmt: skip
        assert min(line.wall) > 0.1
        assert min(line.cpu) > 0.1
        assert min(line.memory) > 10_000_000
    (difference,) = found.verdict.different
    assert difference.nodeid == "test_asks.py::test_that_asks"
    (reason,) = {tests[0].reason for name, tests in difference.outcomes.items() if "-n" in name}
    assert reason == "AssertionError: I am distributed"
    assert found.verdict.exit_statuses is None

    assert found.farm is not None
    assert sum(found.farm.wall.values()) == pytest.approx(found.farm.seconds, abs=0.05)
    assert min(found.farm.wall[name] for name in ("start", "collection", "tests", "end")) > 0
    assert found.farm.workers["reset"] > 0

    assert sorted(path for path in tmp_path.rglob("*") if ".pytest_cache" in path.parts) == before
    assert failed.read_text() == '{"test_all.py::test_count": true}'
    assert not (tmp_path / "report.json").exists()
    assert "golden  default " in run.output
    assert "different: 1 test of 9" in run.output


def test_unstable_tests_and_a_project_without_xdist_and_farm(tmp_path: Path) -> None:
    suite = Suite(tmp_path, {"test_unstable.py": UNSTABLE})
    wanted = ("-n", "1", "--rounds", "2", "--shuffle", "7", "-k", "not 0")
    run = compare(suite, *wanted, start=("-c", WITHOUT_XDIST))
    assert run.exit_code == EXIT_OK, run.output
    assert "note: pytest-xdist is not installed here, so it is left out" in run.output
    assert "unstable: 1 test, which the same runner gives different outcomes" in run.output
    assert "equal: 7 tests, the same outcome in each of 4 runs" in run.output

    lines = [line.split() for line in (tmp_path / "order").read_text().splitlines()]
    orders = {who: [number for each, number in lines if each == who] for who in ("plain", "gw0")}
    assert orders["plain"] == orders["gw0"]
    assert orders["plain"][:7] == orders["plain"][7:]
    assert orders["plain"][:7] != sorted(orders["plain"][:7])


def test_a_runner_that_cannot_run_the_suite_is_shown(tmp_path: Path) -> None:
    conftest = "def pytest_configure(config):\n    if config.getoption('numprocesses', 0):\n"
    conftest += "        raise ValueError('not with xdist, please')\n"
    suite = Suite(tmp_path, {"test_a.py": "def test_a(): pass\n", "conftest.py": conftest})
    run = compare(suite, "-n", "1", "--runner", "plain", "--runner", "xdist")
    assert run.exit_code == EXIT_TESTS_FAILED
    assert "the last lines of xdist -n 1:" in run.output
    assert "ValueError: not with xdist, please" in run.output
    assert "    xdist -n 1  not run" in run.output


def test_interrupting_it_ends_the_run_and_leaves_nothing(tmp_path: Path) -> None:
    waits = "import time\nfrom pathlib import Path\n\ndef test_waits():\n"
    waits += "    Path(__file__).with_name('begun').write_text('x\\n')\n    time.sleep(60)\n"
    suite = Suite(tmp_path, {"test_waits.py": waits})
    command = [sys.executable, "-m", "snapfarm.cli", "compare", "-n", "1"]
    with suite.started_command(command) as running:
        running.wait_for_file("begun")
        # Ctrl-C reaches the command and what it runs.
        os.killpg(running.process.pid, signal.SIGINT)
        run = running.wait()
    assert run.exit_code == EXIT_INTERRUPTED, run.output
    assert "farm: interrupted: nothing was compared" in run.output


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (("--runner", "farm"), EXIT_USAGE, "farm alone can't be compared: give --runner twice"),
        (("-n", "many"), EXIT_USAGE, "-n: expected a whole number of at least 1, auto or logical"),
        (("--no-such-option",), EXIT_USAGE, "unrecognized arguments: --no-such-option"),
        (("-k", "nothing"), EXIT_NO_TESTS, "pytest collects nothing here (its exit code is 5)"),
        (("--json", "no/such/folder.json", "--help"), EXIT_OK, "Write all that is known as JSON"),
    ],
)
def test_usage(args: tuple[str, ...], status: int, message: str, tmp_path: Path) -> None:
    run = compare(Suite(tmp_path, {"test_a.py": "def test_a(): pass\n"}), *args)
    assert (run.exit_code, message in run.output) == (status, True), run.output
    assert not os.path.lexists(tmp_path / ".pytest_cache")
