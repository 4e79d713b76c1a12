"""Hunts end to end: interrupted, on a terminal, with other rings and on farms; and from Python."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from snapfarm.errors import ConfigError
from snapfarm.flakes import Cause, History, Suite, bisect, hunt, replay
from snapfarm.flakes.changes import changed_since
from support import suite as support
from support.repository import git
from support.suite import RunningSuite, clean_environment

FARM = [sys.executable, "-m", "snapfarm.cli"]


def test_an_interrupted_hunt_keeps_what_it_has_found(tmp_path: Path) -> None:
    """The first round is under way: what failed in it is told, and in the history."""
    support.Suite(tmp_path, {"test_it.py": (
        "import time\n"
        "def test_ok(): pass\n"
        "def test_fails(): assert 0\n"
        "def test_waits():\n    open('here', 'w').write('x')\n    time.sleep(300)\n"
    )})  # fmt: skip
    command = [*FARM, "hunt", "-n", "1", "--rounds", "3", "--json", "hunt.json"]
    running = RunningSuite(command, tmp_path, clean_environment())
    try:
        running.wait_for_file("here")
        running.signal(signal.SIGINT)
        done = running.wait()
    finally:
        running.finish()
    assert done.exit_code == pytest.ExitCode.INTERRUPTED, done.output
    assert "round 1 (order): test_it.py::test_fails   AssertionError" in done.output
    assert "0 rounds, 2 tests run" in done.output
    assert "fails   test_it.py::test_fails   1 of 1, 95 % 20.7-100.0 %" in done.output
    assert "farm: interrupted: what was found until then is above" in done.output
    assert '"interrupted": true' in (tmp_path / "hunt.json").read_text()
    with History(tmp_path / ".farm" / "history.sqlite") as kept:
        assert [(one.test, one.outcome) for one in kept.attempts()] == [
            ("test_it.py::test_ok", "passed"),
            ("test_it.py::test_fails", "failed"),
        ]
        assert kept.rates()["test_it.py::test_fails"].failures == 1


def test_a_terminal_shows_a_table_and_then_the_summary(tmp_path: Path) -> None:
    body = "def test_ok(): pass\ndef test_fails(): assert 0\n"
    support.Suite(tmp_path, {"test_it.py": body})
    ours, theirs = pty.openpty()
    env = clean_environment() | {"TERM": "xterm", "COLUMNS": "120", "LINES": "30"}
    command = [*FARM, "hunt", "-n", "1", "--rounds", "2", "--no-verdicts"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=env, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 1 << 16):
            shown += data
    except OSError:
        pass  # so ends a terminal that nobody writes to any more
    finally:
        os.close(ours)
    assert process.wait(60) == 1
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    table, _, summary = text.rpartition("Ctrl-C ends it with a summary")
    assert re.search(r"test_it\.py::test_fails +│ \d of \d, 95 %", table)
    assert "2 rounds, 4 tests run, 1 failed; 0 rounds left; last: order" in table
    assert "2 rounds, 4 tests run\r\nfails   test_it.py::test_fails   2 of 2" in summary


def test_other_rings_and_farms_are_hunted_where_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where this runs on a farm of two itself, that would fail in each round.
    monkeypatch.delenv("PYTEST_XDIST_WORKER_COUNT", raising=False)
    support.Suite(tmp_path, {
        "test_it.py": (
            "import os\n"
            "def test_ring(farm_uri): assert 'memdb' not in farm_uri\n"
            "def test_alone(): assert os.environ.get('PYTEST_XDIST_WORKER_COUNT') != '2'\n"
        ),
        "farm.toml": "[golden.default]\nschema = ['schema.sql']\n",
        "schema.sql": "CREATE TABLE bill (id);",
    })  # fmt: skip
    rounds: list[str] = []
    found = hunt(
        Suite((), tmp_path),
        rounds=8,
        workers=1,
        rings=["memdb"],
        farms=[2],
        verdicts=False,
        told=lambda _, one, new: rounds.append(f"{one.conditions.name}: {', '.join(new)}"),
        warn=pytest.fail,
    )
    assert rounds[4] == "ring memdb: test_it.py::test_ring"
    assert rounds[7] == "farm of 2: test_it.py::test_alone"
    seen = found.sightings.tests
    assert seen["test_it.py::test_ring"].only_under == "ring memdb"
    assert seen["test_it.py::test_alone"].only_under == "farm of 2"
    # What failed on another ring fails on it again, and only there.
    assert replay(found.run[:8], "test_it.py::test_ring", directory=tmp_path).reproduced


SHOP = {
    "test_it.py": (
        "def test_reads(farm_db):\n"
        "    assert farm_db.execute('SELECT count(*) FROM good').fetchone() == (1,)\n"
        "def test_other(farm_db):\n"
        "    farm_db.execute('INSERT INTO log VALUES (1)'); farm_db.commit()\n"
        "def test_writes(farm_db):\n"
        "    farm_db.execute('INSERT INTO good VALUES (2)'); farm_db.commit()\n"
        "def test_suffers(farm_db):\n"
        "    assert farm_db.execute('SELECT count(*) FROM good').fetchone() == (1,)\n"
    ),
    "farm.toml": "reset = 'never'\n[golden.default]\nschema = ['schema.sql']\n",
    "schema.sql": "CREATE TABLE good (id); CREATE TABLE log (id); INSERT INTO good VALUES (1);",
}


def test_writers_of_tables_are_recorded_blamed_and_replayed(tmp_path: Path) -> None:
    suite = support.Suite(tmp_path, SHOP)
    assert suite.run(workers=1).counts == {"passed": 3, "failed": 1}
    path = tmp_path / ".farm" / "history.sqlite"
    with History(path) as kept:
        tables = {one.test.partition("::")[2]: one.tables for one in kept.attempts()}
        assert tables == {
            "test_reads": "", "test_other": "default.log", "test_writes": "default.good",
            "test_suffers": "",
        }  # fmt: skip
        assert kept.writers(["default.good"]) == {"test_it.py::test_writes"}
    found = bisect(Suite((), tmp_path), "test_it.py::test_suffers")
    assert found.verdict.cause is Cause.DATABASE_RESIDUE
    assert found.culprits == (("test_it.py::test_writes",),)
    # Three tests before it: without a suspect it would take three runs.
    assert found.search_runs == 1
    same = replay("last", "test_it.py::test_suffers", directory=tmp_path)
    assert same.reproduced
    assert same.differences == ()
    (tmp_path / "schema.sql").write_text(SHOP["schema.sql"] + "CREATE TABLE more (id);")
    other = replay("last", "test_it.py::test_suffers", directory=tmp_path)
    assert other.reproduced
    (line,) = other.differences
    assert line.startswith("golden database 'default' is ")
    shown = subprocess.run(
        [*FARM, "replay", "last:test_it.py::test_suffers"],
        cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert shown.returncode == 1
    assert f"note    {line}\nfailed  test_it.py::test_suffers   AssertionError" in shown.stdout


def test_a_debugger_opens_where_a_replayed_test_fails(tmp_path: Path) -> None:
    files = {"test_it.py": "S = []\ndef test_a(): S.append(4711)\ndef test_b(): assert not S\n"}
    assert support.Suite(tmp_path, files).run(workers=1).exit_code == 1
    shown = subprocess.run(
        [*FARM, "replay", "last:test_it.py::test_b", "--pdb"],
        cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, check=False,
        input="p S * 2\nq\n",
    )  # fmt: skip
    assert "(Pdb) [4711, 4711]" in shown.stdout
    assert "failed  test_it.py::test_b   AssertionError: assert not [<n>]" in shown.stdout
    assert shown.returncode == 1


def test_tests_in_changed_and_new_files_are_known(tmp_path: Path) -> None:
    for name in ("old", "changed"):
        (tmp_path / f"test_{name}.py").write_text("def test_it(): pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    (tmp_path / "test_changed.py").write_text("def test_it(): pass\ndef test_more(): pass\n")
    (tmp_path / "test_new.py").write_text("def test_it(): pass\n")
    suite = Suite((), tmp_path)
    assert changed_since("HEAD", suite) == (
        "test_changed.py::test_it", "test_changed.py::test_more", "test_new.py::test_it",
    )  # fmt: skip
    with pytest.raises(ConfigError, match="--since nowhere: git says: "):
        changed_since("nowhere", suite)
