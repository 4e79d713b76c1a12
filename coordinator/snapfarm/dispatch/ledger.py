"""Where every item is, and the moves that take it from one place to the next.

The ledger knows facts and legal moves; what to do next is decided in `dispatcher.py`. Each move
costs O(1) per item that moves.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import NoReturn

from snapfarm.dispatch.affinity import DistMode, affinity_of
from snapfarm.dispatch.lanes import Lanes
from snapfarm.dispatch.model import (
    FINAL,
    ITEM_MOVES,
    LIVE,
    WORKER_MOVES,
    Item,
    ItemState,
    WorkerState,
)
from snapfarm.dispatch.story import Story
from snapfarm.errors import DispatchError
from snapfarm_worker.turns import Turn


class Unit:
    """Items that stay together, in order; never empty once it is in place.

    The place is the ledger's queue while `holder` is None, else `units` of that worker.
    """

    __slots__ = ("begun", "early", "holder", "items", "late", "layer")

    def __init__(
        self, keys: Iterable[str], layer: str = "", *, early: bool = False, late: bool = False
    ) -> None:
        #: State of each item that has no outcome yet, in the order in which they run.
        self.items: dict[str, ItemState] = dict.fromkeys(keys, ItemState.QUEUED)
        #: The layer of its first item, which is that of all in most suites.
        self.layer = layer
        #: Whether it has an item that may not come after late ones, or a late one.
        self.early, self.late = early, late
        #: The worker that has it.
        self.holder: Worker | None = None
        #: Whether the holder has begun any of its items; such a unit is never taken away.
        self.begun = False


class Recalled:
    """A Recall that has not been answered: its units are in limbo, and belong to their holder."""

    __slots__ = ("thief", "units")

    def __init__(self, thief: Worker, units: list[Unit]) -> None:
        #: Who will get what comes back.
        self.thief = thief
        #: The units asked for, in order; those that have ended meanwhile have no items.
        self.units: dict[Unit, None] = dict.fromkeys(units)


class Worker:
    """One incarnation of a worker and what it holds."""

    __slots__ = (
        "flushed", "id", "late", "load", "recall", "refused", "running", "stands", "state",
        "units", "waits", "worked",
    )  # fmt: skip

    def __init__(self, worker_id: str) -> None:
        self.id = worker_id
        self.state = WorkerState.STARTING
        #: Units in the order in which it runs them; those in limbo are still among them.
        self.units: OrderedDict[Unit, None] = OrderedDict()
        #: Number of items in `units`, all without outcome.
        self.load = 0
        #: Items that it is known to run; pytest workers run one at a time.
        self.running: dict[str, None] = {}
        #: Whether its last Run allowed its last item to begin.
        self.flushed = False
        #: Whether it has ended an item, so that fixtures of wide scope may be set up there.
        self.worked = False
        #: The layer of the last unit that it was given; None before the first.
        self.stands: str | None = None
        #: Whether it was given a late unit.
        self.late = False
        #: The Recall that it has not answered.
        self.recall: Recalled | None = None
        #: The worker from which items are recalled for this one.
        self.waits: Worker | None = None
        #: Whether it gave nothing back last time, and has begun or ended no item since.
        self.refused = False

    def pinned_units(self, pinned: int) -> int:
        """Return how many of its first units hold its first `pinned` items."""
        items = 0
        for count, unit in enumerate(self.units):
            if items >= pinned:
                return count
            items += len(unit.items)
        return len(self.units)

    def may_take(self, unit: Unit) -> bool:
        """Tell whether a unit of another worker may come after all that it was given."""
        return not (self.late and unit.early)

    def movable(self, pinned: int) -> Iterator[Unit]:
        """Yield units that may be asked back, the last first: not begun, pinned or in limbo."""
        rest = len(self.units) - self.pinned_units(pinned)
        for unit in reversed(self.units):
            if rest <= 0 or unit.begun:
                return
            rest -= 1
            if self.recall is None or unit not in self.recall.units:
                yield unit


class Ledger:
    """All items and workers of a run.

    A forgetful ledger, for runs without an end, only counts the items that have their outcome.
    """

    def __init__(self, mode: DistMode, story: Story, *, forgetful: bool = False) -> None:
        self._mode = mode
        self._story = story
        self._forgetful = forgetful
        #: How many items were ever added.
        self.added = 0
        #: The unit of each item without outcome, in the order in which they were added.
        self.unit_of: dict[str, Unit] = {}
        #: How many items ended in each final state.
        self.ended: Counter[ItemState] = Counter()
        #: Keys of the items that ended, unless they are forgotten.
        self._ended_keys: set[str] = set()
        #: Units that no worker has; what a dead worker held is at the front of its lane.
        self.queue = Lanes()
        #: Every worker ever announced, in that order.
        self.workers: dict[str, Worker] = {}
        #: How many of them are in each state.
        self._tally: Counter[WorkerState] = Counter()
        #: Messages that came too late or twice, by kind; they changed nothing.
        self.oddities: Counter[str] = Counter()

    # ------------------------------------------------------------------ questions

    def worker(self, worker_id: str) -> Worker:
        """Return a worker by its id; an unknown one is an error."""
        if (worker := self.workers.get(worker_id)) is None:
            self.fail(f"worker {worker_id!r} was never announced by WorkerLaunched")
        return worker

    def count(self, states: frozenset[WorkerState]) -> int:
        """Return how many workers are in one of these states."""
        return sum(self._tally[state] for state in states)

    def standing(self) -> Counter[str]:
        """Return how many of the workers that take items stand on each layer."""
        return Counter(
            worker.stands
            for worker in self.workers.values()
            if worker.stands is not None and worker.state is WorkerState.READY
        )

    def unrun(self) -> tuple[str, ...]:
        """Return the keys without outcome, in the order in which they were added."""
        return tuple(self.unit_of)

    def knows(self, key: str) -> bool:
        """Tell whether an item was added; one that a forgetful ledger may have had counts too."""
        return key in self.unit_of or key in self._ended_keys or self._forgetful

    # ------------------------------------------------------------------ moves

    def add(self, items: Iterable[Item]) -> None:
        """Put new items at the end of the queue, grouped into units.

        A unit stands where its first item stood.
        """
        shared: dict[str, Unit] = {}
        for item in items:
            if item.key in self.unit_of or item.key in self._ended_keys:
                self.fail(f"item {item.key!r} was added twice: its key must be unique in the run")
            affinity = affinity_of(item, self._mode)
            unit = None if affinity is None else shared.get(affinity)
            if unit is None:
                unit = Unit((), item.layer)
                self.queue.append(unit)
                if affinity is not None:
                    shared[affinity] = unit
            unit.items[item.key] = ItemState.QUEUED
            unit.early = unit.early or item.turn is Turn.EARLY
            unit.late = unit.late or item.turn is Turn.LATE
            self.unit_of[item.key] = unit
            self.added += 1

    def launch(self, worker_id: str) -> Worker:
        """Enter a new worker."""
        if worker_id in self.workers:
            self.fail(f"worker {worker_id!r} was announced twice: a replacement needs a new id")
        worker = self.workers[worker_id] = Worker(worker_id)
        self._tally[worker.state] += 1
        self._story.note(f"worker {worker_id}: {worker.state}")
        return worker

    def move_worker(self, worker: Worker, state: WorkerState) -> None:
        """Take a worker to another state."""
        if state not in WORKER_MOVES[worker.state]:
            self.fail(f"worker {worker.id!r} can't go from {worker.state} to {state}")
        self._story.note(f"worker {worker.id}: {worker.state} -> {state}")
        self._tally[worker.state] -= 1
        self._tally[state] += 1
        worker.state = state

    def assign(self, worker: Worker, units: Sequence[Unit]) -> tuple[str, ...]:
        """Give units that nobody has to a worker; return their items in order."""
        keys: list[str] = []
        for unit in units:
            unit.holder = worker
            worker.units[unit] = None
            for key in unit.items:
                self._move(unit, key, ItemState.SENT)
                keys.append(key)
            worker.stands = unit.layer
            worker.late = worker.late or unit.late
        worker.load += len(keys)
        return tuple(keys)

    def start(self, worker: Worker, key: str) -> None:
        """Note that a worker runs an item."""
        unit = self.unit_of[key]
        self._move(unit, key, ItemState.RUNNING)
        unit.begun = True
        worker.running[key] = None

    def close(self, worker: Worker, key: str, outcome: ItemState) -> None:
        """Give an item of a worker its one outcome."""
        unit = self.unit_of.pop(key)
        self._move(unit, key, outcome)
        self.ended[outcome] += 1
        if not self._forgetful:
            self._ended_keys.add(key)
        del unit.items[key]
        unit.begun = True
        worker.running.pop(key, None)
        worker.load -= 1
        worker.worked = True
        if not unit.items:
            del worker.units[unit]

    def again(self, worker: Worker, key: str) -> bool:
        """Have an item that a worker has ended run once more, behind all others that wait.

        Returns whether that is for this worker: it stays with the rest of its unit.
        """
        unit = self.unit_of[key]
        worker.running.pop(key, None)
        worker.worked = True
        stays = len(unit.items) > 1 and worker.state is WorkerState.READY
        self._move(unit, key, ItemState.QUEUED)
        if stays:
            del unit.items[key]
            unit.items[key] = ItemState.QUEUED
            self._move(unit, key, ItemState.SENT)
        elif len(unit.items) > 1:
            self.queue.append(self._split(worker, unit, [key], queued=True))
        else:
            self._free(worker, unit, queued=True)
            self.queue.append(unit)
        return stays

    def recall(self, victim: Worker, thief: Worker, units: list[Unit]) -> tuple[str, ...]:
        """Put units of a worker into limbo on behalf of another; return their items in order."""
        victim.recall = Recalled(thief, units)
        thief.waits = victim
        keys = [key for unit in units for key in unit.items]
        for key in keys:
            self._move(self.unit_of[key], key, ItemState.RECALLED)
        return tuple(keys)

    def answer(self, victim: Worker, returned: frozenset[str]) -> tuple[list[Unit], list[str]]:
        """Take the answer to a Recall.

        Returns the units that are nobody's now, and the items that came back without the rest of
        their unit: those stay with the worker and must be handed to it again.
        """
        free: list[Unit] = []
        back: list[str] = []
        for unit in self._end_recall(victim):
            if not unit.begun and unit.items.keys() <= returned:
                self._free(victim, unit)
                free.append(unit)
                continue
            for key, state in unit.items.items():
                if state is ItemState.RECALLED:
                    self._move(unit, key, ItemState.SENT)
                    if key in returned:
                        back.append(key)
        return free, back

    def cancel_recall(self, worker: Worker) -> None:
        """Expect no answer to a Recall any more, if there was one; its items stay in place."""
        if worker.recall is not None:
            for unit in self._end_recall(worker):
                for key, state in unit.items.items():
                    if state is ItemState.RECALLED:
                        self._move(unit, key, ItemState.SENT)

    def release(self, worker: Worker, keys: Iterable[str]) -> None:
        """Put items that a worker has forgotten at the front of the queue.

        What it has begun of their units stays with it; no Recall may be open.
        """
        forgotten = set(keys)
        freed: list[Unit] = []
        for unit in list(worker.units):
            leaving = [key for key in unit.items if key in forgotten]
            if len(leaving) == len(unit.items):
                self._free(worker, unit)
                freed.append(unit)
            elif leaving:
                freed.append(self._split(worker, unit, leaving))
        self.queue.put_back(freed)

    def requeue(self, worker: Worker) -> None:
        """Put all that a worker holds at the front of the queue, in order."""
        self.cancel_recall(worker)
        worker.waits = None
        worker.running.clear()
        units = list(worker.units)
        for unit in units:
            self._free(worker, unit)
        self.queue.put_back(units)

    def _end_recall(self, victim: Worker) -> list[Unit]:
        if victim.recall is None:
            self.fail(f"worker {victim.id!r} returned items, but none were recalled from it")
        units, thief = victim.recall.units, victim.recall.thief
        victim.recall = None
        if thief.waits is victim:
            thief.waits = None
        return [unit for unit in units if unit.items]

    def _split(
        self, worker: Worker, unit: Unit, leaving: list[str], *, queued: bool = False
    ) -> Unit:
        rest = Unit(leaving, unit.layer, early=unit.early, late=unit.late)
        for key in leaving:
            if not queued:
                self._move(unit, key, ItemState.QUEUED)
            del unit.items[key]
            self.unit_of[key] = rest
        worker.load -= len(leaving)
        return rest

    def _free(self, worker: Worker, unit: Unit, *, queued: bool = False) -> None:
        for key in unit.items:
            if not queued:
                self._move(unit, key, ItemState.QUEUED)
        del worker.units[unit]
        worker.load -= len(unit.items)
        unit.holder = None
        unit.begun = False

    def _move(self, unit: Unit, key: str, state: ItemState) -> None:
        before = unit.items[key]
        if state not in ITEM_MOVES[before]:
            self.fail(f"item {key!r} can't go from {before} to {state}")
        unit.items[key] = state

    # ------------------------------------------------------------------ oddities and checks

    def odd(self, what: str) -> None:
        """Count a message that is late or came twice, and changes nothing."""
        self.oddities[what] += 1
        self._story.note(f"ignored: {what}")

    def fail(self, what: str) -> NoReturn:
        """Raise DispatchError with the story so far."""
        raise DispatchError(what, tuple(self._story.lines()))

    def check(self) -> None:
        """Raise DispatchError unless each item is in exactly one place, in a state that fits it.

        Costs O(items): for tests.
        """
        places: Counter[str] = Counter()
        for unit in self.queue:
            places.update(unit.items.keys())
            self._require(unit.holder is None and not unit.begun, "a queued unit has a holder")
            self._require(set(unit.items.values()) == {ItemState.QUEUED}, "a queued item's state")
        for worker in self.workers.values():
            for unit in worker.units:
                places.update(unit.items.keys())
                self._check_held(worker, unit)
            self._check_worker(worker)
        once = Counter(self.unit_of.keys())
        self._require(places == once, "an item is in no place, or in several")
        self._require(self._ended_keys.isdisjoint(self.unit_of), "an item with outcome is open")
        self._require(len(self.unit_of) + self.ended.total() == self.added, "counts differ")
        self._require(self.ended.keys() <= FINAL, "an outcome is not final")
        for key, unit in self.unit_of.items():
            self._require(key in unit.items, f"the unit of {key!r} does not have it")

    def _check_held(self, worker: Worker, unit: Unit) -> None:
        self._require(unit.holder is worker, f"a unit of {worker.id!r} has another holder")
        self._require(bool(unit.items), f"a unit of {worker.id!r} is empty")
        limbo = worker.recall is not None and unit in worker.recall.units
        for key, state in unit.items.items():
            allowed = {ItemState.SENT, ItemState.RUNNING} | (
                {ItemState.RECALLED} if limbo else set()
            )
            self._require(state in allowed, f"item {key!r} is held by {worker.id!r} but {state}")
            running = state is ItemState.RUNNING
            self._require(running == (key in worker.running), f"whether {key!r} runs")
            self._require(unit.begun or not running, f"the unit of {key!r} has begun")

    def _check_worker(self, worker: Worker) -> None:
        held = sum(len(unit.items) for unit in worker.units)
        self._require(worker.load == held, f"the load of {worker.id!r} is not {held}")
        if worker.state not in LIVE:
            self._require(not worker.units and not worker.running, f"{worker.id!r} is gone")
            self._require(worker.recall is None and worker.waits is None, f"{worker.id!r} is gone")
        if (recall := worker.recall) is not None and recall.thief.state in LIVE:
            self._require(recall.thief.waits is worker, f"the thief of {worker.id!r} knows it not")
        if (victim := worker.waits) is not None:
            known = victim.recall is not None and victim.recall.thief is worker
            self._require(known, f"{worker.id!r} waits for nothing")

    def _require(self, holds: bool, what: str) -> None:
        if not holds:
            self.fail(f"the dispatcher's ledger is inconsistent: {what}")
