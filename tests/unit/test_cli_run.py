"""`farm run` takes `-n` and its own long options; every other option is pytest's, in its place."""

from __future__ import annotations

import pytest

from snapfarm.cli import may_fork, pytest_arguments, run


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [
        (["-n3", "-ktest_hello_n"], ["--farm=3", "-ktest_hello_n"]),
        (["-rN", "-mnot slow", "-pno:cov", "-n", "2"],
         ["--farm=2", "-rN", "-mnot slow", "-pno:cov"]),
        (["-xvs", "-qqh.py"], ["--farm=configured", "-xvs", "-qqh.py"]),
        (["-k", "a or h", "tests", "-n0"], ["--farm=0", "-k", "a or h", "tests"]),
        (["--maxfail=2", "--dist=loadfile", "-x"],
         ["--farm=configured", "--farm-dist=loadfile", "--maxfail=2", "-x"]),
        (["--", "-n", "x"], ["--farm=configured", "-n", "x"]),
    ],
)  # fmt: skip
def test_arguments_of_pytest(given: list[str], passed_on: list[str]) -> None:
    context = run.make_context("run", list(given))
    rest = context.params.pop("pytest_args")
    assert pytest_arguments(context.params, rest) == ["-p", "snapfarm", *passed_on]


@pytest.mark.parametrize(
    ("given", "variable", "forks"),
    [
        (["-n2"], None, True),
        ([], "", True),
        (["--start-method=forkserver"], "spawn", True),
        (["--start-method=spawn"], None, False),
        ([], "fork", False),
        (["-n", "0"], None, False),
        (["-n2", "-q", "--collect-only"], None, False),
        (["--help-me"], None, True),
    ],
)
def test_whether_a_fork_server_is_started_early(
    given: list[str], variable: str | None, forks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FARM_START_METHOD", raising=False)
    if variable is not None:
        monkeypatch.setenv("FARM_START_METHOD", variable)
    context = run.make_context("run", list(given))
    rest = context.params.pop("pytest_args")
    assert may_fork(context.params, pytest_arguments(context.params, rest)) is forks
