"""Measures how many short tasks a second the runners get through, each at its best chunk size."""

from __future__ import annotations

import contextlib
import functools
import random
import sqlite3
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter

import msgspec

from benchmarks import runners
from benchmarks.hosts import Host, taking_turns
from benchmarks.images import image
from benchmarks.model import Bar, Column, Table, more
from benchmarks.options import SEED, Options
from benchmarks.runners import Runner, Task, Variant

WORKERS = 2
#: Size of the database in MB.
SIZE = 10
QUICK_SIZE = 1

#: Calls in chunks of one are submitted, each by itself.
ONE = 1
#: Stands for the size that a runner chooses.
AUTOMATIC = 0

PLAIN = "pool"
THREADS = "pool, 4 threads"
PRIVATE = "pool, a private ring per thread"
NO_SENSORS = "pool, no sensors"
OURS = (
    Variant(PLAIN, runners.POOL),
    Variant(PRIVATE, runners.POOL, {"isolation": "thread", "ring": "private"}),
    Variant(NO_SENSORS, runners.POOL, {"sensors": False}),
    Variant(THREADS, runners.POOL, {"threads": 4}),
)


class Load(msgspec.Struct, frozen=True):
    """Tasks of one kind, how many of them, and by how many they are handed out."""

    name: str
    title: str
    task: Task
    calls: int
    #: How many where each is submitted by itself.
    singles: int
    sizes: tuple[int, ...]
    #: Variants of the pool that are measured.
    ours: tuple[str, ...]
    unit: str
    rounds: int
    #: Rounds before those, which are not recorded.
    warm_up: int = 1
    #: Runs in a row, whose median is one sample; one where each call is submitted by itself.
    in_a_row: int = 1
    note: str = ""
    #: Whether the pool has to reach what ProcessPoolExecutor does.
    bar: bool = False

    def quick(self) -> Load:
        """Return less of it, without a round to warm up."""
        return msgspec.structs.replace(
            self,
            calls=min(self.calls // 10, 1000),
            singles=100,
            sizes=(ONE, self.sizes[1], AUTOMATIC),
            rounds=1,
            warm_up=0,
            in_a_row=1,
        )

    @property
    def named(self) -> str:
        """The title with the number of calls."""
        return self.title.format(calls=f"{self.calls:_}".replace("_", " "))


_SIZES = (ONE, 100, 500, 1000, 2500, 5000, 10_000, AUTOMATIC)
_TINY = (PLAIN, PRIVATE, NO_SENSORS)
_SHORT = (PLAIN, THREADS)
LOADS = (
    Load("no-op", "{calls} tasks that do nothing", runners.NOTHING, 20_000, 2000, _SIZES,
         _TINY, "1000/s", rounds=5, in_a_row=3, bar=True),
    Load("query", "{calls} point queries", runners.QUERY, 20_000, 2000, _SIZES,
         _TINY, "1000/s", rounds=5, in_a_row=3, bar=True,
         note=" Each reads one row of a 10 MB database by its key."),
    Load("busy", "{calls} tasks that compute for 1 ms", runners.BUSY, 2000, 2000,
         (ONE, 20, AUTOMATIC), _SHORT, "/s", rounds=3,
         note=" The thread's own CPU time counts; two processors can't do more than 2000/s."),
    Load("asleep", "{calls} tasks that wait for 1 ms", runners.ASLEEP, 2000, 2000,
         (ONE, 20, AUTOMATIC), _SHORT, "/s", rounds=3,
         note=" `time.sleep(0.001)`: two threads can't do more than 2000/s, eight than 8000/s."),
)  # fmt: skip

_NOTE = (
    "Tasks per second on 2 workers, from the first call to the last result in a list. A row names "
    "the chunk size with the runner's best median, which bars compare. *One by one*: `submit` "
    "(`apply_async`) for each, {singles} of them. *Automatic*: what the runner chooses, where it "
    "does. Dask has no chunks: its tasks get lists, and return theirs pickled. All results are "
    "checked."
)


class Stage(msgspec.Struct, frozen=True):
    """A runner that is open, with the keys to ask for and what each must give."""

    runner: Runner
    keys: list[int]
    codes: dict[int, int]

    def time(self, load: Load, size: int) -> float:
        """Run tasks, check what they return, and return how many a second they were."""
        keys = self.keys[: load.singles if size == ONE else load.calls]
        expected = [self.codes[key] for key in keys] if load.task == runners.QUERY else keys
        samples = []
        for _ in range(1 if size == ONE else load.in_a_row):
            began = perf_counter()
            if size == ONE:
                found = self.runner.one_by_one(load.task, keys)
            else:
                found = self.runner.in_chunks(load.task, keys, size or None)
            samples.append(len(keys) / (perf_counter() - began))
            if found != expected:
                raise RuntimeError(f"{load.name}: other results than expected")
        return statistics.median(samples)


@contextlib.contextmanager
def stage(variant: Variant, path: Path) -> Iterator[Stage]:
    """Open a runner."""
    with contextlib.closing(sqlite3.connect(":memory:")) as conn:
        conn.deserialize(path.read_bytes())
        codes = dict(conn.execute("SELECT id, code FROM t7"))
    keys = random.Random(SEED).choices(sorted(codes), k=max(load.calls for load in LOADS))
    with variant.open(variant.source(path), WORKERS) as runner:
        yield Stage(runner, keys, codes)


def run(options: Options, benchmark: str) -> tuple[list[Table], tuple[Bar, ...]]:
    """Measure what is wanted of all loads."""
    loads = [load.quick() if options.quick else load for load in LOADS
             if options.wants(f"{benchmark}/{load.name}")]  # fmt: skip
    tables: list[Table] = []
    bars: tuple[Bar, ...] = ()
    if not loads:
        return tables, bars
    wanted = {name for load in loads for name in load.ours}
    variants = [variant for variant in OURS if variant.name in wanted]
    variants += [Variant(peer, peer) for peer in runners.PEERS if runners.present(peer)]
    path = image(options.scratch, QUICK_SIZE if options.quick else SIZE)
    with contextlib.ExitStack() as stack:
        hosts = {
            variant.name: stack.enter_context(Host(functools.partial(stage, variant, path)))
            for variant in variants
        }
        for host in hosts.values():
            host.ready()
        for load in loads:
            table, bar = _measure(options, load, hosts)
            tables.append(table)
            bars += bar
    return tables, bars


def _measure(
    options: Options, load: Load, hosts: Mapping[str, Host[Stage]]
) -> tuple[Table, tuple[Bar, ...]]:
    rates: dict[str, dict[int, list[float]]] = {}
    for size in load.sizes:
        taking = {name: host for name, host in hosts.items() if _takes(load, name, size)}
        taking_turns(
            taking,
            load.warm_up,
            options.rounds_of(load.rounds, 1),
            functools.partial(_ask, load, size),
            lambda name, rate, size=size: (  # type: ignore[misc]  # bound here
                rates.setdefault(name, {}).setdefault(size, []).append(rate)
            ),
        )
    columns = tuple(Column(_shown(size), load.unit) for size in load.sizes)
    note = _NOTE.format(singles=load.singles) + load.note
    table = Table(load.name, load.named, f"{note} {runners.peers_note()}", columns, {})
    for name in hosts:
        for size, samples in rates.get(name, {}).items():
            for sample in samples:
                table.add(f"{name}: {_shown(_best(rates[name]))}", _shown(size), sample)
    return table, _bars(load, rates) if load.bar else ()


def _ask(load: Load, size: int, name: str, host: Host[Stage]) -> float:
    return host.ask(Stage.time, load, size)


def _takes(load: Load, name: str, size: int) -> bool:
    ours = any(variant.name == name for variant in OURS)
    if ours and name not in load.ours:
        return False
    return size != AUTOMATIC or ours or name in runners.AUTOMATIC


def _bars(load: Load, rates: Mapping[str, Mapping[int, Sequence[float]]]) -> tuple[Bar, ...]:
    ours, theirs = rates[PLAIN], rates[runners.FUTURES]
    mine, peer = _best(ours), _best(theirs)
    return more(
        f"{load.named}, pool against ProcessPoolExecutor, each at its best",
        1.0,
        ours[mine],
        theirs[peer],
        f", chunks: {_shown(mine)} against {_shown(peer)}",
    )


def _best(rates: Mapping[int, Sequence[float]]) -> int:
    """Return the chunk size with the best median."""
    return max(rates, key=lambda size: statistics.median(rates[size]))


def _shown(size: int) -> str:
    return {ONE: "one by one", AUTOMATIC: "automatic"}.get(size, f"by {size}")
