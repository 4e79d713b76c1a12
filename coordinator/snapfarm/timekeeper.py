"""Holds workers and what they run to their time limits: sets deadlines, and acts when they pass."""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from snapfarm.deadlines import Deadline, Kind
from snapfarm.happenings import KillReason
from snapfarm.hub import Hub
from snapfarm_worker.blackbox import Record

#: How often to look into the workers' black boxes where there is a limit for items: each so many
#: seconds, or so often within the limit.
_LOOK = 1.0
_LOOKS = 4


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Time limits in seconds; 0 means none."""

    #: From an item's start to its end.
    item: float
    #: From a worker's start until its databases are restored; the time in which they are not there
    #: to be served does not count.
    start: float
    #: From being told to stop until being killed.
    stop: float


class Run(msgspec.Struct):
    """How long a worker has been at one step of an item, as far as is known."""

    since: float
    step: int = 0


class Timekeeper:
    """What runs where and since when, and all limits of a farm's workers.

    `key_of` tells which item a black box's record says that a worker runs, None if none whose
    outcome is awaited.
    """

    def __init__(
        self,
        hub: Hub,
        limits: Limits,
        clock: Callable[[], float],
        *,
        key_of: Callable[[str, Record], str | None],
        noticed: Callable[[str, str], None],
    ) -> None:
        self._hub = hub
        self._deadlines = hub.deadlines
        self._limits = limits
        self._clock = clock
        self._key_of = key_of
        self._noticed = noticed
        #: What each worker is known to run.
        self._running: dict[str, dict[str, Run]] = {}
        #: Workers that were started before there was anything to restore.
        self._unserved: set[str] = set()
        if limits.item:
            self._set(Kind.LOOK, 0.0)

    def _set(self, kind: Kind, seconds: float, worker: str = "", key: str = "") -> None:
        self._deadlines.set(kind, self._clock() + seconds, worker, key)

    # ------------------------------------------------------------ facts

    def launched(self, worker: str) -> None:
        """A worker is being started."""
        self._unserved.add(worker)

    def ready(self, worker: str) -> None:
        """A worker has restored all databases."""
        self._unserved.discard(worker)
        self._deadlines.drop(Kind.START, worker)

    def waits_for_collection(self, worker: str) -> None:
        """All else is done, and a worker has not collected yet."""
        if self._limits.start:
            self._set(Kind.COLLECT, self._limits.start, worker)

    def collected(self, worker: str) -> None:
        """A worker has collected."""
        self._deadlines.drop(Kind.COLLECT, worker)

    def runs(self, worker: str, key: str, step: int = 0) -> None:
        """A worker has begun an item, or another step of it."""
        self._running.setdefault(worker, {})[key] = Run(self._clock(), step)
        if self._limits.item:
            self._set(Kind.ITEM, self._limits.item, worker, key)

    def runs_no_more(self, worker: str, key: str) -> None:
        """An item has ended, or does not begin."""
        self._running.get(worker, {}).pop(key, None)
        self._deadlines.drop(Kind.ITEM, worker, key)

    def session_ended(self, worker: str) -> None:
        """A worker's process must follow its session."""
        self._set(Kind.EXIT, self._limits.stop, worker)

    def stop(self, *, at_once: bool = False) -> None:
        """The farm was told to stop."""
        self._set(Kind.STOP, 0.0 if at_once else self._limits.stop)

    def gone(self, worker: str) -> dict[str, Run]:
        """Forget a worker; return what it ran."""
        self._unserved.discard(worker)
        self._deadlines.forget(worker)
        return self._running.pop(worker, {})

    def running(self, worker: str) -> Collection[str]:
        """Return the keys of what a worker is known to run."""
        return self._running.get(worker, {}).keys()

    # ------------------------------------------------------------ limits

    def begin_starts(self) -> None:
        """Give workers that could not restore anything until now their time, if they can now."""
        if self._unserved and self._hub.serving:
            for worker in self._unserved if self._limits.start else ():
                self._set(Kind.START, self._limits.start, worker)
            self._unserved.clear()

    def enforce(self, take_orders: Collection[str]) -> None:
        """Act on all deadlines that have passed; some workers take orders about items."""
        for deadline in self._hub.due():
            if deadline.kind is Kind.LOOK:
                self._look_into_boxes(take_orders)
                self._set(Kind.LOOK, min(_LOOK, self._limits.item / _LOOKS))
            else:
                self._enforce(deadline)

    def _enforce(self, deadline: Deadline) -> None:
        worker = deadline.worker
        match deadline.kind:
            case Kind.ITEM:
                self._condemn(worker, deadline.key)
            case Kind.START:
                self._hub.kill(worker, KillReason.START, stacks=True)
            case Kind.COLLECT:
                self._hub.kill(worker, KillReason.ENDING, stacks=True)
                self._noticed(
                    worker,
                    f"everything else had been done for {self._limits.start:g} s when it was still "
                    "collecting: it was ended, and its collection was not compared",
                )
            case Kind.EXIT:
                self._hub.kill(worker, KillReason.ENDING, stacks=True)
            case Kind.STOP:
                for each in self._hub.workers:
                    self._hub.kill(each, KillReason.ENDING)
            case _:
                raise AssertionError(f"not the farm's deadline: {deadline}")

    def _condemn(self, worker: str, key: str) -> None:
        """An item has passed its limit, unless the black box says that it does not run."""
        run = self._running[worker][key]
        records = (r for r in self._hub.doing(worker) if self._key_of(worker, r) == key)
        record = next(records, None)
        if record is None:
            # It has ended, and its message is on its way; or it was announced and then dropped.
            self.runs_no_more(worker, key)
        elif record.step != run.step:
            self.runs(worker, key, record.step)
        else:
            self._hub.kill(worker, KillReason.TIMEOUT, key=key, step=record.step, stacks=True)

    def _look_into_boxes(self, take_orders: Collection[str]) -> None:
        """Find out what runs that was never told, and which items got to another step.

        Tasks don't tell when they begin. Tests do, but the message may never have left: a process
        that is stopped takes its own sockets' thread with it.
        """
        for worker in set(take_orders).intersection(self._hub.workers):
            for record in self._hub.doing(worker):
                key = self._key_of(worker, record)
                if key is not None:
                    known = self._running.get(worker, {}).get(key)
                    if known is None or known.step != record.step:
                        self.runs(worker, key, record.step)
