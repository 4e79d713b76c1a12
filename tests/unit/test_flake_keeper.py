"""What of a run's reports becomes an attempt in the history, and what git says of the project."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from snapfarm.flakes.history import History, Run
from snapfarm.flakes.keeper import AttemptKeeper, Commit
from snapfarm_worker import wire


def _report(nodeid: str, when: str, outcome: str = "passed") -> pytest.TestReport:
    return pytest.TestReport(nodeid, ("t.py", 1, "t"), {}, outcome, None, when, duration=0.5)  # type: ignore[arg-type]  # Literals


def test_an_attempt_has_what_its_worker_told(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    keeper = AttemptKeeper(
        path, Run(id="r", source="farm", started=1.0), tmp_path, warn=pytest.fail
    )
    keeper.begin({"default": "d1", "default/with_orders": "d2"}, "memdb")
    message = wire.ItemFinished(
        "t.py::a", b"", 1.0,
        resets=(wire.RingReset("default", "swap", 0.1), wire.RingReset("log", "clean", 0.0)),
        written=("default.bill", "default.good"),
    )  # fmt: skip
    keeper.observed("t.py::a", message)
    for when, outcome in (("setup", "passed"), ("call", "failed"), ("teardown", "passed")):
        keeper.reported(_report("t.py::a", when, outcome))
    keeper.ended("t.py::a")
    for when, outcome in (("setup", "skipped"), ("teardown", "passed")):
        keeper.reported(_report("t.py::b", when, outcome))
    keeper.ended("t.py::b")
    keeper.close(1)
    with History(path) as kept:
        (run,) = kept.runs()
        first, second = kept.attempts()
        assert kept.writers(["default.good"]) == {"t.py::a"}
    assert run.golden == '{"default": "d1", "default/with_orders": "d2"}'
    assert (first.outcome, first.seconds, first.written) == ("failed", 1.5, "default")
    assert first.tables == "default.bill\ndefault.good"
    assert (second.outcome, second.tables, second.position) == ("skipped", "", 1)


def test_git_is_asked_once_for_all(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments],
            cwd=tmp_path, check=True, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout.strip()

    assert Commit(tmp_path).read() == ("", "", None)
    git("init", "-q", "-b", "trunk")
    assert Commit(tmp_path).read() == ("", "trunk", 0)
    (tmp_path / "a.py").write_text("1\n")
    git("add", "a.py")
    git("commit", "-qm", "first")
    commit = git("rev-parse", "HEAD")
    assert Commit(tmp_path).read() == (commit, "trunk", 0)
    (tmp_path / "a.py").write_text("2\n")
    (tmp_path / "new.py").write_text("2\n")
    assert Commit(tmp_path).read() == (commit, "trunk", 1)
    git("checkout", "-q", "--detach")
    asked = Commit(tmp_path)
    assert asked.read() == (commit, "", 1)
    assert asked.read() == ("", "", None)
