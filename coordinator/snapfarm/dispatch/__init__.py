"""Pure scheduling: which worker runs what, and what to do when workers die.

`Dispatcher.handle(event, now)` takes what happened and returns what to do. Nothing in this package
knows a socket, a clock, a thread, a process or pytest. `docs/dispatch.md` tells how it decides.
"""

from __future__ import annotations

from snapfarm.dispatch.affinity import DistMode, affinity_of, scope_of
from snapfarm.dispatch.collected import Accepted, Collections, EqualCollections
from snapfarm.dispatch.dispatcher import Dispatcher
from snapfarm.dispatch.model import (
    Action,
    Closed,
    CollectionsDiffer,
    End,
    Event,
    Finished,
    GiveUp,
    Item,
    ItemFinished,
    ItemsAdded,
    ItemsReturned,
    ItemStarted,
    ItemState,
    Launch,
    Recall,
    ReportCrash,
    Run,
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

__all__ = [
    "Accepted",
    "Action",
    "Closed",
    "Collections",
    "CollectionsDiffer",
    "Dispatcher",
    "DistMode",
    "End",
    "EqualCollections",
    "Event",
    "Finished",
    "GiveUp",
    "Item",
    "ItemFinished",
    "ItemStarted",
    "ItemState",
    "ItemsAdded",
    "ItemsReturned",
    "Launch",
    "Recall",
    "ReportCrash",
    "Run",
    "StopRequested",
    "WorkerCollected",
    "WorkerEnded",
    "WorkerLaunched",
    "WorkerLost",
    "WorkerReady",
    "WorkerState",
    "WorkerStopping",
    "WorkerView",
    "affinity_of",
    "scope_of",
]
