"""`farm diff`: how two SQLite databases differ, in their schema and row by row."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import click
import msgspec

from snapfarm_worker.evidence import Cell, DatabaseDiff, RowDiff, TableDiff
from snapfarm_worker.rowdiff import attached, compare
from snapfarm_worker.texts import readable

#: Exit codes as those of diff(1).
EXIT_EQUAL, EXIT_DIFFERENT, EXIT_TROUBLE = 0, 1, 2


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes are those of diff: 0 equal, 1 different, 2 trouble.",
)
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.option(
    "--rows", default=20, show_default=True, metavar="N", type=click.IntRange(min=0),
    help="List N rows of each kind for a table; the totals count all.",
)  # fmt: skip
@click.option("--redact", multiple=True, metavar="TABLE.COLUMN", help="Do not show its values.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def diff(before: Path, after: Path, rows: int, redact: tuple[str, ...], as_json: bool) -> None:
    """Print how the database AFTER differs from BEFORE; both are SQLite files, and only read."""
    try:
        uris = [_uri(path) for path in (before, after)]
        with attached(*uris) as conn:
            found = compare(conn, rows=rows, redact=[each.lower() for each in redact])
    except sqlite3.Error as error:
        _fail(f"{before}, {after}: can't be compared: {error}")
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    elif found:
        click.echo(readable("\n".join([f"--- {before}", f"+++ {after}", *lines(found)])))
    if any(table.error for table in found.tables):
        sys.exit(EXIT_TROUBLE)
    sys.exit(EXIT_DIFFERENT if found else EXIT_EQUAL)


def _uri(path: Path) -> str:
    if not path.is_file():
        _fail(f"{path}: {'is a folder' if path.is_dir() else 'does not exist'}")
    return f"{path.resolve().as_uri()}?mode=ro"


def _fail(text: str) -> NoReturn:
    click.echo(f"Error: {text}", err=True)
    sys.exit(EXIT_TROUBLE)


def lines(diff: DatabaseDiff) -> Iterator[str]:
    """Yield a difference as text for people."""
    for each in diff.schema:
        what = "changed" if each.before and each.after else "removed" if each.before else "added"
        yield f"{each.kind} {each.name} {what}"
        for sign, sql in (("-", each.before), ("+", each.after)):
            yield from (f"  {sign} {line}" for line in sql.splitlines())
    for table in diff.tables:
        if table.error:
            yield f"table {table.table}: can't be compared: {table.error}"
            continue
        counts = ((table.added, "added"), (table.removed, "removed"), (table.changed, "changed"))
        said = ", ".join(f"{count} {what}" for count, what in counts if count)
        yield f"table {table.table}: {said}{'' if table.key else ' (by row id)'}"
        yield from (f"  {_row(table, row)}" for row in table.rows)
        left = table.added + table.removed + table.changed - len(table.rows)
        if left:
            yield f"  … and {left} more"
    if diff.incomplete:
        yield diff.incomplete


def _row(table: TableDiff, row: RowDiff) -> str:
    if row.before is None or row.after is None:
        values = row.after if row.before is None else row.before
        pairs = zip(table.columns, values or (), strict=True)
        sign = "+" if row.before is None else "-"
        return f"{sign} " + ", ".join(f"{column}={written(value)}" for column, value in pairs)
    key, changes = [], []
    for column, old, new in zip(table.columns, row.before, row.after, strict=True):
        if column in table.key:
            key.append(f"{column}={written(new)}")
        if old != new or type(old) is not type(new):
            changes.append(f"{column}: {written(old)} -> {written(new)}")
    said = ", ".join(changes) or "in values that are not shown"
    return f"~ {', '.join(key)}{'  ' if key else ''}{said}"


def written(value: Cell) -> str:
    """Return a value as SQL would write it, on one line."""
    if value is None:
        return "NULL"
    if isinstance(value, str) and not value.startswith("x'"):
        return "'" + value.replace("'", "''").replace("\n", "\\n") + "'"
    return str(value)
