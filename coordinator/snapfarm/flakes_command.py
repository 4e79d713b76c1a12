"""`farm bisect` and `farm replay`: why a test fails, and once more as it failed."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from snapfarm.arguments import PytestCommand, fail, unprotected
from snapfarm.config import load_config
from snapfarm.errors import EXIT_OK, EXIT_TESTS_FAILED, UserError
from snapfarm.flakes import actions, replaying
from snapfarm.flakes.diagnosis import Suite
from snapfarm.history_command import history
from snapfarm.hunt_command import hunt_command


@click.command(
    cls=PytestCommand,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True},
)
@click.argument("test")
@click.argument("pytest_args", nargs=-1, type=click.UNPROCESSED)
def bisect(test: str, pytest_args: tuple[str, ...]) -> None:
    """Find out why TEST fails, and which tests break it, or which ones it needs to pass.

    Begins with what ran before it when it failed last, as the history knows; without a history,
    with the order of collection. The rest of the arguments is pytest's, to select the suite.
    """
    suite = Suite(unprotected(pytest_args), Path.cwd())
    try:
        found = actions.bisect(suite, test, say=lambda text: click.echo(text, err=True))
    except UserError as error:
        fail(error)
    for line in found.lines():
        click.echo(line)
    click.echo(f"  {found.executions} tests were run for this")
    sys.exit(EXIT_OK)


@click.command()
@click.argument("attempt", metavar="RUN:TEST")
@click.option("--pdb", is_flag=True, help="Open the debugger where the test fails.")
def replay(attempt: str, pdb: bool) -> None:
    """Run TEST once more as it ran in RUN: after the same tests, in one process, on the golden.

    With the same seeds, order and kind of rings; says where databases or layers are other ones.
    RUN is the beginning of a run's id, as `farm history show` prints it, or `last`.
    """
    folder = Path.cwd()
    try:
        run, test = replaying.split(attempt)
        one = replaying.find(load_config(folder).history_path, run, test)
        click.echo(f"replay  {test} of run {one.run.id[:8]}, after {len(one.predecessors)} tests")
        if chosen := str(one.circumstances):
            click.echo(f"with    {chosen}")
        done = replaying.again(one, folder, debug=pdb)
    except UserError as error:
        fail(error)
    if done.gone:
        click.echo(f"note    {len(done.gone)} tests are no longer there, {done.gone[0]} for one")
    for line in done.differences:
        click.echo(f"note    {line}")
    last = done.last
    if not done.arrived:
        click.echo(f"{last.test} ended the process: {last.signature}")
        sys.exit(EXIT_TESTS_FAILED)
    click.echo(f"{last.outcome}  {last.test}" + (f"   {last.signature}" if last.failed else ""))
    if not done.reproduced:
        click.echo(f"note    it was {one.attempt.outcome} in the run")
    sys.exit(EXIT_TESTS_FAILED if last.failed else EXIT_OK)


COMMANDS: dict[str, click.Command] = {
    "bisect": bisect,
    "history": history,
    "hunt": hunt_command,
    "replay": replay,
}
