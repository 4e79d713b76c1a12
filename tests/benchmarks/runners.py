"""What runs functions on several processes: the worker pool and its peers, behind one interface.

    runner                 one by one        in chunks                     its database comes by
    WorkerPool             submit            map                           golden
    ProcessPoolExecutor    submit            map                           initializer
    multiprocess.Pool      apply_async       map                           initializer
    loky                   submit            map                           initializer
    dask.distributed       submit            submit of lists of values     Client.run

All processes are spawned. Peers are imported by whoever measures them, so that the others need not
have them.
"""

from __future__ import annotations

import concurrent.futures
import importlib
import importlib.util
import multiprocessing
import pickle
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

import msgspec

from benchmarks import runner_tasks
from benchmarks.images import load

if TYPE_CHECKING:
    from snapfarm import Golden, WorkerPool


class Task(msgspec.Struct, frozen=True):
    """A function of the pool's, which gets a connection, and what it is for the peers."""

    ours: Callable[..., int]
    theirs: Callable[[int], int]


NOTHING = Task(runner_tasks.nothing_on, runner_tasks.nothing)
QUERY = Task(runner_tasks.query_on, runner_tasks.query)
BUSY = Task(runner_tasks.busy_on, runner_tasks.busy)
ASLEEP = Task(runner_tasks.asleep_on, runner_tasks.asleep)
ANSWER = Task(runner_tasks.answer_on, runner_tasks.answer)


class Runner(Protocol):
    """Runs a task for each value, and returns the results in order."""

    def one_by_one(self, task: Task, values: Sequence[int]) -> list[int]:
        """Submit each by itself."""

    def in_chunks(self, task: Task, values: Sequence[int], size: int | None) -> list[int]:
        """Run chunks of so many, or of as many as the runner finds right."""


#: What a runner gets its database from: a golden one, an image, or the file of an image.
Source: TypeAlias = "Golden | bytes | Path"


class Variant(msgspec.Struct, frozen=True):
    """A runner and how it is made."""

    name: str
    runner: str
    #: Arguments of the pool.
    settings: dict[str, object] = {}
    #: Whether a peer's workers read the image from its file, instead of being sent it.
    file: bool = False

    def source(self, image: Path) -> Source:
        """Import what the runner needs, and return what it gets its database from."""
        for module in MODULES[self.runner]:
            importlib.import_module(module)
        if self.runner == POOL:
            from snapfarm import Golden

            return Golden(load(image))
        return image if self.file else image.read_bytes()

    def open(self, source: Source, workers: int) -> AbstractContextManager[Runner]:
        """Start the runner."""
        if self.runner == POOL:
            return _pool(cast("Golden", source), workers, self.settings)
        return _PEERS[self.runner](cast("bytes | Path", source), workers)


class _Pool:
    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool

    def one_by_one(self, task: Task, values: Sequence[int]) -> list[int]:
        """Submit each by itself."""
        futures = [self._pool.submit(task.ours, value) for value in values]
        return [future.result() for future in futures]

    def in_chunks(self, task: Task, values: Sequence[int], size: int | None) -> list[int]:
        """Let the pool make chunks."""
        return list(self._pool.map(task.ours, values, chunksize=size))


class _Executor:
    """ProcessPoolExecutor and its relatives."""

    def __init__(self, executor: concurrent.futures.Executor) -> None:
        self._executor = executor

    def one_by_one(self, task: Task, values: Sequence[int]) -> list[int]:
        """Submit each by itself."""
        futures = [self._executor.submit(task.theirs, value) for value in values]
        return [future.result() for future in futures]

    def in_chunks(self, task: Task, values: Sequence[int], size: int | None) -> list[int]:
        """Let the executor make chunks."""
        return list(self._executor.map(task.theirs, values, chunksize=size or 1))


@contextmanager
def _pool(golden: Golden, workers: int, settings: dict[str, object]) -> Iterator[Runner]:
    from snapfarm import WorkerPool

    with WorkerPool(golden, workers, **settings) as pool:  # type: ignore[arg-type]  # checked there
        yield _Pool(pool)


@contextmanager
def _futures(source: bytes | Path, workers: int) -> Iterator[Runner]:
    with concurrent.futures.ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=runner_tasks.open_database,
        initargs=(source,),
    ) as executor:
        yield _Executor(executor)


@contextmanager
def _loky(source: bytes | Path, workers: int) -> Iterator[Runner]:
    loky = importlib.import_module("loky")
    # Reusable executors end workers that are idle for a while: not while others have their turn.
    with loky.ProcessPoolExecutor(
        workers, initializer=runner_tasks.open_database, initargs=(source,)
    ) as executor:
        yield _Executor(executor)


class _Multiprocess:
    def __init__(self, source: bytes | Path, workers: int) -> None:
        context = importlib.import_module("multiprocess").get_context("spawn")
        self._pool = context.Pool(workers, runner_tasks.open_database, (source,))

    def one_by_one(self, task: Task, values: Sequence[int]) -> list[int]:
        """Apply each by itself."""
        calls = [self._pool.apply_async(task.theirs, (value,)) for value in values]
        return [call.get() for call in calls]

    def in_chunks(self, task: Task, values: Sequence[int], size: int | None) -> list[int]:
        """Let the pool make chunks."""
        found: list[int] = self._pool.map(task.theirs, values, chunksize=size)
        return found

    def close(self) -> None:
        """End the workers."""
        self._pool.close()
        self._pool.join()


class _Client(Protocol):
    """What is used of dask's client, which brings no types."""

    def submit(self, function: object, *args: object, pure: bool) -> object: ...
    def gather(self, futures: list[object]) -> list[object]: ...


class _Dask:
    def __init__(self, client: _Client) -> None:
        self._client = client

    def one_by_one(self, task: Task, values: Sequence[int]) -> list[int]:
        """Submit each by itself."""
        futures = [self._client.submit(task.theirs, value, pure=False) for value in values]
        return cast("list[int]", self._client.gather(futures))

    def in_chunks(self, task: Task, values: Sequence[int], size: int | None) -> list[int]:
        """Submit lists of values: dask has no chunks of its own."""
        size = size or 1
        # As a part of the function, and results as bytes: lists are taken apart element by element,
        # which costs dask 25 us for each.
        parts = [
            partial(runner_tasks.each_packed, task.theirs, values[at : at + size])
            for at in range(0, len(values), size)
        ]
        futures = [self._client.submit(part, pure=False) for part in parts]
        packed = cast("list[bytes]", self._client.gather(futures))
        return [result for each in packed for result in pickle.loads(each)]


@contextmanager
def _multiprocess(source: bytes | Path, workers: int) -> Iterator[Runner]:
    with closing(_Multiprocess(source, workers)) as runner:
        yield runner


@contextmanager
def _dask(source: bytes | Path, workers: int) -> Iterator[Runner]:
    distributed = importlib.import_module("distributed")
    with (
        tempfile.TemporaryDirectory() as folder,
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            local_directory=folder,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.run(runner_tasks.open_database, source)
        yield _Dask(client)


POOL = "pool"
FUTURES = "ProcessPoolExecutor"
MULTIPROCESS = "multiprocess.Pool"
LOKY = "loky"
DASK = "dask.distributed"

_PEERS: dict[str, Callable[[bytes | Path, int], AbstractContextManager[Runner]]] = {
    FUTURES: _futures,
    MULTIPROCESS: _multiprocess,
    LOKY: _loky,
    DASK: _dask,
}
#: What has to be imported for each.
MODULES: dict[str, tuple[str, ...]] = {
    POOL: ("snapfarm.pool.executor",),
    FUTURES: ("concurrent.futures.process",),
    MULTIPROCESS: ("multiprocess.pool",),
    LOKY: ("loky",),
    DASK: ("distributed",),
}
#: Runners that choose a chunk size of their own.
AUTOMATIC = (POOL, MULTIPROCESS)
PEERS = tuple(_PEERS)
_PACKAGES = {MULTIPROCESS: "multiprocess", LOKY: "loky", DASK: "distributed"}


def present(peer: str) -> bool:
    """Return whether a peer can be imported here."""
    return all(importlib.util.find_spec(name.partition(".")[0]) for name in MODULES[peer])


def peers_note() -> str:
    """Return which peers there are, in which version, and which are missing."""
    versions = [
        f"{package} {version(package)}" for peer, package in _PACKAGES.items() if present(peer)
    ]
    missing = [peer for peer in PEERS if not present(peer)]
    gone = f" **Missing here, so not measured**: {', '.join(missing)}." if missing else ""
    return f"Peers: ProcessPoolExecutor of this Python, {', '.join(versions)}.{gone}"
