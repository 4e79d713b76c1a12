"""The dispatcher's vocabulary: what happened (`Event`), what to do (`Action`), and the states.

A worker is named by the id of one incarnation ("gw0"): its replacement has another id. An item is
named by a key that is unique in the run (its node id). A pool's task is an item too.

    event              when                                              the worker then is
    WorkerLaunched     its process was started, or asked for             starting
    WorkerCollected    it has its databases and its list of items        ready
    WorkerReady        it has its databases and collects nothing         ready
    ItemStarted        it began an item                                  -
    ItemFinished       an item has its outcome                           -
    ItemsReturned      it answers Recall, always once                    -
    WorkerStopping     it wants no more items by its own decision        ending
    WorkerEnded        its session ended in order                        ended
    WorkerLost         it died, or gave no sign of life for too long     lost
    ItemsAdded         there is more to do (a pool)                      -
    Closed             nothing will be added any more (a pool)           -
    StopRequested      maxfail, Ctrl-C, …                                ending (all of them)

    action             what the shell does                               it will report
    Run                hand items to a worker, after those it has        ItemStarted, ItemFinished
    Recall             ask for items back that have not begun            ItemsReturned
    End                tell a worker that no more items will come        WorkerEnded
    Launch             start one replacement                             WorkerLaunched
    ReportCrash        report that an item killed its worker             -
    CollectionsDiffer  report two unequal collections                    -
    GiveUp             the last action: nobody is left for the rest      -
    Finished           the last action: every worker is gone, all done   -
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

import msgspec

from snapfarm_worker.turns import Turn


class Item(msgspec.Struct, frozen=True):
    """Something to run once. `group` is the name of its affinity group, "" without one.

    `layer` names what its databases stand on when it begins; "" is the golden state. `turn` tells
    whether it may come after others on the same worker.
    """

    key: str
    group: str = ""
    layer: str = ""
    turn: Turn = Turn.ANY


# ---------------------------------------------------------------------------- events


class WorkerLaunched(msgspec.Struct, frozen=True):
    """A worker process was started. Each Launch, and each worker of the start, is answered so."""

    worker: str


class WorkerCollected(msgspec.Struct, frozen=True):
    """A worker is ready to run these items; their order is the order of its collection."""

    worker: str
    items: tuple[Item, ...]


class WorkerReady(msgspec.Struct, frozen=True):
    """A worker that collects nothing is ready to run what it is given."""

    worker: str


class ItemStarted(msgspec.Struct, frozen=True):
    """A worker began an item."""

    worker: str
    key: str


class ItemFinished(msgspec.Struct, frozen=True):
    """A worker ended an item and its result has arrived, whatever the result is.

    `again`: that was not its outcome, it shall run once more.
    """

    worker: str
    key: str
    again: bool = False


class ItemsReturned(msgspec.Struct, frozen=True):
    """A worker's one answer to a Recall: the items that it has forgotten, none of them begun."""

    worker: str
    keys: tuple[str, ...]


class WorkerStopping(msgspec.Struct, frozen=True):
    """A worker begins no item any more by its own decision; it has forgotten those in `unrun`."""

    worker: str
    reason: str
    unrun: tuple[str, ...] = ()


class WorkerEnded(msgspec.Struct, frozen=True):
    """A worker's session ended in order; this is its last word."""

    worker: str


#: The phase of a lost worker whose session had ended.
ENDING = "ending"


class WorkerLost(msgspec.Struct, frozen=True):
    """A worker died. The facts come from a record that outlives it, not from its messages.

    `running` are the items that it was running, on as many threads; empty if it ran none or nobody
    can know. `finished` are items that it had ended; where their results never arrived they run
    again. `phase` says how far it was: in `ENDING` it had ended its session. `again` are those of
    `running` that shall run once more, because somebody reruns what fails.
    """

    worker: str
    running: tuple[str, ...] = ()
    finished: tuple[str, ...] = ()
    phase: str = ""
    again: tuple[str, ...] = ()


class ItemsAdded(msgspec.Struct, frozen=True):
    """There are more items to run, behind those already known."""

    items: tuple[Item, ...]


class Closed(msgspec.Struct, frozen=True):
    """No item will be added any more: the farm ends once all have their outcome."""


class StopRequested(msgspec.Struct, frozen=True):
    """The run shall end soon: what has not begun is not begun any more."""

    reason: str


Event: TypeAlias = (
    WorkerLaunched
    | WorkerCollected
    | WorkerReady
    | ItemStarted
    | ItemFinished
    | ItemsReturned
    | WorkerStopping
    | WorkerEnded
    | WorkerLost
    | ItemsAdded
    | Closed
    | StopRequested
)


# ---------------------------------------------------------------------------- actions


class Run(msgspec.Struct, frozen=True):
    """Hand these items to a worker, to be run in this order after those that it has.

    A worker does not begin its last item, because it must know an item's successor to tear down
    fixtures. With `flush` it may: nothing more is known to come. A later Run takes that back.
    """

    worker: str
    keys: tuple[str, ...]
    flush: bool = False


class Recall(msgspec.Struct, frozen=True):
    """Ask a worker to forget those of these items that it has not begun."""

    worker: str
    keys: tuple[str, ...]


class End(msgspec.Struct, frozen=True):
    """Tell a worker to end its session. With `drop` it begins nothing any more that it has."""

    worker: str
    drop: bool = False


class Launch(msgspec.Struct, frozen=True):
    """Start one replacement, with an id of its own, and report WorkerLaunched (even if it fails:
    then WorkerLost follows)."""


class ReportCrash(msgspec.Struct, frozen=True):
    """Report that this item killed its worker: its one and final outcome, unless it runs again."""

    worker: str
    key: str
    again: bool = False


class CollectionsDiffer(msgspec.Struct, frozen=True):
    """Two workers collected different items; the run stops.

    `missing` are in the first collection alone, `extra` in the other alone, in their order there.
    `first_difference` is an index into both, `reordered` says that only the order differs.
    """

    first_worker: str
    other_worker: str
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    first_difference: int
    reordered: bool


class GiveUp(msgspec.Struct, frozen=True):
    """No worker is left and none may be launched: the items in `unrun` have no outcome."""

    reason: str
    unrun: tuple[str, ...]


class Finished(msgspec.Struct, frozen=True):
    """Every worker is gone, and every item has its outcome unless the run was stopped."""


Action: TypeAlias = (
    Run | Recall | End | Launch | ReportCrash | CollectionsDiffer | GiveUp | Finished
)


# ---------------------------------------------------------------------------- states


class WorkerState(enum.StrEnum):
    """How far a worker is; it moves only as `WORKER_MOVES` says."""

    STARTING = "starting"
    READY = "ready"
    ENDING = "ending"
    ENDED = "ended"
    LOST = "lost"


#: Workers that may still send something.
LIVE = frozenset({WorkerState.STARTING, WorkerState.READY, WorkerState.ENDING})
#: Workers that take items, or will.
USABLE = frozenset({WorkerState.STARTING, WorkerState.READY})

WORKER_MOVES: Mapping[WorkerState, frozenset[WorkerState]] = MappingProxyType(
    {
        WorkerState.STARTING: frozenset(
            {WorkerState.READY, WorkerState.ENDING, WorkerState.ENDED, WorkerState.LOST}
        ),
        WorkerState.READY: frozenset({WorkerState.ENDING, WorkerState.ENDED, WorkerState.LOST}),
        WorkerState.ENDING: frozenset({WorkerState.ENDED, WorkerState.LOST}),
        WorkerState.ENDED: frozenset(),
        WorkerState.LOST: frozenset(),
    }
)


class ItemState(enum.StrEnum):
    """Where an item is; it moves only as `ITEM_MOVES` says."""

    QUEUED = "queued"
    SENT = "sent"
    RECALLED = "recalled"
    RUNNING = "running"
    FINISHED = "finished"
    CRASHED = "crashed"


#: States of an item that has its one outcome.
FINAL = frozenset({ItemState.FINISHED, ItemState.CRASHED})

#: A start message may be lost or late, so an item may reach its end without having been RUNNING.
ITEM_MOVES: Mapping[ItemState, frozenset[ItemState]] = MappingProxyType(
    {
        ItemState.QUEUED: frozenset({ItemState.SENT}),
        ItemState.SENT: frozenset(
            {ItemState.RUNNING, ItemState.RECALLED, ItemState.QUEUED, *FINAL}
        ),
        ItemState.RECALLED: frozenset(
            {ItemState.SENT, ItemState.RUNNING, ItemState.QUEUED, *FINAL}
        ),
        ItemState.RUNNING: frozenset({ItemState.QUEUED, *FINAL}),
        ItemState.FINISHED: frozenset(),
        ItemState.CRASHED: frozenset(),
    }
)


class WorkerView(msgspec.Struct, frozen=True):
    """What a reader may know of a worker: its state, how many items it holds, which it runs."""

    state: WorkerState
    load: int
    running: tuple[str, ...]
