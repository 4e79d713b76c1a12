"""`farm report`: the report of a run that is kept, in any format."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import click

from snapfarm.config import load_config
from snapfarm.errors import UserError
from snapfarm.report import formats, model, runs
from snapfarm.report.text import text as as_text


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run", required=False)
@click.option(
    "--format", "format_name", type=click.Choice(formats.FORMATS),
    help="Without it, the ending of FILE decides; else text.",
)  # fmt: skip
@click.option("-o", "--output", metavar="FILE", help="Write it there; - is the terminal.")
@click.option("--config", "config_file", metavar="FILE", help="Read the farm's configuration here.")
@click.option("--list", "only_list", is_flag=True, help="Name the runs that are kept.")
def report(
    run: str | None,
    format_name: str | None,
    output: str | None,
    config_file: str | None,
    only_list: bool,
) -> None:
    """Write the report of a run: the last one, or RUN, by the begin of its name or a JSON file."""
    try:
        explicit = None if config_file is None else Path(config_file)
        config = load_config(Path.cwd(), explicit=explicit)
        cache = config.cache_path
        if only_list:
            for name in runs.names(cache):
                click.echo(name)
            return
        found = _found(cache, run)
        to_terminal = output in {None, "-"}
        if format_name is None:
            format_name = None if output is None else formats.format_of(Path(output))
        found = runs.with_history(found, cache, config.history_path)
        if to_terminal and format_name in {None, "text"} and sys.stdout.isatty():
            text = as_text(found, shutil.get_terminal_size().columns)
        else:
            text = formats.render(found, format_name or "text")
        if to_terminal:
            sys.stdout.write(text)
        elif output is not None:
            model.write_text(text, Path(output))
    except UserError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{output}: can't be written: {error}") from error


def _found(cache: Path, run: str | None) -> model.RunReport:
    if run is not None and (run.endswith(".json") or os.sep in run):
        return runs.read_file(Path(run))
    return runs.load(cache, run)
