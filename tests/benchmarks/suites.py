"""Measures whole pytest runs: plain pytest, pytest-xdist and the farm on the same tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import msgspec

from benchmarks import sample_suites
from benchmarks.model import Bar, Column, Result, Table, faster
from benchmarks.options import Options, command
from snapfarm.compare.processes import Run, measure

NAME = "suites"

#: The database of a suite that leaves it to pytest-django.
DJANGO = "django"

WALL, CPU, MEMORY = "wall", "CPU", "memory"
COLUMNS = (Column(WALL, "s"), Column(CPU, "s"), Column(MEMORY, "MB"))

#: The same for all: caches and plugins of no concern are off.
_COMMON = ("-p", "no:hypothesispytest", "-p", "no:cacheprovider")
_NO_DJANGO = ("-p", "no:django")
_NO_FARM = ("-p", "no:snapfarm")
_NO_XDIST = ("-p", "no:xdist")

MEASURED = (
    "Wall clock and CPU seconds of the whole tree of processes; memory is the largest sum of "
    "PSS, sampled in one run more, which is not timed. Every run must pass all tests, and in "
    "that one the outcome of each test is compared. Compiled files exist, pytest's cache is off "
    "for all. "
)
_TRIVIAL_NOTE = MEASURED + "Tests that do nothing: what a runner costs."
_DATABASE_NOTE = MEASURED + (
    "Each test needs a database of 5 MB with 30 tables, and commits a row to it. *Create*: a "
    "fixture creates the schema and inserts the rows into `:memory:` for each test. *Template*: "
    "each worker builds one file, a fixture copies it for each test; all on tmpfs. *Farm*: the "
    "golden database comes from the cache; *cold* builds it first."
)
_ALEMBIC_NOTE = MEASURED + (
    "Each test needs the database that 40 revisions of Alembic make, through an engine of "
    "SQLAlchemy, and commits to it. *Upgrade*: a fixture runs `upgrade heads` into a new file for "
    "each test, as suites do. *Template*: each worker does that once, a fixture copies the file "
    "for each test; all on tmpfs. *Farm*: the golden database comes from the cache; *cold* builds "
    "it first."
)
#: Ways to a database that are the same in each run, so that a first one fills no cache.
_NOTHING_KEPT = {"create", "upgrade"}


class Variant(msgspec.Struct, frozen=True):
    """One way to run a suite. `database` is how its tests get their database."""

    name: str
    arguments: tuple[str, ...]
    database: str = "none"
    #: Whether the cache of golden databases is empty at the start.
    cold: bool = False

    def run(self, folder: Path, *, memory: bool = False, xml: Path | None = None) -> Run:
        """Run a suite in a folder."""
        dropped = ("FARM_", "PYTEST_", "PYTHONDONTWRITEBYTECODE")
        environment = {n: v for n, v in os.environ.items() if not n.startswith(dropped)}
        environment |= {"BENCH_DATABASE": self.database, "TMPDIR": str(folder / "tmp")}
        if self.cold:
            shutil.rmtree(folder / "cold", ignore_errors=True)
            environment["FARM_CACHE_DIR"] = str(folder / "cold")
        arguments = [sys.executable, "-m", *self.arguments, *_COMMON]
        if self.database != DJANGO:
            arguments += _NO_DJANGO
        if xml is not None:
            arguments.append(f"--junitxml={xml}")
        return measure(arguments, folder, environment, memory=memory)


def pytest_alone(name: str, database: str = "none") -> Variant:
    """Return plain pytest."""
    return Variant(name, ("pytest", *_NO_FARM, *_NO_XDIST), database)


def xdist(name: str, workers: int, database: str = "none") -> Variant:
    """Return pytest-xdist."""
    return Variant(name, ("pytest", *_NO_FARM, "-n", str(workers)), database)


def farm(
    name: str, workers: int, database: str = "none", *, cold: bool = False, sensors: str = "full"
) -> Variant:
    """Return the farm."""
    arguments = ("snapfarm.cli", "run", "-n", str(workers), "--sensors", sensors, *_NO_XDIST)
    return Variant(name, arguments, database, cold)


TRIVIAL = (
    pytest_alone("pytest"),
    xdist("xdist -n 2", 2),
    farm("farm -n 2", 2),
    xdist("xdist -n 4", 4),
    farm("farm -n 4", 4),
)
DATABASE = (
    pytest_alone("pytest, create", "create"),
    xdist("xdist -n 2, create", 2, "create"),
    xdist("xdist -n 2, template", 2, "template"),
    farm("farm -n 2", 2, "farm"),
    farm("farm -n 2, cold", 2, "farm", cold=True),
    xdist("xdist -n 4, create", 4, "create"),
    xdist("xdist -n 4, template", 4, "template"),
    farm("farm -n 4", 4, "farm"),
    Variant("farm's fixtures, no farm", ("pytest", *_NO_XDIST), "farm"),
)
ALEMBIC = (
    xdist("xdist -n 2, upgrade", 2, "upgrade"),
    xdist("xdist -n 2, template", 2, "template"),
    farm("farm -n 2", 2, "farm"),
    farm("farm -n 2, cold", 2, "farm", cold=True),
    xdist("xdist -n 4, upgrade", 4, "upgrade"),
    xdist("xdist -n 4, template", 4, "template"),
    farm("farm -n 4", 4, "farm"),
)


def run(options: Options) -> Result:
    """Measure the suites."""
    tables = []
    bars: tuple[Bar, ...] = ()
    # What was promised, was promised for whole suites.
    promised = () if options.quick else (2, 4)
    if options.wants(f"{NAME}/trivial"):
        tests, files = (400, 4) if options.quick else (2_000, 20)
        table = Table("trivial", f"{tests} trivial tests", _TRIVIAL_NOTE, COLUMNS, {})
        with new_suite() as folder:
            sample_suites.write_trivial(folder, tests, files)
            measure_all(table, TRIVIAL, folder, tests, options.rounds_of(5, 1))
        for workers in promised:
            ours, peer = f"farm -n {workers}", f"xdist -n {workers}"
            for column in (WALL, CPU):
                name = f"{tests} trivial tests, {column}, {ours}"
                bars += bar_of(name, 1.0, table, column, ours, peer)
        tables.append(table)
    if options.wants(f"{NAME}/database"):
        tests = 40 if options.quick else 300
        table = Table("database", f"{tests} database tests", _DATABASE_NOTE, COLUMNS, {})
        with new_suite() as folder:
            sample_suites.write_database(folder, tests, 10)
            measure_all(table, DATABASE, folder, tests, options.rounds_of(3, 1))
        for workers in promised:
            ours, peer = f"farm -n {workers}", f"xdist -n {workers}, create"
            bars += bar_of(f"{tests} database tests, {ours}", 3.0, table, WALL, ours, peer)
        tables.append(table)
    if options.wants(f"{NAME}/alembic"):
        tests = 20 if options.quick else 500
        table = Table("alembic", f"{tests} tests, 40 revisions", _ALEMBIC_NOTE, COLUMNS, {})
        with new_suite() as folder:
            sample_suites.write_alembic(folder, tests)
            measure_all(table, ALEMBIC, folder, tests, options.rounds_of(1, 1))
        for workers in promised:
            ours, peer = f"farm -n {workers}", f"xdist -n {workers}, upgrade"
            bars += bar_of(f"{tests} tests, 40 revisions, {ours}", 5.0, table, WALL, ours, peer)
            name = f"{tests} tests, 40 revisions, {CPU}, {ours}"
            bars += bar_of(name, 1.0, table, CPU, ours, peer)
        tables.append(table)
    return Result(NAME, tuple(tables), bars)


@contextlib.contextmanager
def new_suite() -> Iterator[Path]:
    """Give a folder that does not exist yet, in memory: copying files shall wait for no disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="farm-bench-", dir=memory if memory.is_dir() else None
    ) as folder:
        yield Path(folder, "suite")


def bar_of(
    name: str, required: float, table: Table, column: str, ours: str, peer: str
) -> tuple[Bar, ...]:
    """Return the bar of one row beside another."""
    name = f"{name} against {peer}"
    return faster(name, required, table.samples(ours, column), table.samples(peer, column))


def measure_all(
    table: Table, variants: Sequence[Variant], folder: Path, tests: int, rounds: int
) -> None:
    """Run each variant once for its memory and its outcomes, then in turns for its times."""
    (folder / "tmp").mkdir()
    # Compiled files and the golden database are there before anything counts.
    for variant in variants:
        if variant.database not in _NOTHING_KEPT:
            check(variant, variant.run(folder), tests)
    expected: set[tuple[str, str]] | None = None
    for variant in variants:
        xml = folder / ".outcomes.xml"
        measured = variant.run(folder, memory=True, xml=xml)
        check(variant, measured, tests)
        table.add(variant.name, MEMORY, float(measured.memory))
        found = outcomes(xml)
        if expected is not None and found != expected:
            raise click.ClickException(
                f"{variant.name} has other outcomes: {sorted(found ^ expected)[:5]}"
            )
        expected = found
    for _ in range(rounds):
        for variant in variants:
            measured = variant.run(folder)
            check(variant, measured, tests)
            table.add(variant.name, WALL, measured.wall)
            table.add(variant.name, CPU, measured.cpu)


def check(variant: Variant, measured: Run, tests: int) -> None:
    if measured.status != 0 or f"{tests} passed" not in measured.output:
        raise click.ClickException(
            f"{variant.name} did not pass {tests} tests (exit status {measured.status}):\n"
            + measured.output[-3000:]
        )


def outcomes(xml: Path) -> set[tuple[str, str]]:
    """Return test and outcome of each test case of a JUnit report."""
    return {
        (f"{case.get('classname')}::{case.get('name')}", case[0].tag if len(case) else "passed")
        for case in ET.parse(xml).iter("testcase")
    }


if __name__ == "__main__":
    command({NAME: run})()
