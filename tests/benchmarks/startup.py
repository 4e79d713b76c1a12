"""Measures how soon every worker of a new runner answers, and what memory a worker takes."""

from __future__ import annotations

import contextlib
import functools
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from benchmarks import runners
from benchmarks.hosts import Host
from benchmarks.images import image
from benchmarks.model import Bar, Column, Table
from benchmarks.options import Options
from benchmarks.runners import Source, Variant
from snapfarm.compare.processes import pss

NAME = "start"
WORKERS = 4
QUICK_WORKERS = 2
#: Size of the database in MB.
SIZE = 50
QUICK_SIZE = 5
#: What a worker may take: so many times the database, and so many bytes.
_TIMES, _BEYOND = 1.3, 25e6

_ANSWER = "all have answered"
_MEMORY = "memory per worker"
_NOTE = (
    "*All have answered*: from the call that makes the runner until each of {workers} workers has "
    "read a row of its {size} MB; a new program in each round, whose own imports are not timed. "
    "Peers are sent the image, as `initargs` (dask: `Client.run`), or read it from a file on "
    "tmpfs. *Memory per worker*: the mean PSS of the workers then, less that of an interpreter "
    "that was spawned and does nothing. "
)

OURS = Variant("pool", runners.POOL)
_PRIVATE = Variant("pool, private ring", runners.POOL, {"ring": "private"})


def start(source: Source, variant: Variant, workers: int) -> tuple[float, float]:
    """Start a runner; return the seconds until all workers have answered, and their memory."""
    pids: set[int] = set()
    began = perf_counter()
    with variant.open(source, workers) as runner:
        while len(pids) < workers:
            pids.update(runner.one_by_one(runners.ANSWER, [1] * workers))
        seconds = perf_counter() - began
        with _bare() as bare:
            return seconds, statistics.mean(map(pss, pids)) - pss(bare)


@contextlib.contextmanager
def _bare() -> Iterator[int]:
    """Start an interpreter that has only imported what a spawned one needs; its pid."""
    program = "import multiprocessing.spawn; print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.stdin.write(b"\n")
        process.stdin.flush()


@contextlib.contextmanager
def _stage(variant: Variant, path: Path) -> Iterator[Source]:
    yield variant.source(path)


def variants(*, quick: bool) -> list[Variant]:
    """Return what there is to measure here."""
    peers = [peer for peer in runners.PEERS if runners.present(peer)]
    if quick:
        return [OURS, Variant(f"{runners.FUTURES}, file", runners.FUTURES, file=True)]
    found = [OURS, _PRIVATE]
    for peer in peers:
        found += [Variant(f"{peer}, sent", peer), Variant(f"{peer}, file", peer, file=True)]
    return found


def run(options: Options, benchmark: str) -> tuple[list[Table], tuple[Bar, ...]]:
    """Measure one size and one number of workers."""
    if not options.wants(f"{benchmark}/{NAME}"):
        return [], ()
    size = QUICK_SIZE if options.quick else SIZE
    workers = QUICK_WORKERS if options.quick else WORKERS
    note = _NOTE.format(workers=workers, size=size)
    columns = (Column(_ANSWER, "s"), Column(_MEMORY, "MB"))
    title = f"Start of {workers} workers on {size} MB"
    table = Table(NAME, title, note + runners.peers_note(), columns, {})
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        path = image(Path(folder), size)
        rounds = options.rounds_of(5, 1)
        # The first round fills caches; quick ones tell little anyway.
        for number in range(rounds + (not options.quick)):
            for variant in variants(quick=options.quick):
                with Host(functools.partial(_stage, variant, path)) as host:
                    seconds, each = host.ready().ask(start, variant, workers)
                if number or options.quick:
                    table.add(variant.name, _ANSWER, seconds)
                    table.add(variant.name, _MEMORY, each)
        taken = statistics.median(table.samples(OURS.name, _MEMORY))
        limit = _TIMES * path.stat().st_size + _BEYOND
    detail = f"{taken / 1e6:.3g} MB of {limit / 1e6:.3g} MB"
    name = f"memory of a worker on {size} MB, under {_TIMES} times the database and 25 MB"
    return [table], (Bar(name, 1.0, limit / taken, detail),)
