"""What of a run's reports becomes an attempt in the history, and what git says of the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from snapfarm.flakes.history import History, Run
from snapfarm.flakes.keeper import AttemptKeeper, Commit
from snapfarm_worker import wire
from support.repository import git
from support.suite import wait_for


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
    assert (run.finished is None, run.exit_status) == (False, 1)
    assert run.golden == '{"default": "d1", "default/with_orders": "d2"}'
    assert (first.outcome, first.seconds, first.written) == ("failed", 1.5, "default")
    assert first.tables == "default.bill\ndefault.good"
    assert (second.outcome, second.tables, second.position) == ("skipped", "", 1)


def test_a_run_knows_its_commit_before_it_ends(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "trunk")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "first")
    path = tmp_path / "h.sqlite"
    keeper = AttemptKeeper(
        path, Run(id="r", source="farm", started=1.0), tmp_path, warn=pytest.fail
    )

    def known() -> str:
        keeper.reported(_report("t.py::a", "setup"))
        keeper.ended("t.py::a")
        keeper.write(now=True)
        with History(path) as kept:
            return next(kept.runs()).branch

    keeper.begin({}, "memdb")
    assert wait_for("git to answer", known) == "trunk"
    with History(path) as kept:
        (run,) = kept.runs()
        assert (run.commit_id, run.finished) == (git(tmp_path, "rev-parse", "HEAD"), None)
        assert len(list(kept.attempts())) == len(keeper.attempts)
    keeper.close(0)


def test_git_is_asked_once_for_all(tmp_path: Path) -> None:
    assert Commit(tmp_path).read() == ("", "", None)
    git(tmp_path, "init", "-q", "-b", "trunk")
    assert Commit(tmp_path).read() == ("", "trunk", 0)
    (tmp_path / "a.py").write_text("1\n")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-qm", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert Commit(tmp_path).read() == (commit, "trunk", 0)
    (tmp_path / "a.py").write_text("2\n")
    (tmp_path / "new.py").write_text("2\n")
    assert Commit(tmp_path).read() == (commit, "trunk", 1)
    git(tmp_path, "checkout", "-q", "--detach")
    asked = Commit(tmp_path)
    assert asked.read() == (commit, "", 1)
    assert asked.read() == ("", "", None)
