"""`farm compare`: run a suite with plain pytest, pytest-xdist and the farm, and compare."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click
import msgspec

from snapfarm import __version__
from snapfarm.arguments import PytestCommand, unprotected
from snapfarm.compare import runs, text
from snapfarm.compare.model import Comparison, runner_line, spent
from snapfarm.compare.record import RUNNERS, Runner
from snapfarm.compare.runs import Suite, SuiteRun
from snapfarm.compare.verdict import judge
from snapfarm.config import FarmConfig, load_config
from snapfarm.errors import (
    EXIT_INTERNAL,
    EXIT_INTERRUPTED,
    EXIT_NO_TESTS,
    EXIT_OK,
    EXIT_TESTS_FAILED,
    EXIT_USAGE,
    UserError,
)
from snapfarm.report.model import write_text
from snapfarm.serving import serve
from snapfarm.workers import cores, processors

_EPILOG = """
Everything else goes to pytest, in each run: -k, -m, paths and node ids, plugins.

Exit codes: 0 equal outcomes, 1 different ones, 2 interrupted, 3 internal error, 4 usage error, 5 no
tests. Tests that fail alike everywhere are equal.
"""

#: Lines that are shown of the output of a run that could not be compared.
_TAIL = 25


@click.command(
    cls=PytestCommand,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True},
    epilog=_EPILOG,
)
@click.option("-n", "--workers", metavar="N", help="Worker processes of xdist and of the farm.")
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True,
              help="Runs of each runner, in turns; times are medians.")  # fmt: skip
@click.option("--runner", "chosen", type=click.Choice(RUNNERS), multiple=True,
              help="Run only these; to be given several times.")  # fmt: skip
@click.option("--dist", metavar="MODE", help="load, loadscope, loadfile, loadgroup, worksteal.")
@click.option("--shuffle", metavar="SEED", help="Shuffle the tests, in each run alike.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False),
              metavar="FILE", help="Write all that is known as JSON.")  # fmt: skip
@click.argument("pytest_args", nargs=-1, type=click.UNPROCESSED)
def compare(
    pytest_args: tuple[str, ...],
    workers: str | None,
    rounds: int,
    chosen: tuple[Runner, ...],
    dist: str | None,
    shuffle: str | None,
    json_file: Path | None,
) -> None:
    """Run a suite with plain pytest, pytest-xdist and the farm, and compare the outcomes.

    Test by test, with times, CPU and memory of each, and where the time of the farm goes.
    """
    runners = [each for each in RUNNERS if not chosen or each in chosen]
    notes = []
    if "xdist" in runners and not runs.has_xdist():
        if chosen:
            _fail("pytest-xdist is not installed here: leave out --runner xdist, or install it")
        runners.remove("xdist")
        notes.append("pytest-xdist is not installed here, so it is left out")
    if len(runners) < 2:
        _fail(f"{runners[0]} alone can't be compared: give --runner twice, or not at all")
    if workers is not None:
        _count(workers)
    # As Ctrl-C does: the run ends in order, and its folder is removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    scratch = Path(tempfile.mkdtemp(prefix="fc-")).resolve()
    try:
        suite = Suite(
            folder=Path.cwd(), arguments=unprotected(pytest_args), workers=1, dist=dist,
            shuffle=shuffle,
        )  # fmt: skip
        config = _prepared(suite, scratch, farm="farm" in runners)
        suite = msgspec.structs.replace(suite, workers=_count(workers or config.workers))
        found = _run_all(suite, runners, rounds, scratch)
    except UserError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        click.echo("farm: interrupted: nothing was compared", err=True)
        sys.exit(EXIT_INTERRUPTED)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    names = {runner: _name(runner, suite) for runner in runners}
    comparison = Comparison(
        snapfarm=__version__,
        python=sys.version.split()[0],
        arguments=suite.arguments,
        workers=suite.workers,
        dist=dist,
        shuffle=shuffle,
        rounds=rounds,
        runners={names[runner]: runner_line(found[runner]) for runner in runners},
        farm=spent(found["farm"]) if "farm" in runners else None,
        verdict=judge(
            {names[runner]: [run.outcome for run in found[runner]] for runner in runners}
        ),
        notes=(*notes, *_notes(found)),
    )
    click.echo()
    for line in text.lines(comparison):
        click.echo(line)
    _show_failures(comparison, {names[runner]: found[runner] for runner in runners})
    if json_file is not None:
        data = msgspec.json.format(msgspec.json.encode(comparison), indent=2)
        try:
            write_text(data.decode() + "\n", json_file)
        except OSError as error:
            _fail(f"{json_file} can't be written: {error.strerror or error}")
    sys.exit(EXIT_OK if comparison.verdict.equal else EXIT_TESTS_FAILED)


def _prepared(suite: Suite, scratch: Path, *, farm: bool) -> FarmConfig:
    """Collect once, so that all modules are compiled for the first run too; build the databases.

    A suite that can't be collected ends the command as pytest ends. Raises UserError.
    """
    collected = runs.collect(suite, scratch / "collect")
    status = collected.outcome.exit_status
    if collected.session is None or status in {EXIT_USAGE, EXIT_INTERNAL, EXIT_NO_TESTS}:
        click.echo(collected.output.rstrip())
        click.echo(
            f"farm: pytest collects nothing here (its exit code is {status}). This was the command "
            "pytest: where only python -m pytest works, write pythonpath = . into its settings",
            err=True,
        )
        sys.exit(status if status in {EXIT_INTERNAL, EXIT_NO_TESTS} else EXIT_USAGE)
    config = load_config(Path(collected.session.rootdir))
    if farm and config.golden:
        serve(config, rebuild=False, scratch=scratch, say=click.echo)
    if collected.session.maxfail:
        click.echo(
            "farm: note: with -x or --maxfail, runs by several workers stop elsewhere than plain "
            "pytest does: leave it out to compare all tests",
            err=True,
        )
    return config


def _count(wanted: str | int) -> int:
    if wanted == "auto":
        return cores()
    if wanted == "logical":
        return processors()
    if not str(wanted).isdecimal() or int(wanted) < 1:
        _fail(f"-n: expected a whole number of at least 1, auto or logical, got {wanted!r}")
    return int(wanted)


def _run_all(
    suite: Suite, runners: Sequence[Runner], rounds: int, scratch: Path
) -> dict[Runner, list[SuiteRun]]:
    """Run all rounds; each begins with another runner, so that none always has the first turn."""
    found: dict[Runner, list[SuiteRun]] = {runner: [] for runner in runners}
    for number in range(rounds):
        first = number % len(runners)
        for runner in (*runners[first:], *runners[:first]):
            run = runs.run(suite, runner, scratch / f"{runner}{number}")
            found[runner].append(run)
            tests = len(run.outcome.tests)
            click.echo(
                f"round {number + 1} of {rounds}   {_name(runner, suite)}   {tests} outcomes   "
                f"{run.wall:.2f} s"
            )
    return found


def _name(runner: Runner, suite: Suite) -> str:
    return runner if runner == "plain" else f"{runner} -n {suite.workers}"


def _notes(found: dict[Runner, list[SuiteRun]]) -> list[str]:
    reports = [run.farm for run in found.get("farm", ()) if run.farm is not None]
    notes = [
        f"{line.worker} of the farm died: {line.death}"
        for report in reports
        for line in report.workers.values()
        if line.death
    ]
    # Of databases that only the run itself could name, as those of Django's settings.
    notes += [
        f"golden database {golden.name!r} was built in {golden.build_seconds:.1f} s of the farm's "
        f"time; the next run takes it from the cache"
        for report in reports
        for golden in report.golden
        if not golden.cached
    ]
    return list(dict.fromkeys(notes))


def _show_failures(comparison: Comparison, found: dict[str, list[SuiteRun]]) -> None:
    """Show the end of the output of runs that ended otherwise than in passed or failed tests."""
    statuses = comparison.verdict.exit_statuses or {}
    for name in statuses:
        for run in found[name]:
            if run.outcome.exit_status not in {EXIT_OK, EXIT_TESTS_FAILED}:
                click.echo(f"\nthe last lines of {name}:")
                for line in run.output.rstrip().splitlines()[-_TAIL:]:
                    click.echo(f"  {line}")
                break


def _fail(message: str) -> NoReturn:
    click.echo(f"farm: {message}", err=True)
    sys.exit(EXIT_USAGE)
