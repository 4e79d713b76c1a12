"""The `farm` command line: exit codes as in pytest, and options that reach pytest unchanged."""

from __future__ import annotations

import shlex

import click
import pytest

from snapfarm.cli import RUN_OPTIONS, main, pytest_arguments, run
from snapfarm.report.model import RunReport, alone_command, bisect_command, replay_command


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["golden", "no-such-command"],
        ["golden", "build", "--root", "/no/such/folder"],
        ["golden", "build", "--no-such-option"],
    ],
)
def test_usage_errors_exit_with_pytests_code(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    assert exited.value.code == 4
    assert "Usage: " in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["golden", "--help"]])
def test_help_exits_with_zero(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    assert exited.value.code in {0, None}
    assert "Usage: " in capsys.readouterr().out


def test_every_option_of_run_has_its_pytest_option() -> None:
    options = {p.name for p in run.params if isinstance(p, click.Option)}
    assert options - {"help"} == set(RUN_OPTIONS)


def test_arguments_for_pytest_keep_their_order() -> None:
    context = run.make_context(
        "run", ["-k", "a or b", "-n", "3", "tests/x.py", "-x", "--maxfail=2", "--dist", "loadfile"]
    )
    rest = context.params.pop("pytest_args")
    assert pytest_arguments(context.params, rest) == [
        "-p", "snapfarm", "--farm=3", "--farm-dist=loadfile",
        "-k", "a or b", "tests/x.py", "-x", "--maxfail=2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "nodeid", ["tests/test_a.py::test_a", "a b.py::T::test_x['\"$(ls) -n|a:b]"]
)
def test_commands_that_reports_print_are_ours(nodeid: str) -> None:
    report = RunReport(snapfarm="0", python="3", sqlite="3", started=0.0, planned_workers=2)
    assert _parsed(replay_command(report, nodeid)) == {"workers": "1", "pytest_args": (nodeid,)}
    assert _parsed(bisect_command(nodeid)) == {"test": nodeid, "pytest_args": ()}
    report.history_run = "0a1b2c3d"
    assert _parsed(replay_command(report, nodeid)) == {"attempt": f"0a1b2c3d:{nodeid}"}
    report.replay = ("--config", "ci.toml")
    expected = {"workers": "1", "config": "ci.toml", "pytest_args": (nodeid,)}
    assert _parsed(replay_command(report, nodeid)) == expected
    report.planned_workers = 0
    assert _parsed(alone_command(report, nodeid)) == expected | {"workers": "0"}


def _parsed(line: str) -> dict[str, object]:
    """Return what our own parser makes of a command, without what was not said."""
    program, name, *words = shlex.split(line)
    assert program == "farm"
    command = main.get_command(click.Context(main), name)
    assert command is not None
    params = command.make_context(name, words).params
    return {key: value for key, value in params.items() if value is not None and value is not False}
