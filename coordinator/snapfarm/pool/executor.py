"""`WorkerPool`: a `concurrent.futures.Executor` whose workers hold a ready database."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import sys
import time
import warnings
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, NoReturn, TypeVar, overload

import msgspec

from snapfarm.config_values import checked
from snapfarm.errors import ConfigError, PoolBroken, TaskUnshippable
from snapfarm.golden.arguments import checked_name
from snapfarm.golden.handle import Golden
from snapfarm.pool.codec import FunctionPacker, TaskCodec
from snapfarm.pool.manager import PoolManager, PoolState
from snapfarm.pool.mapping import Feed, Results
from snapfarm.pool.progress import Progress, progress_of
from snapfarm.pool.report import PoolReport, report_of
from snapfarm.pool.settings import Isolation, settings_of, task_names
from snapfarm.pool.work import Chunk, Shipped, pack_calls
from snapfarm_worker.errors import ParcelError
from snapfarm_worker.jobs import TaskJob
from snapfarm_worker.parcels import Codec, PlainCodec
from snapfarm_worker.snapshot import Snapshot

if TYPE_CHECKING:
    from types import TracebackType

    from snapfarm.config import StartMethod
    from snapfarm.config_golden import RingKind
    from snapfarm.pool.statistics import PoolStatistics
    from snapfarm_worker.anomaly import Anomaly

_T = TypeVar("_T")

#: Results of more bytes are an error, unless the pool says otherwise.
_RESULT_LIMIT = 256 * 1024 * 1024


class WorkerPool(Executor):
    """Runs functions on worker processes and their threads, each with a ready database.

    A task is called with its connection first: `submit(f, 1)` runs `f(conn, 1)`. Where `golden` is
    a mapping of databases by name, the first argument is a mapping of connections by name.

    `workers` processes (default: one for each processor) run `threads` tasks each at a time.
    `isolation` says what tasks see of each other: with "worker" the threads of a worker share one
    database, with "thread" each has its own, with "task" each task gets it pristine.

    `initializer(*initargs)` runs once in each worker, without a connection. `retries` is how often
    a task is run again whose worker died. A task that takes longer than `task_timeout` seconds
    (0: no limit) fails with TaskTimeout, and its worker is replaced. Results of more than
    `max_result_size` bytes fail with ResultUnshippable. `ring` is the kind of the rings. With
    `tasks`, import paths `module:function` by name (or a list of them), `submit` takes these names
    only, and nothing but plain data travels: no code, no pickles.

    `on_progress` is called in the pool's own thread, ten times a second at most; with `progress` a
    bar is shown, if there is a terminal.

    Raises ConfigError, which names the parameter at fault, LaunchError and StoreFull. Source of the
    semantics: `concurrent.futures`; what differs is in docs/pool.md.
    """

    def __init__(
        self,
        golden: Golden | Mapping[str, Golden],
        workers: int | None = None,
        threads: int = 1,
        *,
        isolation: Isolation = "worker",
        ring: RingKind = "shared-cache",
        tasks: Mapping[str, str] | Iterable[str] | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[object, ...] = (),
        retries: int = 0,
        task_timeout: float = 0.0,
        max_result_size: int = _RESULT_LIMIT,
        sensors: bool = True,
        on_progress: Callable[[Progress], object] | None = None,
        progress: bool = False,
        start_method: StartMethod = "spawn",
        start_timeout: float = 120.0,
        heartbeat_timeout: float = 10.0,
    ) -> None:
        settings = settings_of(
            {
                "workers": workers,
                "threads": threads,
                "isolation": isolation,
                "ring": ring,
                "retries": retries,
                "task_timeout": task_timeout,
                "max_result_size": max_result_size,
                "sensors": sensors,
                "start_method": start_method,
                "start_timeout": start_timeout,
                "heartbeat_timeout": heartbeat_timeout,
            }
        )
        if on_progress is not None and not callable(on_progress):
            raise ConfigError(f"WorkerPool: on_progress: expected a callable, got {on_progress!r}")
        checked("WorkerPool: progress", progress, bool)
        self._settings = settings
        self._goldens = _goldens(golden)
        self._names = task_names(tasks)
        shipping = TaskCodec()
        self._codec: Codec = shipping if self._names is None else PlainCodec()
        job = TaskJob(
            threads=threads,
            isolation=isolation,
            mapping=isinstance(golden, Mapping),
            names=self._names,
            initializer=_packed_initializer(initializer, initargs),
            result_limit=max_result_size,
            directory=os.getcwd(),  # noqa: PTH109  # what workers change to
            environment=dict(os.environ),
            sys_path=tuple(sys.path),
        )
        self._numbers = itertools.count()
        #: Sizes that the chunks of maps had last, by the function's id.
        self._sizes: dict[str, int] = {}
        self._functions = FunctionPacker(shipping)
        self._began = time.time()
        self._shutdown = False
        snapshots = [each.snapshot for each in self._goldens.values()]
        self._manager = PoolManager(settings, job, self._codec, snapshots)
        self._progress = progress_of(self._manager.tally, on_progress, bar=progress)
        self._manager.on_change = self._progress.changed
        self._manager.open()
        # Before the thread is there, so that nothing can be left behind without it.
        self._finalizer = weakref.finalize(self, _clean_up, self._manager, repr(self))
        self._finalizer.atexit = False  # `_wait_for_all` does it, and waits
        _living.add(self._manager)
        self._manager.on_end = _living.discard
        self._manager.start()

    def __repr__(self) -> str:
        names = ", ".join(self._goldens)
        settings = self._settings
        return f"<WorkerPool of {names}: {settings.workers} workers x {settings.threads} threads>"

    def __reduce__(self) -> NoReturn:
        """Refuse to be shipped, as part of a task say. Raises TypeError."""
        raise TypeError("a worker pool stays with its process")

    # ------------------------------------------------------------ tasks

    @overload
    def submit(self, fn: Callable[..., _T], /, *args: object, **kwargs: object) -> Future[_T]: ...
    @overload
    def submit(self, fn: str, /, *args: object, **kwargs: object) -> Future[object]: ...
    def submit(
        self, fn: Callable[..., object] | str, /, *args: object, **kwargs: object
    ) -> Future[_T] | Future[object]:
        """Run `fn(conn, *args, **kwargs)` on a worker; return the future of what it returns.

        Raises TaskUnshippable for what can't travel, PoolBroken, and RuntimeError after `shutdown`.
        """
        self._check_open()
        function = self._shipped(fn)
        chunk = Chunk(
            function,
            [args],
            kwargs,
            pack_calls(self._codec, [args], kwargs),
            first=next(self._numbers),
            single=True,
            now=time.monotonic(),
        )
        self.submit_chunk(chunk)
        return chunk.future

    @overload
    def map(
        self,
        fn: Callable[..., _T],
        *iterables: Iterable[object],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> Generator[_T, None, None]: ...
    @overload
    def map(
        self,
        fn: str,
        *iterables: Iterable[object],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> Generator[object, None, None]: ...
    def map(
        self,
        fn: Callable[..., object] | str,
        *iterables: Iterable[object],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> Generator[_T, None, None] | Generator[object, None, None]:
        """Yield `fn(conn, *args)` for the arguments in the iterables, in order.

        `timeout` counts from this call, in seconds. Without `chunksize` the pool finds one. With
        `buffersize` at most so many calls are taken whose results were not; without, a window of
        calls where an iterable has no length. The first exception ends it, whether a call, an
        iterable or an argument that can't be shipped raises it; that of the first calls comes here.
        """
        if chunksize is not None and chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        self._check_open()
        deadline = None if timeout is None else time.monotonic() + timeout
        feed = Feed(
            self,
            self._codec,
            self._shipped(fn),
            iterables,
            self._sizes,
            threads=self._settings.workers * self._settings.threads,
            chunksize=chunksize,
            buffersize=buffersize,
        )
        if iterables:
            feed.begin()
        return Results(feed, deadline)

    def submit_chunk(self, chunk: Chunk, *, continuing: bool = False) -> None:
        """Take a chunk; `submit` and `map` make them."""
        # Counted first: the manager must not be quicker.
        self._manager.tally.count("submitted", len(chunk.calls))
        try:
            self._manager.submit(chunk, continuing=continuing)
        except BaseException:
            self._manager.tally.count("submitted", -len(chunk.calls))
            raise

    def _shipped(self, fn: object) -> Shipped:
        if self._names is None:
            if not callable(fn):
                raise TypeError(f"a task is a callable, not {fn!r}")
            return self._functions.pack(fn)
        if not isinstance(fn, str) or fn not in self._names:
            known = ", ".join(map(repr, self._names))
            raise TaskUnshippable(
                f"this pool runs its tasks by name, no code travels: choose one of {known}, "
                f"not {fn!r}"
            )
        return Shipped(fn, fn, [])

    def _check_open(self) -> None:
        if self._manager.state is PoolState.BROKEN:
            raise PoolBroken(self._manager.broken)
        if self._shutdown:
            raise RuntimeError("cannot schedule new futures after shutdown")

    # ------------------------------------------------------------ what is known of it

    @property
    def anomalies(self) -> tuple[Anomaly, ...]:
        """What the sensors have observed so far; at most 10 000, the report counts the rest."""
        return tuple(self._manager.memory.anomalies)

    def statistics(self) -> PoolStatistics:
        """Return the pool's figures at this moment."""
        return self._manager.tally.picture()

    def report(self) -> PoolReport:
        """Return a report on the pool so far."""
        return report_of(
            self._manager, self._settings, list(self._goldens.values()), began=self._began
        )

    # ------------------------------------------------------------ the end

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks and end the workers once all are done.

        With `cancel_futures`, what has not begun is cancelled. With `wait`, return once every
        worker is gone; Ctrl-C then ends them at once.
        """
        self._shutdown = True
        self._finalizer.detach()
        self._manager.finish(cancel=cancel_futures)
        if wait:
            _joined(self._manager, "the pool was interrupted")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Shut down; after Ctrl-C without waiting for what runs."""
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._manager.kill("the pool was interrupted")
        self.shutdown(wait=True)


#: Managers whose thread may still run: the interpreter must not end before they have.
_living: set[PoolManager] = set()


def _clean_up(manager: PoolManager, pool: str) -> None:
    """End a pool that nobody shut down: what was submitted is run, as elsewhere."""
    manager.finish()
    warnings.warn(
        f"{pool} was never shut down: use `with`, or call shutdown()", ResourceWarning, stacklevel=2
    )


def _wait_for_all() -> None:
    """At the interpreter's end, wait for all pools; after Ctrl-C, end them at once."""
    if isinstance(getattr(sys, "last_value", None), KeyboardInterrupt):
        _kill_all()
    with contextlib.ExitStack() as ends:  # whatever one of them raises, the others come to an end
        for manager in list(_living):
            ends.callback(_end_at_exit, manager)


def _end_at_exit(manager: PoolManager) -> None:
    try:
        if manager.state is PoolState.OPEN:
            _clean_up(manager, "a worker pool")
    finally:
        try:
            _joined(manager, "the program was interrupted")
        except BaseException:
            _kill_all()
            raise


def _kill_all() -> None:
    for manager in list(_living):
        manager.kill("the program was interrupted")


def _joined(manager: PoolManager, reason: str) -> None:
    """Wait for a manager's end; what interrupts the wait ends it at once."""
    try:
        manager.join()
    except BaseException:
        manager.kill(reason)
        manager.join()
        raise


atexit.register(_wait_for_all)
# A process that was forked has no part in its parent's pools.
os.register_at_fork(after_in_child=_living.clear)


def _goldens(golden: Golden | Mapping[str, Golden]) -> dict[str, Golden]:
    found = dict(golden) if isinstance(golden, Mapping) else {"": golden}
    if not found:
        raise ConfigError(
            "WorkerPool: golden: expected at least one database, got an empty mapping"
        )
    named: dict[str, Golden] = {}
    for name, each in found.items():
        if not isinstance(each, Golden):
            raise ConfigError(f"WorkerPool: golden: expected a Golden, got {each!r}")
        named[name or each.name] = each if name in {"", each.name} else _renamed(each, name)
    return named


def _renamed(golden: Golden, name: object) -> Golden:
    manifest = msgspec.structs.replace(golden.manifest, database=checked_name("WorkerPool", name))
    return msgspec.structs.replace(golden, snapshot=Snapshot(manifest, golden.snapshot.data))


def _packed_initializer(
    initializer: Callable[..., object] | None, initargs: tuple[object, ...]
) -> tuple[bytes, ...] | None:
    if not isinstance(initargs, Iterable):
        raise ConfigError(f"WorkerPool: initargs: expected a tuple, got {initargs!r}")
    if initializer is None:
        return None
    if not callable(initializer):
        raise TypeError("initializer must be a callable")
    try:
        parcel = TaskCodec().pack((initializer, tuple(initargs)))
    except ParcelError as error:
        raise TaskUnshippable(f"the initializer can't be shipped: {error}") from error
    return tuple(bytes(frame) for frame in parcel)
