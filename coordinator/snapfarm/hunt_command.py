"""`farm hunt`: the command; what it does is `snapfarm.flakes.hunt`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from snapfarm.arguments import PytestCommand, fail, span, unprotected
from snapfarm.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_TESTS_FAILED, UserError
from snapfarm.flakes.actions import Hunted, hunt
from snapfarm.flakes.diagnosis import Suite
from snapfarm.flakes.rounds import Sightings
from snapfarm.flakes.watch import verdict_line
from snapfarm.hunt_view import HuntView
from snapfarm.report.model import write_text
from snapfarm_worker.ringkind import RingKind


@click.command(
    "hunt",
    cls=PytestCommand,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True},
)
@click.option("-n", "--workers", type=click.IntRange(1), help="Processes at a time.")
@click.option("--for", "seconds", callback=span, metavar="TIME", help="Hunt so long, as in 10m.")
@click.option("--rounds", type=click.IntRange(1), help="Hunt so many rounds; 20 without --for.")
@click.option("--seed", type=int, default=1, help="Orders and seeds of the rounds follow from it.")
@click.option("--since", metavar="REV", help="Tests in files changed since REV come first.")
@click.option("--ring", "rings", multiple=True, type=click.Choice([*RingKind]),
              help="Some rounds with this kind of rings; may be repeated.")  # fmt: skip
@click.option("--farm", "farms", multiple=True, type=click.IntRange(1), metavar="N",
              help="Some rounds on a farm of N workers; may be repeated.")  # fmt: skip
@click.option("--verdicts/--no-verdicts", default=True, help="Find out why what failed fails.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False),
              metavar="FILE", help="Write what was found as JSON.")  # fmt: skip
@click.argument("pytest_args", nargs=-1, type=click.UNPROCESSED)
def hunt_command(
    pytest_args: tuple[str, ...],
    workers: int | None,
    seconds: float | None,
    rounds: int | None,
    seed: int,
    since: str | None,
    rings: tuple[str, ...],
    farms: tuple[int, ...],
    verdicts: bool,
    json_file: Path | None,
) -> None:
    """Look for flaky tests: run the suite again and again, in other orders and circumstances.

    Other seeds, time zones, thread switches and load as well. What is found is kept in the history;
    Ctrl-C ends the hunt with a summary. The rest of the arguments is pytest's.
    """
    view = HuntView(rounds=rounds, seconds=seconds)

    def judging(seen: Sightings) -> None:
        view.close()
        _summarize(seen)
        if verdicts and seen.suspects:
            click.echo()

    try:
        with view:
            found = hunt(
                Suite(unprotected(pytest_args), Path.cwd()),
                rounds=rounds,
                seconds=seconds,
                workers=workers,
                seed=seed,
                since=since,
                rings=rings,
                farms=farms,
                verdicts=verdicts,
                told=view.told,
                judging=judging,
                judged=lambda one: click.echo("\n".join(one.lines())),
                warn=view.warn,
            )
        if json_file is not None:
            _write(found, json_file)
    except UserError as error:
        fail(error)
    if found.interrupted:
        click.echo("farm: interrupted: what was found until then is above, and in the history")
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(EXIT_TESTS_FAILED if found.sightings.suspects else EXIT_OK)


def _summarize(seen: Sightings) -> None:
    click.echo(f"{seen.rounds} rounds, {seen.executions} tests run")
    for test in seen.suspects:
        one = seen.tests[test]
        what = "flaky" if one.flaky else "fails"
        where = f", only with {one.only_under}" if one.only_under else ""
        click.echo(f"{what:6}  {test}   {one.rate}   first in round {one.round + 1}{where}")
    if not seen.suspects:
        click.echo(f"no test failed{_upper_bound(seen)}")


def _upper_bound(seen: Sightings) -> str:
    rates = [one.rate for one in seen.tests.values() if one.runs]
    if not rates:
        return ""
    least = min(rates, key=lambda rate: rate.runs)
    return f": a flake of more than {least.interval()[1]:.0%} would have shown (95 %)"


def _write(found: Hunted, path: Path) -> None:
    seen = found.sightings
    data = {
        "run": found.run,
        "interrupted": found.interrupted,
        "rounds": seen.rounds,
        "executions": seen.executions,
        "tests": {
            test: {
                "failures": one.failures,
                "runs": one.runs,
                "interval": one.rate.interval(),
                "conditions": one.conditions,
            }
            for test, one in seen.tests.items()
        },
        "verdicts": [verdict_line(one) for one in found.diagnoses],
    }
    try:
        write_text(msgspec.json.format(msgspec.json.encode(data)).decode() + "\n", path)
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror or error}") from error
