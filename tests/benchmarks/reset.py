"""Measures what it costs to give the next test a pristine database, against copying and recipe."""

from __future__ import annotations

import contextlib
import functools
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

from benchmarks.images import image, load
from benchmarks.lanes import Prepare, Step, take_turns
from benchmarks.model import Bar, Column, Result, Table, below
from benchmarks.options import Options, command
from snapfarm_worker.courier import keep_freed_memory
from snapfarm_worker.databases import Databases
from snapfarm_worker.ring import ResetPolicy, Ring, RingKind

NAME = "reset"
SIZES = (1, 10, 100)
QUICK_SIZES = (1, 10)
#: Rounds by size in MB.
ROUNDS = {1: 40, 10: 20, 100: 5}
#: What a reset after a test that only read may take, in seconds.
READ_ONLY_LIMIT = 50e-6

#: Tests in a row, whose median is one sample.
_ROW = 5

SHARED = "shared-cache"
MEMDB = "memdb"
PRIVATE = "private"
WORKER = "whole worker"
RECIPE = "recipe"
COPY = "tmpfs copy"
LAYER = "layer"
VARIANTS = (SHARED, LAYER, MEMDB, PRIVATE, WORKER, RECIPE, COPY)

_WHAT = (
    "*Shared-cache*, *memdb*, *private*: `Ring.reset`; a private ring has nothing to reset, its "
    "connections bring their own copy. One round is the median of ten tests in a row. *Layer*: as "
    "shared-cache, with a layer on top that a fixture of wider scope has committed. *Whole "
    "worker*: all that a worker does for a shared-cache ring around a test, sensors included. "
    "*Recipe*: connect, deserialize, backup into a new shared-cache ring, close. *tmpfs copy*: "
    "remove the file, copy the template."
)
_READY = (
    "The same, and then what the next test needs: a connection, and one row read through it. "
    "This is where a private ring pays."
)

#: A test: it gets a new connection.
Test = Callable[[sqlite3.Connection], None]


def read(conn: sqlite3.Connection) -> None:
    """Read a row, as a test that changes nothing."""
    assert conn.execute("SELECT code FROM t7 WHERE id = 1").fetchone() is not None


def write(conn: sqlite3.Connection) -> None:
    """Commit a row, as a test that changes something."""
    conn.execute("INSERT INTO t7(code, body) VALUES (1, 'new')")
    conn.commit()


TESTS: dict[str, Test] = {"read-only test": read, "one row committed": write}


def timed(
    test: Test, connect: Callable[[], sqlite3.Connection], reset: Callable[[], object]
) -> tuple[float, ...]:
    """Run a test on a connection of its own; time the reset, and until the next test could go."""
    with contextlib.closing(connect()) as conn:
        test(conn)
    began = perf_counter()
    reset()
    after = perf_counter()
    conn = connect()
    read(conn)
    ready = perf_counter()
    conn.close()
    return after - began, ready - began


@contextlib.contextmanager
def ring_reset(path: Path, test: Test, kind: RingKind) -> Iterator[Step]:
    """Reset a ring, and nothing else."""
    keep_freed_memory()
    with Ring.restore(load(path), kind=kind) as ring:
        yield _past_the_beginning(lambda: timed(test, ring.connect, ring.reset))


@contextlib.contextmanager
def layer_reset(path: Path, test: Test) -> Iterator[Step]:
    """Reset a ring to a layer on top of its golden state."""
    keep_freed_memory()
    with Ring.restore(load(path)) as ring:
        with ring.layers.watch() as mark:
            with contextlib.closing(ring.connect()) as conn:
                write(conn)
            assert ring.layers.add(mark, "fixture") is not None
        yield _past_the_beginning(lambda: timed(test, ring.connect, ring.reset))


@contextlib.contextmanager
def worker(path: Path, test: Test) -> Iterator[Step]:
    """Do all that a worker does for its databases between two tests."""
    keep_freed_memory()
    databases = Databases(policy=ResetPolicy.TEST, sensors=True)
    try:
        ring = Ring.restore(load(path))
        databases.add(ring)
        databases.begin_test("t")

        def between() -> None:
            databases.end_test("t", None, "test")
            databases.begin_test("t")

        yield _past_the_beginning(lambda: timed(test, ring.connect, between))
    finally:
        databases.close()


@contextlib.contextmanager
def recipe(path: Path, test: Test) -> Iterator[Step]:
    """Give each test a new ring."""
    data = path.read_bytes()
    uri = "file:recipe?mode=memory&cache=shared"
    sentinel = sqlite3.connect(uri, uri=True)

    def reset() -> None:
        nonlocal sentinel
        sentinel.close()
        source = sqlite3.connect(":memory:")
        source.deserialize(data)
        sentinel = sqlite3.connect(uri, uri=True)
        source.backup(sentinel)
        source.close()

    reset()
    yield lambda: timed(test, lambda: sqlite3.connect(uri, uri=True), reset)
    sentinel.close()


@contextlib.contextmanager
def tmpfs_copy(path: Path, test: Test) -> Iterator[Step]:
    """Give each test a copy of a template file in memory."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        template, copy = Path(folder, "template.sqlite"), Path(folder, "test.sqlite")
        shutil.copyfile(path, template)

        def reset() -> None:
            copy.unlink(missing_ok=True)
            shutil.copyfile(template, copy)

        reset()
        yield lambda: timed(test, lambda: sqlite3.connect(copy), reset)


def _past_the_beginning(step: Step) -> Step:
    # The second delivery moves the source; what every later test pays begins with the third.
    step()
    step()
    return step


def run(options: Options) -> Result:
    """Measure all sizes, after a test that reads and after one that commits."""
    tables = []
    bars: tuple[Bar, ...] = ()
    for kind, test in TESTS.items():
        name = kind.partition(" ")[0]
        unit = "us" if test is read else "ms"
        columns = tuple(Column(variant, unit) for variant in VARIANTS)
        alone = Table(f"{name}", f"Reset after: {kind}", _WHAT, columns, {})
        ready = Table(
            f"{name}-ready", f"Reset and next test ready after: {kind}", _READY, columns, {}
        )
        for size in options.sizes_of(SIZES, QUICK_SIZES):
            _measure(options, size, test, alone, ready)
            if test is read:
                bars += below(
                    f"reset after a read-only test, {size} MB, under 50 us",
                    READ_ONLY_LIMIT,
                    alone.samples(f"{size} MB", SHARED),
                )
        tables += [alone, ready]
    return Result(NAME, tuple(tables), bars)


def _measure(options: Options, size: int, test: Test, alone: Table, ready: Table) -> None:
    row = f"{size} MB"

    def record(variant: str, samples: tuple[float, ...]) -> None:
        alone.add(row, variant, samples[0])
        ready.add(row, variant, samples[1])

    lanes: dict[str, Prepare] = {
        SHARED: functools.partial(ring_reset, test=test, kind=RingKind.SHARED_CACHE),
        LAYER: functools.partial(layer_reset, test=test),
        MEMDB: functools.partial(ring_reset, test=test, kind=RingKind.MEMDB),
        PRIVATE: functools.partial(ring_reset, test=test, kind=RingKind.PRIVATE),
        WORKER: functools.partial(worker, test=test),
        RECIPE: functools.partial(recipe, test=test),
        COPY: functools.partial(tmpfs_copy, test=test),
    }
    rounds = options.rounds_of(ROUNDS.get(size, 10), 10)
    take_turns(lanes, image(options.scratch, size), rounds, record, in_a_row=_ROW)


if __name__ == "__main__":
    command({NAME: run})()
