"""The `farm` command line: exit codes as in pytest, and options that reach pytest unchanged."""

from __future__ import annotations

import click
import pytest

from snapfarm.cli import RUN_OPTIONS, main, pytest_arguments, run


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
