"""The `farm` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

import click

from snapfarm import __version__
from snapfarm.arguments import PytestCommand, unprotected
from snapfarm.errors import EXIT_INTERRUPTED, EXIT_USAGE
from snapfarm.words import CONFIGURED

_RUN_EPILOG = """
Everything else goes to pytest: -k, -m, -x, --lf, -q, -v, -s, --junitxml, paths and node ids, and
--rebuild-golden, which builds golden databases anew.

Exit codes are pytest's: 0 all passed, 1 some failed, 2 interrupted, 3 internal error, 4 usage
error, 5 no tests.
"""

#: Options of `farm run` that take a value, with the pytest option that each is.
RUN_OPTIONS = {
    "workers": "--farm",
    "dist": "--farm-dist",
    "config": "--farm-config",
    "farm_report": "--farm-report",
    "test_timeout": "--farm-test-timeout",
    "max_worker_restart": "--farm-max-worker-restart",
    "start_method": "--farm-start-method",
    "ring": "--farm-ring",
    "reset": "--farm-reset",
    "sensors": "--farm-sensors",
    "reruns": "--farm-reruns",
    "flaky": "--farm-flaky",
    "history": "--farm-history",
    "verdicts": "--farm-verdicts",
    "anomalies": "--farm-anomalies",
}


#: Arguments with which pytest runs no test.
_ONLY_LOOK = frozenset(
    {
        "--co", "--collect-only", "--fixtures", "--funcargs", "--fixtures-per-test", "--markers",
        "--setup-plan", "--setup-only", "--cache-show", "-h", "--help", "-V", "--version",
    }
)  # fmt: skip

#: Commands about flakes.
_FLAKES = ("bisect", "history", "hunt", "replay")


class FarmCommand(click.Group):
    """The command group: exit codes as in pytest, and commands that are imported when called."""

    def main(self, args: Sequence[str] | None = None, *_: object, **__: object) -> NoReturn:
        """Run a command and exit: 4 after a usage error, where click would exit with 2."""
        try:
            status = super().main(args, standalone_mode=False)
        except click.ClickException as error:
            error.show()
            sys.exit(EXIT_USAGE)
        except click.Abort:
            sys.exit(EXIT_INTERRUPTED)
        sys.exit(status)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(
            {
                *super().list_commands(ctx),
                *("compare", "diff", "doctor", "golden", "init", "report", *_FLAKES),
            }
        )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; the others bring much with them that `run` does not need."""
        if cmd_name == "golden":
            from snapfarm.golden_command import golden

            return golden
        if cmd_name == "compare":
            from snapfarm.compare_command import compare

            return compare
        if cmd_name == "doctor":
            from snapfarm.doctor_command import doctor

            return doctor
        if cmd_name == "init":
            from snapfarm.init_command import init

            return init
        if cmd_name in _FLAKES:
            from snapfarm import flakes_command

            return flakes_command.COMMANDS[cmd_name]
        if cmd_name == "report":
            from snapfarm.report_command import report

            return report
        if cmd_name == "diff":
            from snapfarm.diff_command import diff

            return diff
        return super().get_command(ctx, cmd_name)


@click.group(cls=FarmCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="farm")
def main() -> None:
    """Run pytest suites in parallel, each test on a pristine copy of a golden SQLite database."""


@main.command(
    cls=PytestCommand,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True},
    epilog=_RUN_EPILOG,
)
@click.option("-n", "--workers", metavar="N", help="Worker processes, or auto, or logical.")
@click.option("--dist", metavar="MODE", help="load, loadscope, loadfile, loadgroup, worksteal.")
@click.option("--config", metavar="FILE", help="Read the farm's configuration here.")
@click.option("--farm-report", metavar="FILE", help="Write a JSON report of the run.")
@click.option("--test-timeout", metavar="SECONDS", help="End a test that takes longer.")
@click.option("--max-worker-restart", metavar="N", help="Replace at most N dead workers.")
@click.option("--start-method", metavar="METHOD", help="spawn, forkserver or fork.")
@click.option("--ring", metavar="KIND", help="shared-cache, memdb or private.")
@click.option("--reset", metavar="POLICY", help="test, module, session or never.")
@click.option("--sensors", metavar="full|light|off", help="Watch databases for anomalies.")
@click.option("--reruns", metavar="N", help="Run a test that fails up to N more times.")
@click.option("--flaky", metavar="POLICY", help="pass, fail, or quarantine: what a flake means.")
@click.option("--history", metavar="on|off", help="Keep attempts in .farm/history.sqlite.")
@click.option(
    "--verdicts",
    is_flag=True,
    flag_value="on",
    default=None,
    help="Find out why tests failed, and who broke them.",
)
@click.option("--anomalies", metavar="report|fail", help="Fail tests with anomalies.")
@click.argument("pytest_args", nargs=-1, type=click.UNPROCESSED)
def run(pytest_args: tuple[str, ...], **options: str | None) -> None:
    """Run a pytest suite on worker processes, each with the golden databases.

    Without -n the configuration says how many workers; -n 0 runs plain pytest.
    """
    # Of these two the second takes longer: what workers are made from imports at the same time.
    from snapfarm.launch import launcher

    arguments = pytest_arguments(options, pytest_args)
    if may_fork(options, arguments):
        launcher.start_early(launcher.OF_PYTEST)
    try:
        import pytest

        sys.exit(pytest.main(arguments))
    finally:
        launcher.discard_early()


def may_fork(options: Mapping[str, str | None], arguments: Sequence[str]) -> bool:
    """Tell whether a run will probably have workers that are copies of a fork server."""
    method = options.get("start_method") or os.environ.get("FARM_START_METHOD") or "forkserver"
    return (
        method == "forkserver"
        and options.get("workers") != "0"
        and _ONLY_LOOK.isdisjoint(arguments)
    )


def pytest_arguments(options: dict[str, str | None], rest: tuple[str, ...]) -> list[str]:
    """Return what pytest is called with for `farm run`."""
    arguments = ["-p", "snapfarm"]
    if options.get("workers") is None:
        # The configuration decides how many; a farm it is in any case.
        options = options | {"workers": CONFIGURED}
    for name, option in RUN_OPTIONS.items():
        value = options.get(name)
        if value is not None:
            arguments += [f"{option}={value}"]
    return [*arguments, *unprotected(rest)]


if __name__ == "__main__":
    main()
