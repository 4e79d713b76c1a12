"""Measures how long a ring takes to be filled with a snapshot, against the five-line recipe."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Callable, Iterable, Iterator
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
ROUNDS = {1: 20, 10: 15, 100: 5, 500: 3}

#: Restores in a row, whose median is one sample.
_ROW = 5

MEMCPY = "memcpy"
RECIPE = "recipe"
RECIPE_KEPT = "recipe, memory kept"
RECIPE_OPEN = "recipe, ring open"
FIRST = "Ring.restore"
SHARED = "shared-cache"
MEMDB = "memdb"
PRIVATE = "private, connect"

_RECIPE = (
    "*Recipe*: connect, deserialize, connect to a new shared-cache ring, backup, close the source. "
)
_FIRST_NOTE = (
    "What a worker does once, at its start; each sample from a fresh process. "
    + _RECIPE
    + "The digest was checked when the snapshot arrived, see broadcast, and is not checked here."
)
_AGAIN_NOTE = (
    "What a worker does after each test that commits; below 100 MB, each sample is the median of "
    "five in a row. *Shared-cache*, *memdb*: `Ring.reset`. *Private, connect*: a connection of a "
    "private ring, which brings its own copy. "
    + _RECIPE
    + "*Memory kept*: the same with an allocator that was told to keep what is freed, as a "
    "worker's is; without that it depends on the size and on luck. *Ring open*: the recipe over a "
    "ring that another connection keeps alive, as `Ring.reset` does it. *Memcpy*: one copy into "
    "memory that is already there."
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
        ring = Ring.restore(snapshot, verified=True)
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


FRESH: dict[str, Prepare] = {RECIPE: recipe, FIRST: first_restore}
LANES: dict[str, Prepare] = {
    MEMCPY: memcpy,
    RECIPE: recipe,
    RECIPE_KEPT: functools.partial(recipe, keep=True),
    RECIPE_OPEN: recipe_into_open_ring,
    SHARED: functools.partial(again, kind=RingKind.SHARED_CACHE),
    MEMDB: functools.partial(again, kind=RingKind.MEMDB),
    PRIVATE: private,
}


def run(options: Options) -> Result:
    """Measure all sizes."""
    first = _table("first", "First restore into a ring, in a fresh process", _FIRST_NOTE, FRESH)
    later = _table("again", "Restoring a ring again", _AGAIN_NOTE, LANES)
    for size in options.sizes_of(SIZES, QUICK_SIZES):
        row = f"{size} MB"
        rounds = options.rounds_of(ROUNDS.get(size, 5), 5)
        path = image(options.scratch, size)
        take_turns({}, path, rounds, _recorder(first, row), fresh=FRESH)
        take_turns(LANES, path, rounds, _recorder(later, row), in_a_row=_ROW if size < 100 else 1)
    bars = faster(
        "restoring a ring again at 10 MB, against the recipe",
        2.0,
        later.samples("10 MB", SHARED),
        later.samples("10 MB", RECIPE),
    ) + faster(
        "first restore at 10 MB, against the recipe",
        2.0,
        first.samples("10 MB", FIRST),
        first.samples("10 MB", RECIPE),
    )
    return Result(NAME, (first, later), bars)


def _table(name: str, title: str, note: str, variants: Iterable[str]) -> Table:
    return Table(name, title, note, tuple(Column(variant, "ms") for variant in variants), {})


def _recorder(table: Table, row: str) -> Callable[[str, tuple[float, ...]], None]:
    return lambda name, samples: table.add(row, name, samples[0])


if __name__ == "__main__":
    command({NAME: run})()
