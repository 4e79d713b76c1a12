"""What a farm says on pytest's terminal, and the JSON report that it leaves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

import msgspec
import pytest

from snapfarm.report.model import FORMAT_VERSION, RunReport
from support.pytest_runs import Runs

DATABASE = {
    "farm.toml": '[golden.default]\nschema = ["schema.sql"]\n',
    "schema.sql": "CREATE TABLE t(x); INSERT INTO t VALUES (1);",
}

TALKS = """
import logging, os, sys
import pytest

@pytest.mark.parametrize("n", range(4))
def test_it(farm_db, n):
    print("said by", n)
    print("warned by", n, file=sys.stderr)
    logging.getLogger("talk").info("logged by %s", n)
    assert farm_db.execute("SELECT count(*) FROM t").fetchone() == (1,)
"""

READY = re.compile(
    r"^farm    (\d) workers ready in \d+\.\d s   snapshot verified by (\d) of 2   4 items$",
    re.MULTILINE,
)


def test_lines_of_a_run(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "suite", {"test_it.py": TALKS, **DATABASE})
    first = runs.run()
    assert first.counts == "4 passed"
    assert re.search(r"^golden  default   .* 1 table   built", first.stdout, re.MULTILINE)
    ready = READY.search(first.stdout)
    assert ready is not None, first.stdout
    assert ready.groups() == ("2", "2")
    # Before the first dot; and what tests say is captured.
    assert first.stdout.index("workers ready") < first.stdout.index("....")
    assert "said by" not in first.text

    talking = runs.run("-s", "-v", "-o", "log_cli=true", "--log-cli-level=INFO")
    assert "(cached: " in talking.stdout
    for n in range(4):
        for said in ("said by", "warned by"):
            assert re.search(rf"^\[gw[01]\] {said} {n}$", talking.stdout, re.MULTILINE)
        assert re.search(rf"^\[gw[01]\] INFO .* logged by {n}$", talking.stdout, re.MULTILINE)
        name = rf"test_it\.py::test_it\[{n}\] *"
        assert re.search(rf"^{name}$", talking.stdout, re.MULTILINE)
        assert re.search(rf"^\[gw[01]\].* PASSED {name}$", talking.stdout, re.MULTILINE)
    assert not [line for line in talking.stdout.splitlines() if line.startswith(("said", "warned"))]

    quiet = runs.run("-q")
    assert quiet.stdout.split()[0] == "...."


ERRORS = """
import sqlite3

def test_connection(farm_db): farm_db.execute("SELECT * FROM nothing")
def test_cursor(farm_db): farm_db.cursor().executemany("INSERT INTO nothing VALUES (?)", [(1,)])
def test_script(farm_db): farm_db.executescript("DROP TABLE nothing")
def test_connect(farm_uri): sqlite3.connect(farm_uri, uri=True, isolation_level="no such")
def test_lock(farm_uri):
    one, other = (sqlite3.connect(farm_uri, uri=True, timeout=0.05) for _ in range(2))
    one.execute("INSERT INTO t VALUES (2)")
    other.execute("INSERT INTO t VALUES (3)")
"""


def test_errors_of_a_database_are_shown_where_the_test_called(tmp_path: Path) -> None:
    run = Runs(tmp_path / "suite", {"test_it.py": ERRORS, **DATABASE}).run()
    assert run.counts == "5 failed", run.text
    shown = re.findall(r"^(\S+):\d+: (\w+)$", run.stdout, re.MULTILINE)
    assert sorted(shown) == [
        ("test_it.py", "OperationalError"),
        ("test_it.py", "OperationalError"),
        ("test_it.py", "OperationalError"),
        ("test_it.py", "OperationalError"),
        ("test_it.py", "ValueError"),
    ]
    assert "snapfarm_worker/" not in run.stdout


def test_output_without_a_terminal_reporter(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "suite", {"test_it.py": TALKS, **DATABASE})
    run = runs.run("-p", "no:terminal", "-s")
    assert run.exit_code == 0
    assert re.fullmatch(r"(\[gw[01]\] (said|warned) by \d\n){8}", run.stdout), run.stdout
    assert set(run.outcomes.values()) == {"passed"}


WARNS = {
    "pytest.ini": "[pytest]\nno_such_option = 1\n",
    "conftest.py": """
import warnings
warnings.warn("import of conftest")
def pytest_configure(config):
    config.issue_config_time_warning(UserWarning("configuration"), 2)
""",
    "test_it.py": """
import warnings
warnings.warn("import of a module", RuntimeWarning)
class OwnWarning(DeprecationWarning):
    def __init__(self, a, b): super().__init__(f"{a} and {b}")
def test_1(): warnings.warn(OwnWarning(1, object))
def test_2(): warnings.warn(OwnWarning(1, object))
def test_3(): warnings.warn("same")
def test_4(): warnings.warn("same")
""",
}


def test_warnings_are_summarized_once_with_their_class(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "suite", WARNS)
    plain, farm = runs.compare()

    def summary(text: str) -> list[str]:
        found = text.partition("warnings summary")[2].partition("-- Docs")[0]
        return sorted(line.strip() for line in found.splitlines()[1:])

    assert farm.counts == plain.counts == "4 passed, 8 warnings"
    assert summary(farm.stdout) == summary(plain.stdout)
    assert "OwnWarning: 1 and <class 'object'>" in farm.stdout


@pytest.mark.parametrize(
    ("filter_", "counts"),
    [("error::test_it.OwnWarning", "2 failed"), ("ignore::UserWarning", "3 warnings")],
)
def test_warning_filters_hold_in_workers(filter_: str, counts: str, tmp_path: Path) -> None:
    runs = Runs(tmp_path / "suite", WARNS)
    plain, farm = runs.compare("-W", filter_)
    assert farm.shown == plain.shown
    assert counts in farm.counts


def test_report_of_a_farm_and_of_a_plain_run(tmp_path: Path) -> None:
    body = TALKS + "def test_fails(): assert 0\ndef test_skipped(): pytest.skip('x')\n"
    body += "@pytest.mark.xfail\ndef test_xfail(): assert 0\n"
    runs = Runs(tmp_path / "suite", {"test_it.py": body, **DATABASE})
    for way, workers in (("farm", {"gw0", "gw1"}), ("plain", {"master"})):
        run = runs.run("--farm-report", "deep/report.json", way=way)
        path = runs.root / "deep/report.json"
        report = msgspec.json.decode(path.read_bytes(), type=RunReport, strict=True)
        path.unlink()
        assert run.exit_code == report.exit_status == 1
        assert report.format_version == FORMAT_VERSION
        assert report.started > 0
        assert 0 < report.seconds < 600
        assert {item.nodeid: item.outcome for item in report.items} == {
            **{f"test_it.py::test_it[{n}]": "passed" for n in range(4)},
            "test_it.py::test_fails": "failed",
            "test_it.py::test_skipped": "skipped",
            "test_it.py::test_xfail": "skipped",
        }
        assert {item.worker for item in report.items} <= workers
        assert report.unrun == []
        if way == "farm":
            assert (report.planned_workers, report.dist) == (2, "load")
            assert [golden.name for golden in report.golden] == ["default"]
            assert set(report.workers) == workers
            assert sum(worker.items for worker in report.workers.values()) == 7
            for worker in report.workers.values():
                assert worker.pid > 0
                assert set(worker.restore_seconds) == {"default"}
                times = worker.times
                assert times is not None
                assert min(times.start, times.collection, times.waiting) > 0
                phases = worker.setup_seconds + worker.call_seconds + worker.teardown_seconds
                # One that came too late has run none of the seven tests, and spent nothing on any.
                assert (phases > 0) == (worker.items > 0)
                assert phases <= worker.busy_seconds
            assert report.wall is not None
            spans = msgspec.structs.astuple(report.wall)
            assert min(spans) > 0
            assert sum(spans) == pytest.approx(report.seconds)


def test_a_report_that_cannot_be_written_ends_no_run(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "suite", {"test_it.py": "def test_it(): pass\n", "file": ""})
    run = runs.run("--farm-report", "file/report.json")
    assert (run.exit_code, run.counts) == (0, "1 passed")
    assert "the report could not be written" in run.stderr


@pytest.mark.parametrize(
    ("way", "options", "told"),
    [
        ("plain", "--farm=many", "flag --farm (farm run: --workers): expected a whole number"),
        ("farm", "--farm-dist=far", "flag --farm-dist (farm run: --dist): expected one of"),
        ("command", "--reset=often", "flag --farm-reset (farm run: --reset): expected one of"),
        ("farm", "--pdb", "leave out --farm"),
        ("farm beside xdist", "-n2", "--farm and -n (pytest-xdist) exclude each other"),
        ("farm beside xdist", "--tx=popen", "--farm and --tx (pytest-xdist) exclude each other"),
        ("farm beside xdist", "--dist=each", "flag --farm-dist (farm run: --dist): expected one"),
        ("farm", "--dist=loadfile", "unrecognized arguments: --dist=loadfile"),
    ],
)
def test_values_that_cannot_be_used(way: str, options: str, told: str, tmp_path: Path) -> None:
    runs = Runs(tmp_path / "suite", {"test_it.py": "def test_it(): pass\n"})
    run = runs.run(options, way=way)
    assert run.exit_code == pytest.ExitCode.USAGE_ERROR
    assert told in run.stderr


def test_options_of_xdist_mean_the_same_beside_a_farm(tmp_path: Path) -> None:
    options = "addopts = --dist loadfile --maxprocesses=1 --max-worker-restart=0"
    runs = Runs(
        tmp_path / "suite",
        {
            "pytest.ini": f"[pytest]\n{options}\n",
            "test_it.py": "import os\ndef test_dies(): os.abort()\ndef test_it(): pass\n",
        },
    )
    run = runs.run(way="farm beside xdist")
    report = cast("dict[str, object]", run.report)
    assert (report["dist"], report["planned_workers"]) == ("loadfile", 1)
    assert "no replacement is allowed" in run.stdout
    # What is said to the farm itself counts more.
    run = runs.run("--farm-dist=loadscope", "--farm-max-worker-restart=1", way="farm beside xdist")
    assert run.counts == "1 failed, 1 passed"
    assert cast("dict[str, object]", run.report)["dist"] == "loadscope"


def test_auto_asks_conftests_and_the_environment(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "suite", {"test_it.py": "def test_it(): pass\n"})
    for way, args in (("farm", ("--farm=auto",)), ("command", ("-n", "logical"))):
        run = runs.run(*args, way=way, env={"PYTEST_XDIST_AUTO_NUM_WORKERS": "1"})
        assert cast("dict[str, object]", run.report)["planned_workers"] == 1
    hook = "def pytest_xdist_auto_num_workers(config): return 3\n"
    runs.write({"conftest.py": hook})
    for way in ("farm", "farm beside xdist"):
        run = runs.run("--farm=auto", way=way)
        assert cast("dict[str, object]", run.report)["planned_workers"] == 3


@pytest.mark.parametrize("options", ["-n 3", "-nauto", "--numprocesses=3 --dist loadfile"])
def test_workers_of_xdist_in_addopts_are_for_runs_without_a_farm(
    options: str, tmp_path: Path
) -> None:
    runs = Runs(
        tmp_path / "suite",
        {
            "pytest.ini": f"[pytest]\naddopts = {options}\n",
            "test_it.py": "def test_one(worker_id): assert worker_id in {'gw0', 'gw1'}\n"
            "def test_two(): pass\n",
        },
    )
    run = runs.run(way="farm beside xdist")
    assert (run.exit_code, run.counts) == (0, "2 passed")
    assert "snapfarm: -n of addopts is for pytest-xdist, and left out beside a farm" in run.stdout
    assert cast("dict[str, object]", run.report)["planned_workers"] == 2


def test_a_configuration_that_is_not_the_root_directorys_is_named(tmp_path: Path) -> None:
    runs = Runs(
        tmp_path / "suite",
        {
            "pyproject.toml": "[tool.pytest.ini_options]\n",
            "below/farm.toml": '[golden.default]\nscript = "CREATE TABLE t (x)"\n',
            "below/test_it.py": "def test_it(): pass\n",
        },
    )
    run = runs.run(cwd=runs.root / "below")
    assert run.counts == "1 passed", run.text
    stray = runs.root / "below" / "farm.toml"
    assert f"snapfarm: {stray} is not read, as pytest's rootdir is {runs.root}: " in run.stdout
