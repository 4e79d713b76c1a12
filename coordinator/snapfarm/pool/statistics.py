"""The figures of a pool: kept while it runs, returned as a frozen picture."""

from __future__ import annotations

import collections
import statistics
import threading
import time

import msgspec

from snapfarm.pool.progress import Progress
from snapfarm_worker import wire

#: The queue times of so many tasks are kept for the median.
_KEPT = 1000


class WorkerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """One worker process of a pool, alive or not. Times in seconds, memory in bytes."""

    worker: str
    pid: int
    #: Calls that it ended.
    tasks: int
    #: Share of the time since it was ready that its threads spent in tasks, 0 to 1.
    busy: float
    #: Wall time of all calls together.
    busy_seconds: float
    peak_memory: int
    restores: int
    restore_seconds: float
    #: How often its rings were reset, by tier.
    resets: dict[str, int]
    reset_seconds: float
    #: How its process ended where that was not in order.
    death: str


class PoolStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A pool's figures at one moment. Times in seconds, memory in bytes."""

    #: Calls that were submitted, and what became of them.
    submitted: int
    done: int
    failed: int
    crashed: int
    cancelled: int
    #: How often a call was submitted again because its worker had died.
    retried: int
    #: From submission to the begin on a worker, of the last tasks.
    queue_median: float
    queue_max: float
    restores: int
    resets: dict[str, int]
    #: The largest of the workers'.
    peak_memory: int
    workers: tuple[WorkerStatistics, ...]

    @property
    def pending(self) -> int:
        """Calls that have no outcome yet."""
        return self.submitted - self.done - self.failed - self.crashed - self.cancelled


class _Line:
    """What is counted of one worker."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self.pid = 0
        self.tasks = 0
        self.busy = 0.0
        self.ready_at: float | None = None
        self.gone_at: float | None = None
        self.peak_memory = 0
        self.restores = 0
        self.restore_seconds = 0.0
        self.resets: collections.Counter[str] = collections.Counter()
        self.reset_seconds = 0.0
        self.death = ""


class Tally:
    """Counts what happens in a pool; may be read from any thread."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._lines: dict[str, _Line] = {}
        self._queued: collections.deque[float] = collections.deque(maxlen=_KEPT)
        self._queue_max = 0.0
        self._counts: collections.Counter[str] = collections.Counter()

    def count(self, what: str, calls: int = 1) -> None:
        """Count calls that were submitted, or had one of the outcomes."""
        with self._lock:
            self._counts[what] += calls

    def began(self, queued: float) -> None:
        """Note how long a task had waited when a worker began it."""
        with self._lock:
            self._queued.append(queued)
            self._queue_max = max(self._queue_max, queued)

    def arrived(self, worker: str, message: wire.FromWorker) -> None:
        """Note what a message says of its worker."""
        with self._lock:
            line = self._lines.setdefault(worker, _Line(worker))
            match message:
                case wire.Hello(pid=pid):
                    line.pid = pid
                case wire.SnapshotRestored(restore_seconds=seconds):
                    line.restores += 1
                    line.restore_seconds += seconds
                case wire.Ready():
                    line.ready_at = time.monotonic()
                case wire.TaskFinished():
                    line.tasks += message.calls
                    line.busy += message.seconds
                    line.peak_memory = max(line.peak_memory, message.peak_memory)
                    for reset in message.resets:
                        line.resets[reset.tier] += 1
                        line.reset_seconds += reset.seconds
                case _:
                    pass

    def gone(self, worker: str, death: str) -> None:
        """Note that a worker is gone, and how where that was not in order."""
        with self._lock:
            line = self._lines.setdefault(worker, _Line(worker))
            line.gone_at, line.death = time.monotonic(), death

    def progress(self) -> Progress:
        """Return how far the calls are."""
        with self._lock:
            return Progress(
                submitted=self._counts["submitted"],
                done=self._counts["done"],
                failed=self._counts["failed"],
                crashed=self._counts["crashed"],
                cancelled=self._counts["cancelled"],
            )

    def picture(self) -> PoolStatistics:
        """Return all figures at this moment."""
        with self._lock:
            lines = tuple(self._shown(line) for line in self._lines.values())
            resets: collections.Counter[str] = collections.Counter()
            for line in lines:
                resets.update(line.resets)
            return PoolStatistics(
                submitted=self._counts["submitted"],
                done=self._counts["done"],
                failed=self._counts["failed"],
                crashed=self._counts["crashed"],
                cancelled=self._counts["cancelled"],
                retried=self._counts["retried"],
                queue_median=statistics.median(self._queued) if self._queued else 0.0,
                queue_max=self._queue_max,
                restores=sum(line.restores for line in lines),
                resets=dict(resets),
                peak_memory=max((line.peak_memory for line in lines), default=0),
                workers=lines,
            )

    def _shown(self, line: _Line) -> WorkerStatistics:
        until = time.monotonic() if line.gone_at is None else line.gone_at
        lived = 0.0 if line.ready_at is None else max(0.0, until - line.ready_at) * self._threads
        return WorkerStatistics(
            worker=line.worker,
            pid=line.pid,
            tasks=line.tasks,
            busy=min(1.0, line.busy / lived) if lived else 0.0,
            busy_seconds=line.busy,
            peak_memory=line.peak_memory,
            restores=line.restores,
            restore_seconds=line.restore_seconds,
            resets=dict(line.resets),
            reset_seconds=line.reset_seconds,
            death=line.death,
        )
