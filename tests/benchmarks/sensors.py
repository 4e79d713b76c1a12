"""Measures what sensors cost: off, light and full side by side, for statements and for suites."""

from __future__ import annotations

import contextlib
import functools
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

from benchmarks import django_suite, sample_suites, suites
from benchmarks.images import image, load
from benchmarks.lanes import Prepare, Step, take_turns
from benchmarks.model import Bar, Column, Result, Table, below, faster
from benchmarks.options import Options, command
from snapfarm_worker.anomaly import Level
from snapfarm_worker.databases import Databases
from snapfarm_worker.ring import ResetPolicy, Ring

NAME = "sensors"
#: What full sensors may add to a statement, in seconds, and to a suite's wall clock.
STATEMENT_LIMIT = 1.5e-6
SUITE_LIMIT = 1.05

_SIZE = 1
_STATEMENTS = 100
_WORKERS = 2

_STATEMENT_NOTE = (
    "Time of one statement on a connection of a shared-cache ring, the mean of 100 in a row; of "
    "opening and closing a connection; and of all that happens around an empty test. *Anew*: each "
    "statement has a text of its own. *Module*: the same where tests share what they commit."
)
_SUITE_NOTE = (
    "The suites that runners are compared with, on a farm of two workers, with the cache of golden "
    "databases full: wall clock, and CPU seconds of the whole tree of processes, which the load of "
    "other programs changes least."
)
LEVELS = (Level.OFF, Level.LIGHT, Level.FULL)

#: Does something `_STATEMENTS` times with a ring.
Work = Callable[[Databases, Ring], None]


def reads(databases: Databases, ring: Ring) -> None:
    """Read a row by its key."""
    del databases
    with contextlib.closing(ring.connect()) as conn:
        for _ in range(_STATEMENTS):
            conn.execute("SELECT code FROM t7 WHERE id = 1").fetchone()


def reads_with_a_cursor(databases: Databases, ring: Ring) -> None:
    """Read a row by its key, as drivers and ORMs do."""
    del databases
    with contextlib.closing(ring.connect()) as conn:
        for _ in range(_STATEMENTS):
            conn.cursor().execute("SELECT code FROM t7 WHERE id = ?", (1,)).fetchone()


def inserts(databases: Databases, ring: Ring) -> None:
    """Insert rows in one transaction."""
    del databases
    with contextlib.closing(ring.connect()) as conn:
        for _ in range(_STATEMENTS):
            conn.execute("INSERT INTO t7(code, body) VALUES (1, 'new')")
        conn.rollback()


def prepares(databases: Databases, ring: Ring) -> None:
    """Execute a new statement each time."""
    del databases
    with contextlib.closing(ring.connect()) as conn:
        for number in range(_STATEMENTS):
            conn.execute(f"SELECT id, code, body FROM t7 WHERE id = {number}").fetchone()


def prepares_inserts(databases: Databases, ring: Ring) -> None:
    """Insert rows in one transaction, each by a new statement."""
    del databases
    with contextlib.closing(ring.connect()) as conn:
        for number in range(_STATEMENTS):
            conn.execute(f"INSERT INTO t7(code, body) VALUES ({number}, 'new')")
        conn.rollback()


def connects(databases: Databases, ring: Ring) -> None:
    """Open and close a connection."""
    del databases
    for _ in range(_STATEMENTS):
        ring.connect().close()


def tests(databases: Databases, ring: Ring) -> None:
    """Begin and end an empty test."""
    del ring
    for _ in range(_STATEMENTS):
        databases.end_test("t", None, "test")
        databases.begin_test("t")


#: The rows of the table.
WORKS: dict[str, tuple[Work, ResetPolicy]] = {
    "SELECT": (reads, ResetPolicy.TEST),
    "SELECT, cursor": (reads_with_a_cursor, ResetPolicy.TEST),
    "INSERT": (inserts, ResetPolicy.TEST),
    "SELECT, prepared anew": (prepares, ResetPolicy.TEST),
    "INSERT, prepared anew": (prepares_inserts, ResetPolicy.TEST),
    "SELECT, module": (reads, ResetPolicy.MODULE),
    "INSERT, module": (inserts, ResetPolicy.MODULE),
    "SELECT, prepared anew, module": (prepares, ResetPolicy.MODULE),
    "INSERT, prepared anew, module": (prepares_inserts, ResetPolicy.MODULE),
    "connect and close": (connects, ResetPolicy.TEST),
    "around a test": (tests, ResetPolicy.TEST),
}
#: The promise is for statements.
_NOT_PROMISED = ("connect and close", "around a test")


def writes_database(folder: Path, quick: bool) -> int:
    """Write the suite of database tests."""
    count = 40 if quick else 300
    sample_suites.write_database(folder, count, 10)
    return count


def writes_alembic(folder: Path, quick: bool) -> int:
    """Write the suite of a project with SQLAlchemy and revisions of Alembic."""
    count = 20 if quick else 300
    sample_suites.write_alembic(folder, count)
    return count


def writes_django(folder: Path, quick: bool) -> int:
    """Write the suite of a Django project."""
    return django_suite.write_project(folder, 2 if quick else 10)


#: What writes each suite and returns its number of tests; how its tests get their database.
SUITES: dict[str, tuple[Callable[[Path, bool], int], str]] = {
    "plain sqlite3": (writes_database, "farm"),
    "SQLAlchemy, Alembic": (writes_alembic, "farm"),
    "Django": (writes_django, suites.DJANGO),
}


@contextlib.contextmanager
def worker(path: Path, work: Work, policy: ResetPolicy, level: Level) -> Iterator[Step]:
    """Do some work on a ring, inside of a test."""
    databases = Databases(policy=policy, sensors=level)
    try:
        ring = Ring.restore(load(path))
        databases.add(ring)
        databases.begin_test("t")

        def step() -> tuple[float, ...]:
            began = perf_counter()
            work(databases, ring)
            return ((perf_counter() - began) / _STATEMENTS,)

        step()
        yield step
    finally:
        databases.close()


def run(options: Options) -> Result:
    """Measure statements, and whole suites."""
    tables: tuple[Table, ...] = ()
    bars: tuple[Bar, ...] = ()
    if options.wants(f"{NAME}/statements"):
        columns = tuple(Column(str(level), "us") for level in LEVELS)
        table = Table("statements", "Sensors per statement", _STATEMENT_NOTE, columns, {})
        for row, (work, policy) in WORKS.items():
            _measure(options, table, row, work, policy)
            if row not in _NOT_PROMISED:
                bars += _added(table, row)
        tables += (table,)
    if options.wants(f"{NAME}/suites"):
        table, promised = _suites(options)
        tables += (table,)
        bars += promised
    return Result(NAME, tables, bars)


def _measure(options: Options, table: Table, row: str, work: Work, policy: ResetPolicy) -> None:
    lanes: dict[str, Prepare] = {
        str(level): functools.partial(worker, work=work, policy=policy, level=level)
        for level in LEVELS
    }

    def record(variant: str, samples: tuple[float, ...]) -> None:
        table.add(row, variant, samples[0])

    take_turns(lanes, image(options.scratch, _SIZE), options.rounds_of(40, 5), record, in_a_row=25)


def _added(table: Table, row: str) -> tuple[Bar, ...]:
    """Return the bar for what full sensors add, round by round."""
    pairs = zip(table.samples(row, Level.FULL), table.samples(row, Level.OFF), strict=True)
    added = [full - off for full, off in pairs]
    name = f"full sensors add less than 1.5 us to a statement: {row}"
    return below(name, STATEMENT_LIMIT, [max(statistics.median(added), 1e-9)])


def _suites(options: Options) -> tuple[Table, tuple[Bar, ...]]:
    columns = tuple(
        Column(f"{level}, {what}", "s") for what in (suites.WALL, suites.CPU) for level in LEVELS
    )
    table = Table("suites", "Sensors in whole suites", _SUITE_NOTE, columns, {})
    bars: tuple[Bar, ...] = ()
    for name, (write, database) in SUITES.items():
        with suites.new_suite() as folder:
            count = write(folder, options.quick)
            (folder / "tmp").mkdir()
            for number in range(options.rounds_of(9, 1) + 1):
                # Whoever comes first in a round, comes last in the next one.
                for level in LEVELS if number % 2 else reversed(LEVELS):
                    variant = suites.farm(str(level), _WORKERS, database, sensors=level)
                    measured = variant.run(folder)
                    suites.check(variant, measured, count)
                    if number:  # the first round fills caches
                        table.add(name, f"{level}, {suites.WALL}", measured.wall)
                        table.add(name, f"{level}, {suites.CPU}", measured.cpu)
        for what in () if options.quick else (suites.WALL, suites.CPU):
            bars += faster(
                f"full sensors add less than 5 % to a suite, {what}: {name}",
                1 / SUITE_LIMIT,
                table.samples(name, f"{Level.FULL}, {what}"),
                table.samples(name, f"{Level.OFF}, {what}"),
            )
    return table, bars


if __name__ == "__main__":
    command({NAME: run})()
