"""`farm doctor`: look whether a machine and a project are fit for a farm, before anything runs."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from snapfarm.config import load_config
from snapfarm.doctor.checks import examine
from snapfarm.doctor.facts import Finding, Level
from snapfarm.doctor.machine import read_machine
from snapfarm.doctor.project import read_project
from snapfarm.errors import EXIT_OK, EXIT_TESTS_FAILED, EXIT_USAGE, UserError

_EPILOG = """
Exit codes: 0 nothing that would break a run, 1 at least one error, 4 the configuration can't be
read. Warnings do not count.
"""


@click.command(epilog=_EPILOG)
@click.option("--root", type=click.Path(path_type=Path, file_okay=False, exists=True),
              metavar="DIR", help="The project's folder; the working directory if not given.",
              )  # fmt: skip
@click.option("--config", "config_file", type=click.Path(path_type=Path), metavar="FILE",
              help="Configuration file, instead of farm.toml or pyproject.toml of the root.",
              )  # fmt: skip
@click.option("-n", "--workers", type=click.IntRange(1), metavar="N",
              help="Workers to reckon with, instead of the configuration's.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(root: Path | None, config_file: Path | None, workers: int | None, as_json: bool) -> None:
    """Check Python, SQLite, the machine's limits, and the project, each finding with its remedy.

    Nothing of the project is imported or run.
    """
    overrides = {} if workers is None else {"workers": workers}
    try:
        config = load_config(root or Path.cwd(), explicit=config_file, overrides=overrides)
    except UserError as error:
        click.echo(f"farm: {error}", err=True)
        sys.exit(EXIT_USAGE)
    project = read_project(config)
    findings = examine(read_machine(), project)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(findings), indent=2).decode())
    else:
        where = f"{project.source}" if project.source else f"{project.root}, no configuration"
        click.echo(f"looked at {where}")
        _print(findings)
    broken = any(finding.level is Level.ERROR for finding in findings)
    sys.exit(EXIT_TESTS_FAILED if broken else EXIT_OK)


def _print(findings: list[Finding]) -> None:
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        level = click.style(f"{finding.level:7}", fg=_COLOURS[finding.level])
        click.echo(f"{finding.check:{width}}  {level}  {finding.message}")
        if finding.remedy:
            click.echo(f"{'':{width}}           -> {finding.remedy}")
    errors = sum(finding.level is Level.ERROR for finding in findings)
    warnings = sum(finding.level is Level.WARNING for finding in findings)
    click.echo(_summary(errors, warnings))


def _summary(errors: int, warnings: int) -> str:
    if not errors and not warnings:
        return "nothing is wrong"
    counted = [
        f"{count} {word}{'s' if count > 1 else ''}"
        for count, word in ((errors, "error"), (warnings, "warning"))
        if count
    ]
    return " and ".join(counted)


_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "red"}
