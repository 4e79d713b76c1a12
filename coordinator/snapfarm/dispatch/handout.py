"""Which worker gets which items: chunks of the queue, shares of other workers, leave to end.

Items that share an affinity key are a unit; all others are units of one item. Units queue in the
order of the collection, those of each layer for themselves (`lanes.py`). A ready worker with fewer
than `low_water` items gets the next `queued units / (2 x workers)` of them, at least one: large
chunks first, so that neighbours stay together and few messages are needed, small ones last, so that
all end together. One unit is left for each worker that is still starting, as long as the others
have something to do.

Once the queue is empty, a worker that has no more than `pinned` items is given about half of what
the one with most to spare has more, from its end and in whole units that have not begun. Units are
left where they are if that would not make the two loads more even, so the sum of the squares of
all loads falls with every theft, and stealing ends by itself. Nor is a unit taken by a worker that
it may not come to any more: a test that needs the rows which a late one's flush takes away.

A worker does not begin its last item until it knows a successor or is told that there is none
(`Run.flush`). It is told so once the queue has nothing for it and nobody has anything to give.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

from snapfarm.dispatch.ledger import Ledger, Unit, Worker
from snapfarm.dispatch.model import Action, Recall, Run, WorkerState
from snapfarm.dispatch.staff import Staff

#: A worker with fewer items is given more, so that it never waits for a round trip.
LOW_WATER: Final = 5
#: The item that a worker runs and its successor, for which fixtures were kept.
PINNED: Final = 2
#: No limit on what a worker is given in one go.
MOST: Final = 1 << 62

_READY: Final = frozenset({WorkerState.READY})
_STARTING: Final = frozenset({WorkerState.STARTING})


class Outbox:
    """The actions of one event, in order; items for a worker travel in as few Runs as possible."""

    def __init__(self) -> None:
        self._actions: list[Action] = []
        #: Where the Run of a worker is. It may be extended whatever came after: a worker to which
        #: Recall or End goes is handed nothing more in that event.
        self._runs: dict[str, int] = {}

    def begin(self, actions: list[Action]) -> None:
        """Put what comes into this empty list."""
        self._actions = actions
        self._runs.clear()

    def put(self, action: Action) -> None:
        """Add an action that is no Run."""
        self._actions.append(action)

    def run(self, worker: Worker, keys: tuple[str, ...], *, flush: bool = False) -> None:
        """Add a Run, or extend the one that this event has for the worker."""
        worker.flushed = flush
        index = self._runs.get(worker.id)
        if index is not None and isinstance(earlier := self._actions[index], Run):
            self._actions[index] = Run(worker.id, earlier.keys + keys, flush)
        else:
            self._runs[worker.id] = len(self._actions)
            self._actions.append(Run(worker.id, keys, flush))


class HandOut:
    """Decides which worker gets which items."""

    def __init__(
        self,
        ledger: Ledger,
        staff: Staff,
        outbox: Outbox,
        low_water: int,
        pinned: int,
        most: int,
    ) -> None:
        self._ledger = ledger
        self._staff = staff
        self._outbox = outbox
        self._low_water = low_water
        self._pinned = pinned
        self._most = most

    def feed_all(self) -> None:
        """Give every worker what it needs, the one with the least first."""
        for worker in sorted(self._ready(), key=lambda worker: worker.load):
            self.feed(worker)

    def feed(self, worker: Worker) -> None:
        """Give a worker what it needs: items, a share of somebody's, or leave to run its last.

        A worker that has not answered its Recall gets nothing: if it gives back a unit in part,
        that part must follow directly on the rest.
        """
        if worker.state is not WorkerState.READY or worker.recall is not None:
            return
        self._deal(worker)
        if worker.load <= self._pinned and worker.waits is None:
            last = worker.load == 1 if self._ledger.queue else self._nothing_to_steal(worker)
            if last and worker.load and not worker.flushed:
                self._outbox.run(worker, (), flush=True)

    def give(self, worker: Worker, units: Sequence[Unit]) -> None:
        """Hand units that nobody has to a worker."""
        self._outbox.run(worker, self._ledger.assign(worker, units))

    def check(self) -> None:
        """Raise DispatchError if a worker waits for something that can't come."""
        ready = self._ready()
        recalling = any(worker.recall is not None for worker in ready)
        for worker in ready:
            if worker.recall is not None or worker.waits is not None:
                continue
            if worker.load == 0 and self._ledger.queue:
                self._ledger.fail(f"worker {worker.id!r} has nothing to do, but items are queued")
            if worker.load == 1 and not worker.flushed and not recalling:
                self._ledger.fail(f"the last item of worker {worker.id!r} waits for nothing")

    def _ready(self) -> list[Worker]:
        return [w for w in self._ledger.workers.values() if w.state is WorkerState.READY]

    # ------------------------------------------------------------------ from the queue

    def _deal(self, worker: Worker) -> None:
        """Give a worker units of the queue, if it is running low."""
        queue = self._ledger.queue
        while queue and worker.load < self._low_water and (count := self._share(worker)):
            self.give(worker, queue.take(count, worker.stands, self._ledger.standing))
            if worker.load >= self._pinned:
                return

    def _share(self, worker: Worker) -> int:
        """Return how many units of the queue a worker may have now."""
        queued = len(self._ledger.queue)
        coming = self._ledger.count(_STARTING) + self._staff.coming
        takers = self._ledger.count(_READY) + coming
        share = min(max(1, queued // (2 * takers)), queued - coming, self._most)
        # What is left for those who are still starting is not worth a wait, nor the wide fixtures
        # of one who has worked: without a successor its last item would tear them all down.
        return max(share, 1 if worker.load <= worker.worked else 0)

    # ------------------------------------------------------------------ from another worker

    def _nothing_to_steal(self, thief: Worker) -> bool:
        """Recall units for a worker, or return whether nothing can come to it from others."""
        givers = [
            worker
            for worker in self._ready()
            if worker is not thief and not worker.refused and self._spare(worker, thief)
        ]
        free = [giver for giver in givers if giver.recall is None and giver.waits is None]
        if free:
            victim = max(free, key=lambda giver: self._spare(giver, thief))
            if units := self._haul(victim, thief):
                keys = self._ledger.recall(victim, thief, units)
                self._outbox.put(Recall(victim.id, keys))
                return False
        if len(free) < len(givers):
            # Somebody's answer is on its way, and everybody is looked at again when it comes.
            return False
        return not givers or thief.load == 1

    def _spare(self, worker: Worker, thief: Worker) -> int:
        """Return how many items a worker has beyond the units that it can't give to another."""
        if thief.late:
            beyond = itertools.islice(worker.units, worker.pinned_units(self._pinned), None)
            return sum(len(unit.items) for unit in beyond if thief.may_take(unit))
        pinned = range(worker.pinned_units(self._pinned))
        kept = sum(len(unit.items) for _, unit in zip(pinned, worker.units, strict=False))
        return worker.load - kept

    def _haul(self, victim: Worker, thief: Worker) -> list[Unit]:
        """Return the units to take, in order: about half the difference of the two loads."""
        gap = victim.load - thief.load
        units: list[Unit] = []
        items = 0
        for unit in filter(thief.may_take, victim.movable(self._pinned)):
            items += len(unit.items)
            if items >= gap or (units and items > gap // 2):
                break
            units.append(unit)
        return units[::-1]
