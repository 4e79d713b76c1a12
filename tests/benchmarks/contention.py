"""Measures what threads that read and write one ring get done, and which errors reach them."""

from __future__ import annotations

import collections
import contextlib
import functools
import random
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import runner_tasks
from benchmarks.hosts import Host, taking_turns
from benchmarks.images import image, load
from benchmarks.model import Bar, Column, Table
from benchmarks.options import SEED, Options
from snapfarm import Golden, WorkerPool

NAME = "threads"
THREADS = (1, 2, 4, 8)
QUICK_THREADS = (1, 4)
KINDS = ("shared-cache", "memdb", "private")
#: Rings that all threads of a worker share.
_SHARED = ("shared-cache", "memdb")
#: How long they go on, in seconds.
SECONDS = 1.0
QUICK_SECONDS = 0.2
#: Size of the database in MB.
_SIZE = 1
#: From the order until all threads go, in seconds.
_LEAD = 0.1

_DONE = "operations"
_SLOWEST = "slowest"
_ERRORS = "errors"
_NOTE = (
    "One worker, for {seconds:g} s: of five operations of a thread, four read a row by its key, "
    "one changes a row and commits. Connections have sqlite3's own timeout of 5 s. *Operations*: "
    "of all threads together. *Slowest*: the longest that one operation took. *Errors*: what "
    "reached the tasks, in all rounds. *Private* is for comparison: a copy for each connection."
)

#: Operations per second, seconds of the slowest, what errors said.
Outcome = tuple[float, float, list[str]]


@contextlib.contextmanager
def stage(path: Path, kind: str, threads: int) -> Iterator[WorkerPool]:
    """Open a pool of one worker."""
    with WorkerPool(Golden(load(path)), 1, threads, ring=kind) as pool:  # type: ignore[arg-type]  # one of KINDS
        yield pool


def contend(pool: WorkerPool, threads: int, seconds: float) -> Outcome:
    """Let all threads go at the same time."""
    source = random.Random(SEED)
    keys = [[source.randint(1, 30) for _ in range(1000)] for _ in range(threads)]
    begin = time.monotonic() + _LEAD
    futures = [pool.submit(runner_tasks.contend, begin, seconds, each) for each in keys]
    found = [future.result() for future in futures]
    errors = [error for _, _, said in found for error in said]
    return sum(done for done, _, _ in found) / seconds, max(slow for _, slow, _ in found), errors


def run(options: Options, benchmark: str) -> tuple[list[Table], tuple[Bar, ...]]:
    """Measure all kinds of rings and numbers of threads."""
    if not options.wants(f"{benchmark}/{NAME}"):
        return [], ()
    seconds = QUICK_SECONDS if options.quick else SECONDS
    columns = [
        Column(f"{kind}, {name}", unit)
        for kind in KINDS
        for name, unit in ((_DONE, "1000/s"), (_SLOWEST, "ms"), (_ERRORS, "in all"))
    ]
    title = "Threads that read and write one ring"
    table = Table(NAME, title, _NOTE.format(seconds=seconds), tuple(columns), {})
    said: dict[str, collections.Counter[str]] = {kind: collections.Counter() for kind in KINDS}
    path = image(options.scratch, _SIZE)
    for threads in QUICK_THREADS if options.quick else THREADS:
        row = f"{threads} thread{'s' * (threads > 1)}"

        def record(kind: str, outcome: Outcome, row: str = row) -> None:
            rate, slowest, errors = outcome
            table.add(row, f"{kind}, {_DONE}", rate)
            table.add(row, f"{kind}, {_SLOWEST}", slowest)
            table.add(row, f"{kind}, {_ERRORS}", len(errors))
            said[kind].update(errors)

        with contextlib.ExitStack() as stack:
            hosts = {
                kind: stack.enter_context(Host(functools.partial(stage, path, kind, threads)))
                for kind in KINDS
            }
            for host in hosts.values():
                host.ready()
            taking_turns(
                hosts,
                0 if options.quick else 1,
                options.rounds_of(5, 1),
                functools.partial(_ask, threads, seconds),
                record,
            )
    bars = tuple(_bar(table, kind, said[kind]) for kind in _SHARED)
    return [table], bars


def _ask(threads: int, seconds: float, kind: str, host: Host[WorkerPool]) -> Outcome:
    del kind
    return host.ask(contend, threads, seconds)


def _bar(table: Table, kind: str, said: collections.Counter[str]) -> Bar:
    words = "; ".join(f"{count} x {text}" for text, count in said.most_common(3))
    rates = sum(len(table.samples(row, f"{kind}, {_DONE}")) for row in table.rows)
    return Bar(
        f"no lock error reaches threads that share a {kind} ring",
        1.0,
        0.0 if said else 1.0,
        words or f"none in {rates} rounds",
    )
