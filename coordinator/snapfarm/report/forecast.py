"""How far a run has come, and how long it will still take. Pure: whoever asks says when it is.

The estimate begins with what tests took in earlier runs, and is corrected by the pace of this one:
a busy machine, a debug build or other sensors make all of them slower by about the same factor.
Tests that nobody knows count as what unknown tests took in this run. Work is divided by the
workers, but a run does not end before its longest test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from snapfarm_worker.keys import nodeid_of

#: Seconds of expected work after which the pace of this run counts as much as that of earlier ones.
_INERTIA = 2.0
#: Tests that have to end before a run of unknown tests is forecast.
_ENOUGH = 5
#: Seconds from which a running test is worth a word.
SLOW = 5.0
#: Characters that are left for a running test's name, or else it is not named.
_SHORTEST_NAME = 16


class Running(NamedTuple):
    """An item that runs, and since when."""

    key: str
    since: float


class Forecast:
    """What has been done of a run, what runs, and what is to come."""

    def __init__(self, known: Mapping[str, float]) -> None:
        """`known` has the seconds that tests took in earlier runs, by node id."""
        self._known = known
        self._pending: set[str] = set()
        #: Pending items that are known, the shortest first.
        self._longest: list[str] = []
        self._running: dict[str, Running] = {}
        self.total = 0
        self.failed = 0
        self.done = 0
        #: Seconds of pending items that are known, and how many are not.
        self._expected = 0.0
        self._unknown = 0
        #: Of items that have ended: what known ones were expected to take, and took.
        self._planned = self._took = 0.0
        #: Of items that have ended and were not known: how many, and what they took.
        self._strangers: Counter[str] = Counter()
        self._strangers_took = 0.0

    def collected(self, keys: Iterable[str]) -> None:
        """These items are to be run; only the first collection counts."""
        if self.total:
            return
        self._pending = set(keys)
        self.total = len(self._pending)
        for key in self._pending:
            seconds = self._seconds(key)
            if seconds is None:
                self._unknown += 1
            else:
                self._expected += seconds
        self._longest = sorted(
            (key for key in self._pending if self._seconds(key) is not None),
            key=lambda key: self._seconds(key) or 0.0,
        )

    def started(self, worker: str, key: str, now: float) -> None:
        """A worker begins an item."""
        self._running[worker] = Running(key, now)
        self._take(key)

    def ended(self, worker: str, key: str, seconds: float, *, failed: bool) -> None:
        """An item has its outcome."""
        if (running := self._running.get(worker)) is not None and running.key == key:
            del self._running[worker]
        self._take(key)
        self.done += 1
        self.failed += failed
        expected = self._seconds(key)
        if expected is None:
            self._strangers["ended"] += 1
            self._strangers_took += seconds
        else:
            self._planned += expected
            self._took += seconds

    def gone(self, worker: str) -> None:
        """A worker is no more; what it ran runs again, or has its outcome."""
        self._running.pop(worker, None)

    def left(self, now: float, workers: int) -> float | None:
        """Return how many seconds the items will still take; None where nobody can say yet."""
        if not self.total or not workers:
            return None
        stranger = self._stranger()
        if stranger is None and (self._unknown or self._runs_unknown()):
            return None
        pace = (self._took + _INERTIA) / (self._planned + _INERTIA)
        unknown = stranger or 0.0
        rests = []
        for running in self._running.values():
            seconds = self._seconds(running.key)
            expected = unknown if seconds is None else seconds * pace
            rests.append(max(0.0, expected - (now - running.since)))
        work = self._expected * pace + self._unknown * unknown + sum(rests)
        while self._longest and self._longest[-1] not in self._pending:
            self._longest.pop()
        longest = (self._seconds(self._longest[-1]) or 0.0) * pace if self._longest else 0.0
        return max(work / workers, longest, *rests, 0.0)

    def slowest(self) -> Running | None:
        """Return the item that has been running for the longest time."""
        return min(self._running.values(), key=lambda running: running.since, default=None)

    def _take(self, key: str) -> None:
        if key not in self._pending:
            return
        self._pending.discard(key)
        seconds = self._seconds(key)
        if seconds is None:
            self._unknown -= 1
        else:
            self._expected -= seconds

    def _stranger(self) -> float | None:
        """Return what an item that is not known will take; None if there is nothing to go by."""
        ended = self._strangers["ended"]
        if ended >= min(_ENOUGH, self.total):
            return self._strangers_took / ended
        if self._known:
            return sum(self._known.values()) / len(self._known)
        return None

    def _runs_unknown(self) -> bool:
        return any(self._seconds(running.key) is None for running in self._running.values())

    def _seconds(self, key: str) -> float | None:
        return self._known.get(nodeid_of(key))


def spoken(seconds: float) -> str:
    """Return a time to come, no more precise than an estimate is: "4 s", "50 s", "3 min", "2 h"."""
    if seconds < 10:
        return f"{max(1, round(seconds))} s"
    if seconds < 90:
        return f"{round(seconds / 5) * 5} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def progress(forecast: Forecast, now: float, workers: int) -> str:
    """Return how far a run is, as "312 of 780 tests, 2 failed, 40 s left"."""
    parts = [f"{forecast.done} of {forecast.total} tests"]
    if forecast.failed:
        parts.append(f"{forecast.failed} failed")
    left = forecast.left(now, workers)
    if left is not None and forecast.done < forecast.total:
        parts.append(f"{spoken(left)} left")
    return ", ".join(parts)


def status_line(forecast: Forecast, now: float, workers: int, width: int) -> str:
    """Return the line under the dots, shorter than `width`: progress, and what is slow."""
    said = progress(forecast, now, workers)
    slow = forecast.slowest()
    if slow is not None and now - slow.since >= SLOW:
        name, ago = nodeid_of(slow.key), f" ({spoken(now - slow.since)})"
        room = width - 1 - len(said) - 3 - len(ago)
        if room >= _SHORTEST_NAME:
            # What differs between neighbours is at the end of a name.
            name = name if len(name) <= room else "…" + name[len(name) - room + 1 :]
            said += f"   {name}{ago}"
    return said if len(said) < width else said[: max(0, width - 2)] + "…"
