"""Renders results as text for the terminal and as Markdown between the markers of a page."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path

import click

from benchmarks.machine import Machine
from benchmarks.model import RATES, UNITS, Column, Result, Table


def text(result: Result) -> str:
    """Return a result for the terminal."""
    parts = []
    for table in result.tables:
        cells = _cells(table)
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        parts.append(f"{result.name}: {table.title}\n")
        for row in cells:
            first, *rest = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            parts.append("  " + "  ".join([first, *rest]).rstrip() + "\n")
        parts.append("\n")
    parts += [f"{bar}\n" for bar in result.bars]
    return "".join(parts)


def markdown(result: Result, machine: Machine, command: str) -> str:
    """Return a result as a part of a page."""
    parts = [f"`{command}`: {machine}; {result.seconds:.0f} s in all.\n"]
    for table in result.tables:
        head, *rows = _cells(table)
        parts += [f"\n### {table.title}\n\n{table.note}\n\n"]
        parts += [_line(head), _line("---" for _ in head), *(_line(row) for row in rows)]
    if result.bars:
        parts += ["\n", _line(("bar", "required", "reached", "")), _line(["---"] * 4)]
    for bar in result.bars:
        verdict = f"{'met' if bar.met else '**missed**'}: {bar.detail}"
        parts.append(_line((bar.name, f"{bar.required:g}x", f"{bar.reached:.2f}x", verdict)))
    return "".join(parts)


def insert(page: Path, name: str, part: str) -> None:
    """Replace what stands between the markers of a benchmark in a page.

    Raises click.ClickException if the page does not have them.
    """
    begin, end = f"<!-- {name}: begin, generated -->", f"<!-- {name}: end -->"
    content = page.read_text()
    before, found, rest = content.partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise click.ClickException(f"{page} lacks the lines {begin!r} and {end!r}: add them")
    page.write_text(f"{before}{begin}\n\n{part}\n{end}{after}")


def _cells(table: Table) -> list[list[str]]:
    head = ["", *(f"{column.name}, {column.unit}" for column in table.columns)]
    rows = [
        [row, *(_cell(table.samples(row, column.name), column) for column in table.columns)]
        for row in table.rows
    ]
    return [head, *rows]


def _cell(samples: list[float], column: Column) -> str:
    if not samples:
        return "-"
    if column.unit == "in all":
        return f"{sum(samples):.0f}"
    best = max(samples) if column.unit in RATES else min(samples)
    shown = _number(statistics.median(samples) / UNITS[column.unit])
    return shown if len(samples) == 1 else f"{shown} ({_number(best / UNITS[column.unit])})"


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |\n"
