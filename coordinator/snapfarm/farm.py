"""A farm: the hub's facts go into the dispatcher, its actions go out, the owner hears of both.

The owner (a pytest session, a pool) only says how a worker is started and what to do with what
comes back; everything about order, death and time limits is decided here and in the dispatcher.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, assert_never

from snapfarm import dispatch
from snapfarm.dispatch import Dispatcher
from snapfarm.errors import LaunchError
from snapfarm.happenings import (
    Arrived,
    Died,
    HubEvent,
    KillReason,
    Oddity,
    Overran,
    Printed,
    Silent,
)
from snapfarm.hub import Hub
from snapfarm.owner import Owner
from snapfarm.timekeeper import Limits, Timekeeper
from snapfarm_worker import wire
from snapfarm_worker.blackbox import RUNNING, Record, abridged

if TYPE_CHECKING:
    import zmq

    from snapfarm_worker.wire import FromWorker


class FailureReruns(Protocol):
    """Who decides which failed items run again, and hears of these failures."""

    def wanted(self, key: str) -> bool:
        """Return whether an item that has just failed runs again."""

    def failed_once(self, worker: str, message: wire.ItemFinished) -> None:
        """Take a failure that is not the item's outcome."""


class Farm:
    """Runs a dispatcher's decisions on a hub until all is done."""

    def __init__(
        self,
        hub: Hub,
        dispatcher: Dispatcher,
        owner: Owner,
        limits: Limits,
        *,
        compares: bool = True,
        reruns: Callable[[str, Died, float], bool] | None = None,
        failures: FailureReruns | None = None,
        woke: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """With `compares`, the end waits for the first workers to have collected.

        `reruns` is asked whether an item shall run again, with how its worker died and how long
        the item had run, before that is reported to the owner. `failures` is asked the same of an
        item that has failed; None where failures never run again. `woke` is called when a step
        has waited, before the owner hears of anything.
        """
        self._woke = woke
        self._failures = failures
        self._compares = compares
        self._reruns = reruns
        self._hub = hub
        self._dispatcher = dispatcher
        self._owner = owner
        self._item_limit = limits.item
        self._time = Timekeeper(
            hub, limits, clock, key_of=self._running_item, noticed=owner.noticed
        )
        self._clock = clock
        self._launched = 0
        #: How many databases each has restored.
        self._restored: Counter[str] = Counter()
        #: Workers whose session has ended; their process must follow.
        self._ended: set[str] = set()
        self._stopping = False
        #: Workers that take orders about items.
        self._takes_orders: set[str] = set()
        #: Keys that any worker has collected, by what a black box holds of them.
        self._known: dict[str, str] = {}
        #: Workers of the start, as opposed to replacements.
        self._first: set[str] = set()
        #: First workers for which the end came before their collection.
        self._end_when_collected: set[str] = set()
        #: Steps of items that ended after they had been condemned, by worker and key.
        self._overran: dict[tuple[str, str], list[Overran]] = {}
        self._deaths: dict[str, Died] = {}
        #: How long the items of the last death had run.
        self._seconds: dict[str, float] = {}

    @property
    def done(self) -> bool:
        """Whether every item has its outcome, or never will, and no worker is left."""
        return self._dispatcher.done and not self._hub.workers

    @property
    def unrun(self) -> tuple[str, ...]:
        """Keys of items without an outcome."""
        return self._dispatcher.unrun

    @property
    def stopping(self) -> bool:
        """Whether the farm was told to stop."""
        return self._stopping

    def add(self, keys: Sequence[str]) -> None:
        """Add items that no worker has collected."""
        self._decide(dispatch.ItemsAdded(tuple(map(dispatch.Item, keys))))

    def finish(self) -> None:
        """Let the workers end once all is done; nothing is added any more."""
        self._decide(dispatch.Closed())

    def skip(self, worker: str, key: str) -> None:
        """Take an item that was handed to a worker, and never sent there, as done."""
        self._decide(dispatch.ItemFinished(worker, key))

    def start(self, workers: int) -> None:
        """Start the first workers. Raises LaunchError."""
        for _ in range(workers):
            self._first.add(self._launch())

    def stop(self, reason: str) -> None:
        """Begin nothing more; what runs may end within the stop limit. Later calls do nothing."""
        if not self._stopping:
            self._stopping = True
            self._time.stop()
            for worker in self._end_when_collected - self._takes_orders:
                self._hub.kill(worker, KillReason.ENDING)
            self._decide(dispatch.StopRequested(reason))

    def abort(self, again: Callable[[], bool]) -> None:
        """End the workers as Ctrl-C ends pytest: what runs is interrupted, fixtures torn down.

        Results that are on their way are taken. `again` is asked after each step: the first time
        that it holds, workers are killed; the second time, KeyboardInterrupt is raised.
        """
        self._stopping = False
        self.stop("interrupted")
        for worker in self._hub.workers:
            self._hub.interrupt(worker)
        killed = False
        while self._hub.workers:
            self.step(0.1)
            if again():
                if killed:
                    raise KeyboardInterrupt
                killed = True
                self.kill("interrupted again")

    def kill(self, reason: str) -> None:
        """Stop, and end all workers in the next step, whatever they run."""
        self.stop(reason)
        self._time.stop(at_once=True)

    def step(self, timeout: float = 0.5) -> None:
        """Wait for something to happen, and handle it."""
        self._time.begin_starts()
        events = self._hub.poll(timeout)
        if self._woke is not None:
            self._woke()
        for event in events:
            self._handle(event)
        self._time.enforce(self._takes_orders)

    # ------------------------------------------------------------ facts

    def _handle(self, event: HubEvent) -> None:
        match event:
            case Arrived(worker=worker, message=message, payload=payload):
                self._arrived(worker, message, payload)
            case Printed(worker=worker, lines=lines):
                self._owner.printed(worker, lines)
            case Silent(worker=worker, seconds=seconds):
                keys = ", ".join(self._time.running(worker))
                doing = f" while it runs {keys}" if keys else ""
                self._owner.noticed(
                    worker,
                    f"no sign of life for {seconds:.0f} s{doing}; its process lives, so it may be "
                    "in code that lets no other thread run",
                )
            case Oddity(worker=worker, what=what):
                self._owner.noticed(worker, what)
            case Overran(worker=worker, key=key):
                self._overran.setdefault((worker, key), []).append(event)
            case Died():
                self._died(event)
            case _:
                assert_never(event)

    def _arrived(self, worker: str, message: FromWorker, payload: Sequence[zmq.Frame]) -> None:
        match message:
            case wire.Hello() if not self._hub.databases:
                self._time.ready(worker)
            case wire.SnapshotRestored():
                self._restored[worker] += 1
                if self._restored[worker] >= self._hub.databases:
                    self._time.ready(worker)
            case _:
                pass
        match message:
            case wire.Collected(items=items):
                self._takes_orders.add(worker)
                self._time.collected(worker)
                self._owner.arrived(worker, message, payload)
                self._known.update((abridged(item.key), item.key) for item in items)
                collected = tuple(
                    dispatch.Item(item.key, item.group, item.layer, item.turn) for item in items
                )
                self._decide(dispatch.WorkerCollected(worker, collected))
                if worker in self._end_when_collected:
                    self._hub.send(worker, wire.EndSession(drop=True))
            case wire.Ready():
                self._takes_orders.add(worker)
                self._owner.arrived(worker, message, payload)
                self._decide(dispatch.WorkerReady(worker))
            case wire.ItemStarted(key=key):
                self._item_started(worker, message)
            case wire.ItemFinished(key=key, then=then):
                failures = self._failures
                if failures is not None and self._runs_again(worker, message, failures):
                    self._decide(dispatch.ItemFinished(worker, key, again=True))
                    failures.failed_once(worker, message)
                else:
                    self._item_finished(worker, key, message, message.seconds, payload)
                if then is not None:
                    self._item_started(worker, then)
            case wire.TaskFinished(key=key, seconds=seconds):
                self._item_finished(worker, key, message, seconds, payload)
            case wire.ItemsReturned(keys=keys):
                self._decide(dispatch.ItemsReturned(worker, keys))
            case wire.Stopping(reason=reason, unrun=unrun):
                # First of all, or what it has dropped would be handed to others.
                self.stop(reason)
                self._decide(dispatch.WorkerStopping(worker, reason, unrun))
                self._owner.arrived(worker, message, payload)
            case wire.SessionEnded(reason=reason):
                self._ended.add(worker)
                self._time.session_ended(worker)
                self._owner.arrived(worker, message, payload)
                if reason:
                    # Now, or others would be given what it had not finished.
                    self.stop(reason)
            case _:
                self._owner.arrived(worker, message, payload)

    def _item_started(self, worker: str, message: wire.ItemStarted) -> None:
        self._time.runs(worker, message.key)
        self._owner.arrived(worker, message, ())
        self._decide(dispatch.ItemStarted(worker, message.key))

    def _runs_again(self, worker: str, message: wire.ItemFinished, failures: FailureReruns) -> bool:
        """Return whether an item that has failed, in its time, is to run again."""
        key = message.key
        late = 0 < self._item_limit <= message.seconds
        if not message.failed or late or self._dispatcher.stop_reason is not None:
            return False
        if not self._dispatcher.awaits(worker, key) or not failures.wanted(key):
            return False
        self._time.runs_no_more(worker, key)
        self._overran.pop((worker, key), None)
        self._hub.spare(worker, key)
        return True

    def _item_finished(
        self,
        worker: str,
        key: str,
        message: FromWorker,
        seconds: float,
        payload: Sequence[zmq.Frame],
    ) -> None:
        self._time.runs_no_more(worker, key)
        late = self._overran.pop((worker, key), [])
        if (last := self._hub.spare(worker, key)) is not None:
            late.append(last)
        counts = self._dispatcher.awaits(worker, key)
        self._decide(dispatch.ItemFinished(worker, key))
        if not counts:
            return
        # The worker's own clock has the last word: our look at an item's start may have been early.
        if late and seconds >= self._item_limit:
            self._owner.overran(worker, message, payload, late)
        else:
            self._owner.arrived(worker, message, payload)

    def _died(self, died: Died) -> None:
        worker = died.worker
        ended = worker in self._ended
        orderly = ended or died.killed is KillReason.ENDING
        self._takes_orders.discard(worker)
        # A test that ends its whole session, by pytest.exit() say, has not killed its worker.
        running = () if ended else self._running_items(died)
        known = self._time.gone(worker)
        self._overran = {of: late for of, late in self._overran.items() if of[0] != worker}
        self._deaths[worker] = died
        self._owner.down(worker, died, orderly=orderly)
        if orderly and not running:
            self._decide(dispatch.WorkerEnded(worker))
        else:
            now = self._clock()
            self._seconds = {key: now - known[key].since if key in known else 0 for key in running}
            phase = died.record.phase.name.lower()
            again = self._to_rerun(running, died)
            self._decide(dispatch.WorkerLost(worker, running, phase=phase, again=again))

    def _to_rerun(self, keys: tuple[str, ...], died: Died) -> tuple[str, ...]:
        """Return which items that have killed their worker shall run again."""
        if self._reruns is None or self._dispatcher.stop_reason is not None:
            return ()
        return tuple(key for key in keys if self._reruns(key, died, self._seconds[key]))

    def _running_items(self, died: Died) -> tuple[str, ...]:
        """Return the keys of the items that a worker ran when it died."""
        found = (self._running_item(died.worker, record) for record in died.records)
        running = dict.fromkeys(key for key in found if key is not None)
        if died.condemned:
            # What one lane runs instead has begun in the last moment: it is innocent, and runs
            # again. What other lanes run dies with it.
            late = [key for key in died.condemned if self._dispatcher.awaits(died.worker, key)]
            return tuple(dict.fromkeys((*late, *(running if died.others else ()))))
        return tuple(running)

    def _running_item(self, worker: str, record: Record) -> str | None:
        """Return the key of the item that a record of a worker says it runs."""
        if record.phase not in RUNNING:
            return None
        key = self._known.get(record.subject, record.subject)
        return key if self._dispatcher.awaits(worker, key) else None

    # ------------------------------------------------------------ decisions

    def _decide(self, event: dispatch.Event) -> None:
        for action in self._dispatcher.handle(event, self._clock()):
            self._act(action)

    def _act(self, action: dispatch.Action) -> None:
        match action:
            case dispatch.Run(worker=worker, keys=keys, flush=flush):
                if (order := self._owner.order(worker, keys, flush)) is not None:
                    self._hub.send(worker, *order)
            case dispatch.Recall(worker=worker, keys=keys):
                self._hub.send(worker, wire.RecallItems(0, keys))
            case dispatch.End(worker=worker) if worker not in self._takes_orders:
                if self._compares and worker in self._first and not self.stopping:
                    # The others were quicker than its collection; that must still be compared.
                    self._end_when_collected.add(worker)
                    self._time.waits_for_collection(worker)
                else:
                    # It has run nothing, so there is nothing to tear down, and it would not
                    # listen before it has imported and collected everything.
                    self._hub.kill(worker, KillReason.ENDING)
            case dispatch.End(worker=worker, drop=drop):
                self._hub.send(worker, wire.EndSession(drop))
            case dispatch.Launch():
                self._launch()
            case dispatch.ReportCrash(worker=worker, key=key):
                self._owner.crashed(key, self._deaths[worker], self._seconds.get(key, 0.0))
            case dispatch.CollectionsDiffer():
                self._owner.differ(action)
            case dispatch.GiveUp(reason=reason, unrun=unrun):
                self._owner.gave_up(reason, unrun)
            case dispatch.Finished():
                pass
            case _:
                assert_never(action)

    def _launch(self) -> str:
        worker = f"gw{self._launched}"
        self._launched += 1
        self._time.launched(worker)
        self._decide(dispatch.WorkerLaunched(worker))
        try:
            self._hub.launch(self._owner.specify(worker))
        except LaunchError as error:
            self._time.gone(worker)
            self._owner.not_started(worker, error)
            self._decide(dispatch.WorkerLost(worker, phase="launch"))
        return worker
