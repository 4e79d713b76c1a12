"""`farm history`: show, merge, import and prune what is known of earlier runs."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from snapfarm.arguments import fail, span
from snapfarm.config import load_config
from snapfarm.errors import UserError
from snapfarm.flakes import junit_import
from snapfarm.flakes.history import History, HistoryError, open_or_set_aside


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
        fail(error)
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
        fail(error)


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
        fail(error)


@history.command()
@click.option("--keep", type=click.IntRange(0), metavar="N", help="Keep the latest N runs.")
@click.option("--older-than", callback=span, metavar="TIME", help="Remove runs older than, as 90d.")
def prune(keep: int | None, older_than: float | None) -> None:
    """Remove old runs from the history."""
    if keep is None and older_than is None:
        fail("say what to remove: --keep N, --older-than 90d, or both")
    try:
        with _opened() as kept:
            border = None if older_than is None else time.time() - older_than
            click.echo(f"{kept.prune(older_than=border, keep_runs=keep)} runs removed")
    except UserError as error:
        fail(error)
