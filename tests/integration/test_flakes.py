"""Flakes end to end, on real runs: reruns, quarantine, verdicts, history, replay, bisect, hunt."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from snapfarm.flakes.history import History
from support.suite import Suite, clean_environment, wait_for

#: A polluter and its victim; a test that fails the first time it is ever run, and others.
FLAKY = """
import os
STATE = []
def test_ok(): pass
def test_pollutes(): STATE.append(1)
def test_between(): pass
def test_suffers(): assert not STATE
def test_second_time():
    if not os.path.exists("flag"):
        open("flag", "w").close()
        raise TimeoutError("no answer from port 4711")
"""

QUARANTINE = """
[[quarantine]]
test = "test_it.py::test_suffers"
reason = "order"
owner = "anna"
issue = "https://example.org/7"
expires = {expires}
"""


def command(folder: Path, *arguments: str, status: int = 0) -> str:
    """Run `farm` in a folder; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "snapfarm.cli", *arguments],
        cwd=folder,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def attempts(folder: Path) -> list[tuple[str, int, str, str]]:
    """Return test, number, outcome and exception of each attempt that the history has."""
    with History(folder / ".farm" / "history.sqlite") as kept:
        return [(one.test, one.attempt, one.outcome, one.exception) for one in kept.attempts()]


def test_a_run_reruns_forgives_judges_and_remembers(tmp_path: Path) -> None:
    suite = Suite(tmp_path, {"test_it.py": FLAKY, "quarantine.toml": QUARANTINE.format(
        expires="2999-01-01")})  # fmt: skip
    run = suite.run("--farm-reruns=1", "--farm-flaky=quarantine", "--farm-verdicts=on", workers=1)
    # The flake that is not in quarantine fails the run; every test has one outcome.
    assert run.exit_code == 1, run.output
    assert run.counts == {"passed": 4, "skipped": 1}
    assert "1 rerun" in run.output.splitlines()[-1] or "2 rerun" in run.output.splitlines()[-1]
    flaky = run.text_of("flaky tests")
    assert "test_it.py::test_second_time: failed 1 of 2 attempts\n  TimeoutError: no " in flaky
    assert "test_it.py::test_suffers: failed 2 of 2 attempts, in quarantine" in flaky
    verdicts = run.text_of("verdicts")
    assert "test_it.py::test_suffers: order-dependent, victim (confidence: high)" in verdicts
    assert "polluter: test_it.py::test_pollutes (confirmed twice in new processes)" in verdicts
    assert run.report is not None
    found = {line["nodeid"]: line for line in run.report["verdicts"]}  # type: ignore[attr-defined]  # JSON
    assert found["test_it.py::test_suffers"]["culprits"] == [["test_it.py::test_pollutes"]]
    assert [line["nodeid"] for line in run.report["flakes"]] == [  # type: ignore[attr-defined]  # JSON
        "test_it.py::test_suffers", "test_it.py::test_second_time",
    ]  # fmt: skip
    assert sorted(attempts(tmp_path)) == [
        ("test_it.py::test_between", 1, "passed", ""),
        ("test_it.py::test_ok", 1, "passed", ""),
        ("test_it.py::test_pollutes", 1, "passed", ""),
        ("test_it.py::test_second_time", 1, "failed", "TimeoutError"),
        ("test_it.py::test_second_time", 2, "passed", ""),
        ("test_it.py::test_suffers", 1, "failed", "AssertionError"),
        ("test_it.py::test_suffers", 2, "failed", "AssertionError"),
    ]
    shown = command(tmp_path, "history", "show")
    assert "test_it.py::test_second_time: failed 1 of 2, 95 % 9.5-90.5 %, flaked in 1" in shown
    again = command(tmp_path, "replay", "last:test_it.py::test_suffers", status=1)
    assert "after 5 tests" in again or "after 3 tests" in again
    assert "failed  test_it.py::test_suffers   AssertionError" in again


def test_an_expired_entry_fails_a_run_that_passes(tmp_path: Path) -> None:
    expired = QUARANTINE.format(expires="2020-01-01")
    suite = Suite(
        tmp_path, {"test_it.py": "def test_suffers(): pass\n", "quarantine.toml": expired}
    )
    run = suite.run("--farm-history=off")
    assert (run.exit_code, run.counts) == (1, {"passed": 1})
    assert "expired on 2020-01-01; ask anna, see https://example.org/7" in run.text_of("quarantine")
    assert not (tmp_path / ".farm" / "history.sqlite").exists()


@pytest.mark.parametrize("mode", ["load", "loadfile"])
def test_reruns_keep_every_promise_of_a_run(tmp_path: Path, mode: str) -> None:
    body = "import pytest\n@pytest.mark.parametrize('n', range(8))\ndef test_n(n, request):\n"
    body += "    path = request.config.rootpath / f'{request.node.name}-{__name__}'\n"
    body += "    if n % 3 == 0 and not path.exists():\n        path.touch()\n        assert 0\n"
    suite = Suite(tmp_path, {f"test_{name}.py": body for name in "abc"})
    # -x counts final outcomes: no failure is one.
    run = suite.run("--farm-reruns=2", f"--farm-dist={mode}", "-x")
    assert (run.exit_code, run.counts) == (0, {"passed": 24}), run.output
    assert "24 passed, 9 rerun" in run.output
    assert "\n  -> farm bisect 'test_a.py::test_n[0]'\n" in run.text_of("flaky tests")
    failed = suite.run("--farm-reruns=2", f"--farm-dist={mode}", "-k", "n1", "-x")
    assert failed.exit_code == 5


def test_a_rerun_of_a_crash_is_not_its_outcome(tmp_path: Path) -> None:
    suite = Suite(tmp_path, {"test_it.py": (
        "import os\n"
        "def test_ok(): pass\n"
        "def test_dies_once():\n"
        "    if not os.path.exists('flag'):\n"
        "        open('flag', 'w').close()\n"
        "        os._exit(7)\n"
    )})  # fmt: skip
    run = suite.run("--farm-reruns=1")
    assert (run.exit_code, run.counts) == (0, {"passed": 2}), run.output
    assert ("test_it.py::test_dies_once", 1, "failed", "crash") in attempts(tmp_path)


def test_a_killed_run_leaves_its_attempts(tmp_path: Path) -> None:
    suite = Suite(tmp_path, {"test_it.py": (
        "import time\n"
        "def test_a(): pass\n"
        "def test_b(): assert 0\n"
        "def test_c():\n    open('here', 'w').write('x')\n    time.sleep(60)\n"
    )})  # fmt: skip
    path = tmp_path / ".farm" / "history.sqlite"

    def stored() -> bool:
        if not path.exists():
            return False
        conn = sqlite3.connect(path)
        try:
            (count,) = conn.execute("SELECT count(*) FROM attempt").fetchone()
        except sqlite3.OperationalError:
            return False
        finally:
            conn.close()
        return bool(count == 2)

    with suite.started(workers=1) as running:
        running.wait_for_file("here")
        wait_for("two attempts in the history", stored)
        running.signal(signal.SIGKILL)
        running.process.wait()
        running.assert_gone()
    assert attempts(tmp_path) == [
        ("test_it.py::test_a", 1, "passed", ""),
        ("test_it.py::test_b", 1, "failed", "AssertionError"),
    ]
    shown = command(tmp_path, "history", "show")
    assert "did not end" in shown
    (tmp_path / ".farm" / "history.sqlite-wal").unlink(missing_ok=True)
    path.write_bytes(b"damaged" * 1000)
    run = suite.run("--deselect=test_it.py::test_c")
    assert run.exit_code == 1
    assert "a new one begins" in run.output
    assert len(attempts(tmp_path)) == 2


def test_a_hunt_finds_names_and_remembers(tmp_path: Path) -> None:
    files = {"test_it.py": (
        "import random\nSTATE = []\n"
        "def test_ok(): pass\n"
        "def test_suffers(): assert not STATE\n"
        "def test_pollutes(): STATE.append(1)\n"
        "def test_chance(): assert random.random() < 0.5\n"
    )}  # fmt: skip
    Suite(tmp_path, files)
    report = tmp_path / "hunt.json"
    out = command(tmp_path, "hunt", "-n", "1", "--rounds", "5", "--json", str(report), status=1)
    assert "flaky   test_it.py::test_suffers   " in out
    assert "test_it.py::test_chance: random (confidence: high)" in out
    assert "polluter: test_it.py::test_pollutes (confirmed twice in new processes)" in out
    found = json.loads(report.read_bytes())
    assert {one["nodeid"]: one["cause"] for one in found["verdicts"]} == {
        "test_it.py::test_chance": "random",
        "test_it.py::test_suffers": "order-dependent",
    }
    assert found["tests"]["test_it.py::test_ok"]["failures"] == 0
    bisected = command(tmp_path, "bisect", "test_it.py::test_suffers")
    assert "polluter: test_it.py::test_pollutes" in bisected
    assert _lines(command(tmp_path, "history", "show"), "hunt")
    assert "is no time" in command(tmp_path, "hunt", "--for", "soon", status=4)
    unknown = command(tmp_path, "bisect", "test_it.py::test_none", status=4)
    assert "test_it.py::test_none was not collected" in unknown


def _lines(text: str, word: str) -> Sequence[str]:
    return [line for line in text.splitlines() if word in line]
