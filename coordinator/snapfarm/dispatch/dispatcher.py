"""The dispatcher: decides which worker runs what, and what to do when one dies. Nothing else.

It has no socket, clock, thread or random source: `handle(event, now)` returns what to do, and the
same events always give the same actions.

Its parts: the ledger knows where every item is (`ledger.py`), the hand-out decides which worker
gets which (`handout.py`), the staff decides on replacements (`staff.py`), and who collects what is
`collected.py`. This module turns each event into moves of the ledger.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping
from typing import Final, assert_never

from snapfarm.dispatch.affinity import DistMode
from snapfarm.dispatch.collected import Accepted, Collections, EqualCollections
from snapfarm.dispatch.handout import LOW_WATER, MOST, PINNED, HandOut, Outbox
from snapfarm.dispatch.ledger import Ledger, Worker
from snapfarm.dispatch.model import (
    ENDING,
    LIVE,
    USABLE,
    Action,
    Closed,
    CollectionsDiffer,
    End,
    Event,
    Finished,
    GiveUp,
    ItemFinished,
    ItemsAdded,
    ItemsReturned,
    ItemStarted,
    ItemState,
    Launch,
    ReportCrash,
    StopRequested,
    WorkerCollected,
    WorkerEnded,
    WorkerLaunched,
    WorkerLost,
    WorkerReady,
    WorkerState,
    WorkerStopping,
    WorkerView,
)
from snapfarm.dispatch.staff import Staff
from snapfarm.dispatch.story import Story


class RunState(enum.StrEnum):
    """How far the run is; it only ever moves on."""

    OPEN = "open"
    CLOSED = "closed"
    ENDING = "ending"
    OVER = "over"


#: States in which items are still handed out.
HANDING_OUT: Final = frozenset({RunState.OPEN, RunState.CLOSED})


class Dispatcher:
    """Schedules items over workers.

    `workers` is how many the shell starts. `max_worker_restart` limits the replacements (None: 4
    for each worker). The first `pinned` items of a worker are never asked back: 2 where items need
    to know their successor, as many as there are threads where they don't. A worker is given at
    most `most` items in one go. With `forgetful`, items that have their outcome take no memory.
    """

    def __init__(
        self,
        workers: int,
        mode: DistMode = DistMode.LOAD,
        *,
        max_worker_restart: int | None = None,
        collections: Collections | None = None,
        low_water: int = LOW_WATER,
        pinned: int = PINNED,
        most: int = MOST,
        forgetful: bool = False,
    ) -> None:
        self._story = Story()
        self._ledger = Ledger(mode, self._story, forgetful=forgetful)
        self._collections = EqualCollections() if collections is None else collections
        self._staff = Staff(self._ledger, workers, max_worker_restart)
        self._outbox = Outbox()
        self._handout = HandOut(self._ledger, self._staff, self._outbox, low_water, pinned, most)
        self._state = RunState.OPEN
        #: Items that ran last when a session ended and its worker was lost.
        self._suspects: set[str] = set()
        #: Why the run was told to stop; None while it was not.
        self._stop_reason: str | None = None

    # ------------------------------------------------------------------ what readers may know

    @property
    def total(self) -> int:
        """Number of items of the run that are known so far."""
        return self._ledger.added

    @property
    def pending(self) -> int:
        """Number of items that have no outcome yet."""
        return len(self._ledger.unit_of)

    @property
    def outcomes(self) -> Mapping[ItemState, int]:
        """How many items finished, and how many crashed."""
        return Counter(self._ledger.ended)

    @property
    def unrun(self) -> tuple[str, ...]:
        """Keys of the items that have no outcome, in order."""
        return self._ledger.unrun()

    @property
    def workers(self) -> Mapping[str, WorkerView]:
        """Every worker ever announced, by id."""
        return {
            worker.id: WorkerView(worker.state, worker.load, tuple(worker.running))
            for worker in self._ledger.workers.values()
        }

    @property
    def closed(self) -> bool:
        """Whether no items can be added any more."""
        return self._state is not RunState.OPEN

    @property
    def done(self) -> bool:
        """Whether Finished or GiveUp was returned; nothing is asked of the shell any more."""
        return self._state is RunState.OVER

    @property
    def stop_reason(self) -> str | None:
        """Why the run was told to stop, None if it was not."""
        return self._stop_reason

    @property
    def oddities(self) -> Mapping[str, int]:
        """Messages that came late or twice and were ignored, counted by kind."""
        return self._ledger.oddities

    def awaits(self, worker: str, key: str) -> bool:
        """Return whether an ItemFinished with this worker and key would count.

        Ask before handling it: results of other messages are to be thrown away.
        """
        unit = self._ledger.unit_of.get(key)
        return unit is not None and unit.holder is not None and unit.holder.id == worker

    def story(self) -> str:
        """Return the last events with what followed from them, one a line."""
        return "\n".join(self._story.lines())

    def check(self) -> None:
        """Raise DispatchError unless all that must hold between two events holds. For tests."""
        self._ledger.check()
        self._staff.check()
        if self._state in HANDING_OUT:
            self._handout.check()
        elif self._ledger.count(USABLE):
            self._ledger.fail("a worker was not told that the run ends")

    # ------------------------------------------------------------------ events

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take an event and return what to do, in that order. `now` is in seconds.

        Raises DispatchError on what can't be: unknown workers, unknown items, impossible moves.
        """
        actions = self._story.begin(event, now).actions
        self._outbox.begin(actions)
        match event:
            case WorkerLaunched(worker=worker):
                self._launched(worker)
            case WorkerCollected(worker=worker):
                self._collected(event, self._ledger.worker(worker))
            case WorkerReady(worker=worker):
                self._ready_now(self._ledger.worker(worker), event)
            case ItemStarted(worker=worker, key=key):
                self._item_started(self._ledger.worker(worker), key)
            case ItemFinished(worker=worker, key=key, again=again):
                self._item_finished(self._ledger.worker(worker), key, again)
            case ItemsReturned(worker=worker, keys=keys):
                self._items_returned(self._ledger.worker(worker), keys)
            case WorkerStopping(worker=worker, unrun=unrun):
                self._stopping(self._ledger.worker(worker), unrun)
            case WorkerEnded(worker=worker):
                self._gone(self._ledger.worker(worker), event, WorkerState.ENDED)
            case WorkerLost(worker=worker):
                self._gone(self._ledger.worker(worker), event, WorkerState.LOST)
            case ItemsAdded(items=items):
                if self._state is not RunState.OPEN:
                    self._ledger.fail(f"items were added to a run that is {self._state}")
                self._ledger.add(items)
                self._feed_all()
            case Closed():
                self._close()
            case StopRequested(reason=reason):
                self._halt(reason)
            case _:
                assert_never(event)
        self._settle()
        return list(actions)

    def _launched(self, worker_id: str) -> None:
        worker = self._ledger.launch(worker_id)
        self._staff.announced()
        if self._state not in HANDING_OUT:
            self._end(worker, drop=self._stop_reason is not None)

    def _collected(self, event: WorkerCollected, worker: Worker) -> None:
        if worker.state not in LIVE:
            self._odd(event)
            return
        if worker.state is WorkerState.READY:
            self._ledger.fail(f"worker {worker.id!r} collected twice")
        if self._stop_reason is not None or self.done:
            return
        verdict = self._collections.add(worker.id, event.items)
        match verdict:
            case Accepted(new=new, complete=complete):
                if self._state is RunState.OPEN:
                    self._ledger.add(new)
                    if complete:
                        self._close()
                self._ready_now(worker, event)
            case CollectionsDiffer():
                self._outbox.put(verdict)
                self._halt("the collections of two workers differ")
            case _:
                assert_never(verdict)

    def _ready_now(self, worker: Worker, event: WorkerCollected | WorkerReady) -> None:
        if worker.state not in LIVE:
            self._odd(event)
        elif worker.state is not WorkerState.ENDING:
            self._ledger.move_worker(worker, WorkerState.READY)
            self._staff.became_ready()
            self._feed_all()

    def _item_started(self, worker: Worker, key: str) -> None:
        if self._counts(worker, key, "ItemStarted"):
            if key in worker.running:
                self._ledger.odd(f"second ItemStarted from {worker.state} worker")
                return
            self._ledger.start(worker, key)
            self._progressed(worker)

    def _item_finished(self, worker: Worker, key: str, again: bool) -> None:
        if not self._counts(worker, key, "ItemFinished"):
            return
        if not again or self._stop_reason is not None:
            self._ledger.close(worker, key, ItemState.FINISHED)
            self._progressed(worker)
        elif self._ledger.again(worker, key):
            self._outbox.run(worker, (key,))
            self._progressed(worker)
        else:
            self._feed_all()

    def _counts(self, worker: Worker, key: str, what: str) -> bool:
        """Tell whether a message on an item means anything; what is late or doubled doesn't."""
        self._require_known(key)
        unit = self._ledger.unit_of.get(key)
        if unit is not None and unit.holder is worker:
            return True
        if unit is None or worker.state is not WorkerState.READY:
            self._ledger.odd(f"late {what} from {worker.state} worker")
            return False
        place = "is in the queue" if unit.holder is None else f"is held by {unit.holder.id!r}"
        return self._ledger.fail(f"{what}: worker {worker.id!r} does not hold {key!r}: it {place}")

    def _progressed(self, worker: Worker) -> None:
        if worker.refused:
            worker.refused = False
            self._feed_all()
        elif self._state in HANDING_OUT:
            self._handout.feed(worker)

    def _feed_all(self) -> None:
        if self._state in HANDING_OUT:
            self._handout.feed_all()

    def _items_returned(self, worker: Worker, keys: tuple[str, ...]) -> None:
        ledger = self._ledger
        for key in keys:
            self._require_known(key)
        if worker.state not in LIVE:
            ledger.odd(f"late ItemsReturned from {worker.state} worker")
            return
        recall = worker.recall
        if recall is None and worker.state is WorkerState.ENDING:
            ledger.release(worker, keys)
            self._feed_all()
            return
        for key in keys:
            unit = ledger.unit_of.get(key)
            if unit is None or key in worker.running:
                ledger.odd("item returned that had begun")
            elif recall is not None and unit not in recall.units:
                ledger.fail(f"worker {worker.id!r} returned {key!r}, which was not recalled")
        free, back = ledger.answer(worker, frozenset(keys))
        worker.refused = not free
        if back and worker.state is WorkerState.READY:
            self._outbox.run(worker, tuple(back))
        if recall is not None and recall.thief.state is WorkerState.READY and free:
            self._handout.give(recall.thief, free)
        else:
            ledger.queue.put_back(free)
        self._feed_all()

    def _stopping(self, worker: Worker, unrun: tuple[str, ...]) -> None:
        for key in unrun:
            self._require_known(key)
        if worker.state not in LIVE:
            self._ledger.odd(f"late WorkerStopping from {worker.state} worker")
            return
        self._ledger.cancel_recall(worker)
        self._ledger.release(worker, unrun)
        if worker.state is not WorkerState.ENDING:
            self._end(worker, drop=True)
        self._feed_all()

    def _gone(self, worker: Worker, event: WorkerEnded | WorkerLost, state: WorkerState) -> None:
        if isinstance(event, WorkerLost):
            for key in (*event.finished, *event.running):
                self._require_known(key)
        if worker.state not in LIVE:
            self._odd(event)
            return
        if worker.state is WorkerState.STARTING:
            self._staff.died_starting()
        self._ledger.move_worker(worker, state)
        if isinstance(event, WorkerLost):
            for key in (*event.running, *self._relapsed(worker, event)):
                self._blame(worker, key, event)
        self._ledger.requeue(worker)
        self._feed_all()

    def _relapsed(self, worker: Worker, lost: WorkerLost) -> tuple[str, ...]:
        """Return the items with which a session ended, without a word why, for the second time.

        Once may be chance: the item may have finished, and its result be lost.
        """
        if lost.phase != ENDING:
            return ()
        last = [key for key in worker.running if key not in (*lost.running, *lost.finished)]
        relapsed = tuple(key for key in last if key in self._suspects)
        self._suspects.update(last)
        return relapsed

    def _blame(self, worker: Worker, key: str, lost: WorkerLost) -> None:
        """Give the item that ran when its worker died its outcome, unless the run is stopping."""
        if key in lost.finished or not self.awaits(worker.id, key):
            self._ledger.odd("running item of a lost worker had finished")
        elif self._stop_reason is None:
            again = key in lost.again
            if not again:
                self._ledger.close(worker, key, ItemState.CRASHED)
            self._outbox.put(ReportCrash(worker.id, key, again))

    # ------------------------------------------------------------------ the end

    def _close(self) -> None:
        if self._state is RunState.OPEN:
            self._state = RunState.CLOSED

    def _halt(self, reason: str) -> None:
        """Begin nothing any more."""
        if self._state is not RunState.OVER and self._stop_reason is None:
            self._stop_reason = reason
            self._end_all()

    def _end_all(self) -> None:
        self._state = RunState.ENDING
        for worker in self._ledger.workers.values():
            if worker.state in USABLE:
                self._end(worker, drop=self._stop_reason is not None)

    def _end(self, worker: Worker, *, drop: bool = False) -> None:
        self._ledger.move_worker(worker, WorkerState.ENDING)
        self._outbox.put(End(worker.id, drop))

    def _settle(self) -> None:
        """Draw the conclusions of an event: end, replace the dead, or give up."""
        if self._state is RunState.CLOSED and not self.pending:
            self._end_all()
        if self._state in HANDING_OUT:
            while self._staff.hire():
                self._outbox.put(Launch())
            if self._staff.lost_for_good():
                self._state = RunState.OVER
                self._outbox.put(GiveUp(self._staff.despair(), self.unrun))
        elif self._state is RunState.ENDING and not self._ledger.count(LIVE):
            self._state = RunState.OVER
            self._outbox.put(Finished())

    # ------------------------------------------------------------------ what can't be

    def _require_known(self, key: str) -> None:
        if not self._ledger.knows(key):
            self._ledger.fail(f"item {key!r} was never added to the run")

    def _odd(self, event: WorkerCollected | WorkerReady | WorkerEnded | WorkerLost) -> None:
        state = self._ledger.worker(event.worker).state
        self._ledger.odd(f"late {type(event).__name__} from {state} worker")
