"""When what happened in a run, and what that makes of its wall time and of its workers' time.

Pure: whoever tells it what happened says when that was. All of it is by the coordinator's clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from snapfarm.report.model import Failure, Output


class Phase(NamedTuple):
    """One phase of one item, as its report has it: setup, call or teardown; wall seconds."""

    when: str
    outcome: str
    seconds: float
    #: The file and line, from 1 on, where the item is defined.
    place: tuple[str, int] = ("", 0)
    #: Why it was skipped, and whether a failure was expected.
    detail: str = ""
    failure: Failure | None = None
    output: tuple[Output, ...] = ()


class WallTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Where the wall time of a run went: consecutive spans of the coordinator, in seconds.

    They begin when pytest has been configured there, and end when the report is written.
    """

    #: Until the first worker's process has answered.
    start: float = 0.0
    #: From there until a first worker held all golden databases, which may be built meanwhile.
    databases: float = 0.0
    #: From there until the first item began: workers configure pytest, import and collect.
    collection: float = 0.0
    #: From there until the last item had ended.
    tests: float = 0.0
    #: From there on: workers tear down and end, plugins and the terminal summarize.
    end: float = 0.0


class WorkerTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time of one worker's process went, in wall seconds."""

    #: From its launch until it answered: interpreter, imports of the farm's worker.
    start: float = 0.0
    #: Until it held all databases.
    databases: float = 0.0
    #: Until it had collected: pytest's configuration, imports of conftests and tests.
    collection: float = 0.0
    #: Without an item, from its collection until its session ended.
    waiting: float = 0.0
    #: From the end of its session until its process was gone.
    end: float = 0.0


class _Moments(msgspec.Struct, kw_only=True):
    """When a worker got where; None where it did not."""

    launched: float
    answered: float | None = None
    ready: float | None = None
    collected: float | None = None
    ended: float | None = None
    gone: float | None = None


class Timeline:
    """Keeps the moments of a run. A moment that has been can't be changed by a later word."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._workers: dict[str, _Moments] = {}
        self._first_item: float | None = None
        self._last_item: float | None = None

    def launched(self, worker: str, now: float) -> None:
        """A worker's process is about to be started."""
        self._workers[worker] = _Moments(launched=now)

    def answered(self, worker: str, now: float) -> None:
        """A worker is connected."""
        self._note(worker, "answered", now)

    def ready(self, worker: str, now: float) -> None:
        """A worker holds all databases."""
        self._note(worker, "ready", now)

    def collected(self, worker: str, now: float) -> None:
        """A worker has collected."""
        self._note(worker, "collected", now)

    def item_began(self, now: float) -> None:
        """An item begins somewhere."""
        if self._first_item is None:
            self._first_item = now

    def item_ended(self, now: float) -> None:
        """An item has ended somewhere."""
        self._last_item = now

    def session_ended(self, worker: str, now: float) -> None:
        """A worker's pytest session is over."""
        self._note(worker, "ended", now)

    def gone(self, worker: str, now: float) -> None:
        """A worker's process has ended, in order or not."""
        self._note(worker, "gone", now)

    def _note(self, worker: str, moment: str, now: float) -> None:
        moments = self._workers.get(worker)
        if moments is not None and getattr(moments, moment) is None:
            setattr(moments, moment, now)

    def wall(self, now: float) -> WallTimes:
        """Return the spans of a run that ends now; one that was never reached is empty."""
        workers = self._workers.values()
        marks = [
            _earliest(each.answered for each in workers),
            _earliest(each.ready for each in workers),
            math.inf if self._first_item is None else self._first_item,
            math.inf if self._last_item is None else self._last_item,
        ]
        spans, at = [], self._began
        for mark in marks:
            # A run that got no further was in the first span that it did not get out of.
            until = min(max(mark, at), now)
            spans.append(until - at)
            at = until
        start, databases, collection, tests = spans
        return WallTimes(
            start=start, databases=databases, collection=collection, tests=tests, end=now - at
        )

    def launched_at(self, worker: str) -> float:
        """Return when a worker was launched, in seconds since the run began."""
        moments = self._workers.get(worker)
        return 0.0 if moments is None else moments.launched - self._began

    def of_worker(self, worker: str, busy: float) -> WorkerTimes:
        """Return the spans of a worker that was busy with items for so many seconds."""
        moments = self._workers.get(worker)
        if moments is None:
            return WorkerTimes()
        at = moments.launched
        spans = []
        for moment in (moments.answered, moments.ready, moments.collected):
            spans.append(0.0 if moment is None else max(0.0, moment - at))
            at = at if moment is None else moment
        gone = moments.gone
        ended = moments.ended if moments.ended is not None else gone
        waiting = 0.0
        if moments.collected is not None and ended is not None:
            waiting = max(0.0, ended - moments.collected - busy)
        end = 0.0 if gone is None or ended is None else max(0.0, gone - ended)
        start, databases, collection = spans
        return WorkerTimes(
            start=start, databases=databases, collection=collection, waiting=waiting, end=end
        )


def _earliest(moments: Iterable[float | None]) -> float:
    return min((moment for moment in moments if moment is not None), default=math.inf)
