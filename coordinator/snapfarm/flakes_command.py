"""`farm hunt`, `bisect`, `replay` and `history`: which tests flake, why, and since when."""

from __future__ import annotations

import datetime as dt
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import click
import msgspec

from snapfarm.arguments import PytestCommand, unprotected
from snapfarm.config import FarmConfig, load_config
from snapfarm.errors import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_TESTS_FAILED,
    EXIT_USAGE,
    ConfigError,
    UserError,
)
from snapfarm.flakes import junit_import
from snapfarm.flakes.diagnosis import Diagnosis, Failure, Suite, diagnose, first_failing
from snapfarm.flakes.experiment import Laboratory, Order
from snapfarm.flakes.history import Attempt, History, HistoryError, Run, open_or_set_aside
from snapfarm.flakes.hunt import Hunt, Round, Sightings, diagnoses
from snapfarm.flakes.hunt_notes import HuntNotes
from snapfarm.flakes.watch import verdict_line
from snapfarm.report.model import write_text
from snapfarm.workers import cores

_PYTEST_SETTINGS = {"ignore_unknown_options": True, "allow_interspersed_args": True}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _span(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Return a time like 90s, 10m, 2h or 30d in seconds."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", value.strip())
    if found is None:
        raise click.BadParameter(f"{value!r} is no time: write 90s, 10m, 2h or 30d", ctx, param)
    return float(found[1]) * _UNITS[found[2]]


def _fail(error: UserError | str) -> NoReturn:
    click.echo(f"farm: {error}", err=True)
    sys.exit(EXIT_USAGE)


# ---------------------------------------------------------------- farm hunt


@click.command(cls=PytestCommand, context_settings=_PYTEST_SETTINGS)
@click.option("-n", "--workers", type=click.IntRange(1), help="Processes at a time.")
@click.option("--for", "seconds", callback=_span, metavar="TIME", help="Hunt so long, as in 10m.")
@click.option("--rounds", type=click.IntRange(1), help="Hunt so many rounds; 20 without --for.")
@click.option("--seed", type=int, default=1, help="Orders and seeds of the rounds follow from it.")
@click.option("--since", metavar="REV", help="Tests in files changed since REV come first.")
@click.option("--verdicts/--no-verdicts", default=True, help="Find out why what failed fails.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False),
              metavar="FILE", help="Write what was found as JSON.")  # fmt: skip
@click.argument("pytest_args", nargs=-1, type=click.UNPROCESSED)
def hunt(
    pytest_args: tuple[str, ...],
    workers: int | None,
    seconds: float | None,
    rounds: int | None,
    seed: int,
    since: str | None,
    verdicts: bool,
    json_file: Path | None,
) -> None:
    """Look for flaky tests: run the suite again and again, in other orders and circumstances.

    Other seeds, time zones, thread switches and load as well. What is found is kept in the history;
    Ctrl-C ends the hunt with a summary. The rest of the arguments is pytest's.
    """
    if rounds is None and seconds is None:
        rounds = 20
    try:
        config = load_config(Path.cwd())
        suite = Suite(unprotected(pytest_args), Path.cwd())
        notes = HuntNotes(config, suite)
        search = Hunt(
            suite,
            workers=workers or cores(),
            seed=seed,
            first=() if since is None else _changed_since(since, suite),
            told=lambda found, new: _tell_round(notes, search, found, new),
        )
        interrupted = False
        try:
            search.run(rounds=rounds, seconds=seconds)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            notes.close()
        _finish_hunt(suite, search.sightings, verdicts and not interrupted, json_file)
    except UserError as error:
        _fail(error)
    if interrupted:
        click.echo("farm: interrupted: what was found until then is above, and in the history")
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(EXIT_TESTS_FAILED if search.sightings.suspects else EXIT_OK)


def _tell_round(notes: HuntNotes, search: Hunt, found: Round, new: Sequence[str]) -> None:
    notes.add(found)
    seen = search.sightings
    for test in dict.fromkeys(new):
        first = seen.tests[test].first
        signature = "" if first is None else f"   {first.signature}"
        click.echo(f"round {found.number + 1} ({found.conditions.name}): {test}{signature}")
    if seen.rounds % 10 == 0:
        failing = len(seen.suspects)
        click.echo(f"        {seen.rounds} rounds, {seen.executions} tests run, {failing} failed")


def _finish_hunt(
    suite: Suite, sightings: Sightings, verdicts: bool, json_file: Path | None
) -> None:
    click.echo(f"{sightings.rounds} rounds, {sightings.executions} tests run")
    for test in sightings.suspects:
        seen = sightings.tests[test]
        what = "flaky" if seen.flaky else "fails"
        click.echo(f"{what:6}  {test}   {seen.rate}   first in round {seen.round + 1}")
    if not sightings.suspects:
        click.echo(f"no test failed{_upper_bound(sightings)}")
    found: list[Diagnosis] = []
    if verdicts and sightings.suspects:
        click.echo()
        for one in diagnoses(suite, sightings):
            found.append(one)
            _print(one)
    if json_file is not None:
        _write_hunt(sightings, found, json_file)


def _upper_bound(sightings: Sightings) -> str:
    runs = min((seen.runs for seen in sightings.tests.values() if seen.runs), default=0)
    if not runs:
        return ""
    seen = next(seen for seen in sightings.tests.values() if seen.runs == runs)
    return f": a flake of more than {seen.rate.interval()[1]:.0%} would have shown (95 %)"


def _print(found: Diagnosis) -> None:
    for line in found.lines():
        click.echo(line)


def _write_hunt(sightings: Sightings, found: list[Diagnosis], path: Path) -> None:
    data = {
        "rounds": sightings.rounds,
        "executions": sightings.executions,
        "tests": {
            test: {"failures": seen.failures, "runs": seen.runs, "interval": seen.rate.interval()}
            for test, seen in sightings.tests.items()
        },
        "verdicts": [verdict_line(one) for one in found],
    }
    try:
        write_text(msgspec.json.format(msgspec.json.encode(data)).decode() + "\n", path)
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror or error}") from error


def _changed_since(revision: str, suite: Suite) -> tuple[str, ...]:
    """Return the tests in files that git calls changed or new."""
    files: set[str] = set()
    for command in (
        ("diff", "--name-only", "--relative", revision),
        ("ls-files", "--others", "--exclude-standard"),
    ):
        done = subprocess.run(
            ["git", *command], cwd=suite.directory, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ConfigError(f"--since {revision}: git says: {done.stderr.strip()}")
        files.update(done.stdout.splitlines())
    with suite.laboratory() as lab:
        return tuple(test for test in lab.tests if test.partition("::")[0] in files)


# ---------------------------------------------------------------- farm bisect


@click.command(cls=PytestCommand, context_settings=_PYTEST_SETTINGS)
@click.argument("test")
@click.argument("pytest_args", nargs=-1, type=click.UNPROCESSED)
def bisect(test: str, pytest_args: tuple[str, ...]) -> None:
    """Find out why TEST fails, and which tests break it, or which ones it needs to pass.

    Begins with what ran before it when it failed last, as the history knows; without a history,
    with the order of collection. The rest of the arguments is pytest's, to select the suite.
    """
    try:
        config = load_config(Path.cwd())
        suite = Suite(unprotected(pytest_args), Path.cwd())
        known = _last_failure(config, test)
        with suite.laboratory(0) as lab:
            failure = first_failing(lab, test, known)
            found = diagnose(suite, lab, failure, say=lambda text: click.echo(text, err=True))
    except UserError as error:
        _fail(error)
    _print(found)
    click.echo(f"  {found.executions} tests were run for this")
    sys.exit(EXIT_OK)


def _last_failure(config: FarmConfig, test: str) -> Failure | None:
    if not config.history_path.exists():
        return None
    with History(config.history_path) as kept:
        failed = [one for one in kept.attempts(test=test) if one.outcome == "failed"]
        if not failed or failed[-1].worker == "junit":
            return None
        last = failed[-1]
        return Failure(
            test=test,
            predecessors=kept.predecessors(last),
            signature=last.signature,
            seed=int(last.seed) if last.seed.isdecimal() else None,
        )


# ---------------------------------------------------------------- farm replay


@click.command()
@click.argument("attempt", metavar="RUN:TEST")
@click.option("--pdb", is_flag=True, help="Open the debugger where the test fails.")
def replay(attempt: str, pdb: bool) -> None:
    """Run TEST once more as it ran in RUN: after the same tests, in one process, on the golden.

    RUN is the beginning of a run's id, as `farm history show` prints it, or `last`.
    """
    try:
        config = load_config(Path.cwd())
        run, one, before = _find_attempt(config, attempt)
        arguments = [str(each) for each in json.loads(run.arguments)]
        click.echo(f"replay  {one.test} of run {run.id[:8]}, after {len(before)} tests")
        if pdb:
            arguments.append("--pdb")
        lab = Laboratory(arguments, Path(run.directory or Path.cwd()), terminal=pdb)
        with lab:
            seed = int(one.seed) if one.seed.isdecimal() else 0
            known = set(lab.tests)
            if gone := [test for test in before if test not in known]:
                click.echo(f"note    {len(gone)} tests are no longer there, {gone[0]} for one")
            order = Order(
                tests=(*(test for test in before if test in known), one.test),
                seed=seed,
                debug=pdb,
            )
            ran = lab.run(order)
    except UserError as error:
        _fail(error)
    last = ran[-1]
    if len(ran) < len(order.tests):
        click.echo(f"{last.test} ended the process: {last.signature}")
        sys.exit(EXIT_TESTS_FAILED)
    click.echo(f"{last.outcome}  {last.test}" + (f"   {last.signature}" if last.failed else ""))
    sys.exit(EXIT_TESTS_FAILED if last.failed else EXIT_OK)


def _find_attempt(config: FarmConfig, given: str) -> tuple[Run, Attempt, tuple[str, ...]]:
    wanted, _, test = given.partition(":")
    if not test:
        raise ConfigError(f"{given!r}: expected RUN:TEST, as in last:tests/test_a.py::test_a")
    if not config.history_path.exists():
        raise HistoryError(f"{config.history_path}: there is no history yet")
    with History(config.history_path) as kept:
        runs = [run for run in kept.runs() if run.source != "junit"]
        chosen = runs[-1:] if wanted == "last" else [r for r in runs if r.id.startswith(wanted)]
        if len(chosen) != 1:
            how = "no run begins" if not chosen else f"{len(chosen)} runs begin"
            raise HistoryError(f"{how} with {wanted!r}: see farm history show")
        attempts = [one for one in kept.attempts(run=chosen[0].id) if one.test == test]
        if not attempts:
            raise HistoryError(f"run {chosen[0].id[:8]} has no test {test}")
        failed = [one for one in attempts if one.outcome == "failed"]
        one = (failed or attempts)[-1]
        return chosen[0], one, kept.predecessors(one)


# ---------------------------------------------------------------- farm history


@click.group()
def history() -> None:
    """Show, merge, import and prune the history of attempts (.farm/history.sqlite)."""


def _opened() -> History:
    config = load_config(Path.cwd())
    kept, warning = open_or_set_aside(config.history_path)
    if warning:
        click.echo(f"farm: note: {warning}", err=True)
    return kept


@history.command()
@click.argument("test", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(test: str | None, as_json: bool) -> None:
    """Show which tests have failed, how often and since when; with TEST, all its attempts."""
    try:
        with _opened() as kept:
            lines = list(_attempt_lines(kept, test)) if test else list(_test_lines(kept))
            data: object = list(kept.attempts(test=test)) if test else kept.tests()
    except UserError as error:
        _fail(error)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(data), indent=2).decode())
        return
    for line in lines:
        click.echo(line)


def _test_lines(kept: History) -> Iterator[str]:
    runs = list(kept.runs())
    yield f"{len(runs)} runs in {kept.path}"
    for run in runs[-5:]:
        commit = f"   {run.branch} {run.commit_id[:10]}{'+' if run.dirty else ''}"
        state = "did not end" if run.finished is None else f"exit status {run.exit_status}"
        yield f"  {run.id[:8]}  {_when(run.started)}  {run.source}   {state}{commit.rstrip()}"
    for line in kept.tests():
        flaked = f", flaked in {line.flaked} runs" if line.flaked else ""
        since = f"since {_when(line.first_failure)}, last {_when(line.last_failure)}"
        yield f"{line.test}: failed {line.rate}{flaked}; {since}, passed {line.stable} times since"


def _attempt_lines(kept: History, test: str) -> Iterator[str]:
    for one in kept.attempts(test=test):
        what = f"   {one.signature}" if one.outcome == "failed" else ""
        yield f"{_when(one.ended)}  {one.run[:8]}  {one.worker:6} {one.outcome}{what}"


def _when(moment: float | None) -> str:
    if moment is None:
        return "never"
    return dt.datetime.fromtimestamp(moment).isoformat(" ", "minutes")


@history.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def merge(files: tuple[Path, ...]) -> None:
    """Take over what history FILES of other machines or CI jobs have; nothing is taken twice."""
    try:
        with _opened() as kept:
            for file in files:
                if not file.is_file():
                    raise HistoryError(f"{file}: there is no such file")
                runs, attempts = kept.merge(file)
                click.echo(f"{file}: {runs} new runs, {attempts} new attempts")
    except UserError as error:
        _fail(error)


@history.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def import_(files: tuple[Path, ...]) -> None:
    """Take over JUnit XML FILES of other runners; the same file counts once."""
    try:
        with _opened() as kept:
            for file in files:
                run, attempts = junit_import.read(file, Path.cwd())
                kept.begin(run)
                kept.add(attempts)
                click.echo(f"{file}: {len(attempts)} attempts")
    except UserError as error:
        _fail(error)


@history.command()
@click.option("--keep", type=click.IntRange(0), metavar="N", help="Keep the latest N runs.")
@click.option(
    "--older-than", callback=_span, metavar="TIME", help="Remove runs older than, as 90d."
)
def prune(keep: int | None, older_than: float | None) -> None:
    """Remove old runs from the history."""
    if keep is None and older_than is None:
        _fail("say what to remove: --keep N, --older-than 90d, or both")
    try:
        with _opened() as kept:
            border = None if older_than is None else time.time() - older_than
            click.echo(f"{kept.prune(older_than=border, keep_runs=keep)} runs removed")
    except UserError as error:
        _fail(error)


COMMANDS: dict[str, click.Command] = {
    "bisect": bisect,
    "history": history,
    "hunt": hunt,
    "replay": replay,
}
