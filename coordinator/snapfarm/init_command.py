"""`farm init`: look at a project, and write a configuration of the farm that works for it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from snapfarm.config import FarmConfig, load_config
from snapfarm.config_golden import golden_config
from snapfarm.errors import EXIT_USAGE, GoldenError, UserError
from snapfarm.golden import describe, obtain_one
from snapfarm.init import writing
from snapfarm.init.choice import Candidate, Choice, choose
from snapfarm.init.survey import survey

#: Lines of the error of a build that are shown.
_ERROR_LINES = 6


@click.command()
@click.option("--root", type=click.Path(path_type=Path, file_okay=False, exists=True),
              metavar="DIR", help="The project's folder; the working directory if not given.",
              )  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show what would be written, and write nothing.")
@click.option("--no-check", is_flag=True, help="Do not build the golden database.")
def init(root: Path | None, dry_run: bool, no_check: bool) -> None:
    """Look at a project and write [tool.farm] into its pyproject.toml, or a farm.toml.

    Nothing of the project is imported for that. The golden database is built in a process of its
    own, to see that it can be: of several that are possible, the first that builds is taken.
    """
    folder = (root or Path.cwd()).resolve()
    try:
        if not dry_run:
            writing.check_free(folder)
        facts = survey(folder)
        click.echo(f"looked at {folder}: {facts.modules} Python files")
        for note in facts.notes:
            click.echo(f"  note: {note}")
        choice = choose(facts, knows_django="django" in FarmConfig.__struct_fields__)
        _tell("found", choice.found or ("nothing that makes a database",))
        candidate = _decide(folder, choice, check=not (no_check or dry_run))
        if choice.candidates and candidate is None:
            raise GoldenError(
                "no golden database of this project could be built, so nothing was written: mend "
                "what is said above, or write the first one as it is with --no-check"
            )
        path, prefix = writing.target(folder)
        text = writing.configuration(choice, candidate, prefix=prefix)
        if dry_run:
            click.echo(f"would be added to {path.name}" if path.exists() else f"# {path.name}")
            click.echo(text, nl=False)
            return
        writing.write(path, text)
        load_config(folder)
    except UserError as error:
        _fail(str(error))
    click.echo(f"written: {path.name}{', table [tool.farm]' if prefix else ''}")
    _tell(
        "next",
        (*_commands(choice, candidate), *(candidate.advice if candidate else ()), *choice.advice),
    )


def _decide(folder: Path, choice: Choice, *, check: bool) -> Candidate | None:
    """Return the candidate that is taken, and tell why, and why the others are not."""
    rejected = list(choice.rejected)
    chosen: Candidate | None = None
    for candidate in choice.candidates:
        if chosen is not None:
            rejected.append(f"{candidate.what}: possible too, but {chosen.what} go before")
        elif not check or (fault := _build(folder, candidate)) is None:
            chosen = candidate
        else:
            rejected.append(f"{candidate.what}: can't be built: {fault}")
    if chosen is not None:
        _tell("chosen", (f"{chosen.what}: {chosen.why}",))
    if rejected:
        _tell("not chosen", rejected)
    return chosen


def _build(folder: Path, candidate: Candidate) -> str | None:
    """Build a golden database, into the cache; return why it can't be built, None if it can."""
    try:
        golden = golden_config("golden.default.", "default", candidate.table, folder)
        config = FarmConfig(root=folder, golden=(golden,))
        with tempfile.TemporaryDirectory(prefix="farm-init-") as scratch:
            result = obtain_one(config, golden, scratch=Path(scratch))
    except UserError as error:
        lines = str(error).splitlines()
        more = [f"      {line}" for line in lines[1:_ERROR_LINES]]
        return "\n".join([lines[0], *more])
    click.echo(describe(result))
    for note in result.notes:
        click.echo(f"  note: {note}")
    if not result.snapshot.manifest.tables:
        return "it has no tables"
    return None


def _commands(choice: Choice, candidate: Candidate | None) -> Sequence[str]:
    workers = "" if "workers" in choice.keys else " -n 2"
    commands = [f"farm run{workers}", f"farm compare{workers}"]
    return commands if candidate is None else ["farm golden show", *commands]


def _tell(title: str, lines: Sequence[str]) -> None:
    click.echo(title)
    for line in lines:
        click.echo(f"  {line}")


def _fail(message: str) -> NoReturn:
    click.echo(f"farm: {message}", err=True)
    sys.exit(EXIT_USAGE)
