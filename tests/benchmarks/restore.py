"""Measures how long a ring takes to be filled with a snapshot, against the five-line recipe."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

from benchmarks.images import image, load
from benchmarks.lanes import Prepare, Step, take_turns
from benchmarks.model import Column, Result, Table, faster
from benchmarks.options import Options, command
from snapfarm_worker.courier import keep_freed_memory
from snapfarm_worker.ring import Ring, RingKind

NAME = "restore"
SIZES = (1, 10, 100, 500)
QUICK_SIZES = (1, 10)
#: Rounds by size in MB.
ROUNDS = {1: 40, 10: 20, 100: 7, 500: 3}

MEMCPY = "memcpy"
RECIPE = "recipe"
RECIPE_KEPT = "recipe, memory kept"
RECIPE_OPEN = "recipe, ring open"
FIRST = "first restore"
AGAIN = "again, shared-cache"
AGAIN_MEMDB = "again, memdb"
PRIVATE = "private, connect"

_NOTE = (
    "*memcpy*: one copy into memory that is already there. *Recipe*: connect, deserialize, "
    "connect to a new ring, backup, close the source, each time anew; *memory kept* tells the "
    "allocator to keep what is freed, as a worker does; *ring open* overwrites a ring that "
    "another connection keeps alive. *First restore*: `Ring.restore` in a fresh process, with "
    "its check of the digest. *Again*: `Ring.reset` of a ring in which a test has committed a "
    "row. *Private, connect*: a connection of a private ring, which brings its own copy."
)


@contextlib.contextmanager
def memcpy(path: Path) -> Iterator[Step]:
    """Copy the image into a buffer that has been written to before."""
    source = path.read_bytes()
    target = memoryview(bytearray(source))

    def step() -> tuple[float, ...]:
        began = perf_counter()
        target[:] = source
        return (perf_counter() - began,)

    yield step


@contextlib.contextmanager
def recipe(path: Path, *, keep: bool = False) -> Iterator[Step]:
    """Restore into a new shared-cache ring the way that everybody writes down first."""
    data = path.read_bytes()
    if keep:
        keep_freed_memory()

    def step() -> tuple[float, ...]:
        began = perf_counter()
        source = sqlite3.connect(":memory:")
        source.deserialize(data)
        ring = sqlite3.connect("file:recipe?mode=memory&cache=shared", uri=True)
        source.backup(ring)
        source.close()
        seconds = perf_counter() - began
        ring.close()
        return (seconds,)

    yield step


@contextlib.contextmanager
def recipe_into_open_ring(path: Path) -> Iterator[Step]:
    """Overwrite a ring that stays open, by the recipe."""
    data = path.read_bytes()
    uri = "file:recipe?mode=memory&cache=shared"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as keeper:
        keeper.execute("SELECT 1")

        def step() -> tuple[float, ...]:
            began = perf_counter()
            source = sqlite3.connect(":memory:")
            source.deserialize(data)
            ring = sqlite3.connect(uri, uri=True)
            source.backup(ring)
            source.close()
            ring.close()
            return (perf_counter() - began,)

        yield step


@contextlib.contextmanager
def first_restore(path: Path) -> Iterator[Step]:
    """Restore a ring as a worker does it once, at its start."""
    snapshot = load(path)
    keep_freed_memory()

    def step() -> tuple[float, ...]:
        began = perf_counter()
        ring = Ring.restore(snapshot)
        seconds = perf_counter() - began
        ring.close()
        return (seconds,)

    yield step


@contextlib.contextmanager
def again(path: Path, kind: RingKind) -> Iterator[Step]:
    """Restore a ring as a worker does it after each test that commits."""
    keep_freed_memory()
    with Ring.restore(load(path), kind=kind) as ring:

        def step() -> tuple[float, ...]:
            commit_row(ring)
            began = perf_counter()
            outcome = ring.reset()
            seconds = perf_counter() - began
            assert outcome.tier == "in-place", outcome
            return (seconds,)

        # The second delivery moves the source; what every later test pays begins with the third.
        step()
        step()
        yield step


@contextlib.contextmanager
def private(path: Path) -> Iterator[Step]:
    """Connect to a private ring."""
    keep_freed_memory()
    with Ring.restore(load(path), kind=RingKind.PRIVATE) as ring:

        def step() -> tuple[float, ...]:
            began = perf_counter()
            conn = ring.connect()
            seconds = perf_counter() - began
            conn.close()
            return (seconds,)

        yield step


def commit_row(ring: Ring) -> None:
    """Commit one row, as a test would."""
    with contextlib.closing(ring.connect()) as conn:
        conn.execute("INSERT INTO t7(code, body) VALUES (1, 'new')")
        conn.commit()


LANES: dict[str, Prepare] = {
    MEMCPY: memcpy,
    RECIPE: recipe,
    RECIPE_KEPT: functools.partial(recipe, keep=True),
    RECIPE_OPEN: recipe_into_open_ring,
    AGAIN: functools.partial(again, kind=RingKind.SHARED_CACHE),
    AGAIN_MEMDB: functools.partial(again, kind=RingKind.MEMDB),
    PRIVATE: private,
}
FRESH: dict[str, Prepare] = {FIRST: first_restore}


def run(options: Options) -> Result:
    """Measure all sizes."""
    names = (MEMCPY, RECIPE, RECIPE_KEPT, RECIPE_OPEN, FIRST, AGAIN, AGAIN_MEMDB, PRIVATE)
    columns = tuple(Column(name, "ms") for name in names)
    table = Table("fill", "Restore into a ring", _NOTE, columns, {})
    for size in options.sizes_of(SIZES, QUICK_SIZES):
        row = f"{size} MB"
        rounds = options.rounds_of(ROUNDS.get(size, 5), 5)
        path = image(options.scratch, size)
        take_turns(LANES, path, rounds, recorder(table, row), fresh=FRESH)
    bars = faster(
        "restoring a ring again takes half the recipe's time at 10 MB",
        2.0,
        table.samples("10 MB", AGAIN),
        table.samples("10 MB", RECIPE),
    )
    return Result(NAME, (table,), bars)


def recorder(table: Table, row: str) -> Callable[[str, tuple[float, ...]], None]:
    """Return what adds the first time of each step to a row."""
    return lambda name, samples: table.add(row, name, samples[0])


if __name__ == "__main__":
    command({NAME: run})()
