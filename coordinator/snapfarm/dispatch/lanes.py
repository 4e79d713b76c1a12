"""The units that no worker has, in a lane for each layer that tests begin with.

A worker takes from the lane of the layer on which it stands, since going over to another one costs
it a reset, and fetching the layer if it has not had it yet. When its lane is empty, it goes to the
one that has most units for each worker that stands there: so a small lane is left to one worker,
and the last ones are shared. Without layers there is one lane, which is a queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snapfarm.dispatch.ledger import Unit


class Lanes:
    """Units in the order in which they came, lane by lane."""

    def __init__(self) -> None:
        #: No lane is empty.
        self._lanes: dict[str, deque[Unit]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Unit]:
        for lane in self._lanes.values():
            yield from lane

    def append(self, unit: Unit) -> None:
        """Put a unit at the end of its lane."""
        self._lanes.setdefault(unit.layer, deque()).append(unit)
        self._count += 1

    def put_back(self, units: Iterable[Unit]) -> None:
        """Put units at the front of their lanes, in this order."""
        for unit in reversed(list(units)):
            self._lanes.setdefault(unit.layer, deque()).appendleft(unit)
            self._count += 1

    def take(
        self, count: int, stands: str | None, crowd: Callable[[], Mapping[str, int]]
    ) -> list[Unit]:
        """Return at most `count` units of one lane: that of `stands`, as long as there is any.

        `crowd` tells how many workers stand on each layer; it is asked where that matters.
        """
        layer = next(iter(self._lanes)) if len(self._lanes) == 1 else self._best(stands, crowd)
        lane = self._lanes[layer]
        taken = [lane.popleft() for _ in range(min(count, len(lane)))]
        if not lane:
            del self._lanes[layer]
        self._count -= len(taken)
        return taken

    def _best(self, stands: str | None, crowd: Callable[[], Mapping[str, int]]) -> str:
        if stands in self._lanes:
            return stands
        standing = crowd()
        # The first of equals: max() returns that.
        return max(self._lanes, key=lambda name: len(self._lanes[name]) / (1 + standing[name]))
