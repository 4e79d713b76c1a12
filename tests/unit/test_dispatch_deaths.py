"""Scenarios of the dispatcher: how a run goes to its end, and what deaths cost."""

from __future__ import annotations

import pytest

from snapfarm.dispatch import (
    Closed,
    CollectionsDiffer,
    DistMode,
    End,
    Finished,
    GiveUp,
    Item,
    ItemsAdded,
    Launch,
    ReportCrash,
    StopRequested,
    WorkerEnded,
    WorkerLost,
    WorkerReady,
    WorkerStopping,
)
from support.dispatch_scenario import Scenario, began, did, has, play, run, up

LAST_WORDS = [
    Scenario(
        "one worker runs two items: it may run the last at once, nothing else can come",
        workers=1,
        steps=[
            (up("gw0"), []),
            (has("gw0", "a b"), [run("gw0", "a b", flush=True)]),
            (began("gw0", "a"), []),
            (did("gw0", "a"), []),
            (began("gw0", "b"), []),
            (did("gw0", "b"), [End("gw0")]),
            (WorkerEnded("gw0"), [Finished()]),
        ],
    ),
    Scenario(
        "as many items as workers: each gets one, whoever is ready first",
        workers=2,
        steps=[
            (up("gw0"), []),
            (up("gw1"), []),
            (has("gw1", "a b"), [run("gw1", "a", flush=True)]),
            (has("gw0", "a b"), [run("gw0", "b", flush=True)]),
            (did("gw1", "a"), []),
            (did("gw0", "b"), [End("gw0"), End("gw1")]),
            (WorkerEnded("gw0"), []),
            (WorkerEnded("gw1"), [Finished()]),
        ],
    ),
    Scenario(
        "the other worker never gets ready: the first one does all, and the other is ended",
        workers=2,
        steps=[
            (up("gw0"), []),
            (up("gw1"), []),
            (has("gw0", "a b"), [run("gw0", "a", flush=True)]),
            (did("gw0", "a"), [run("gw0", "b", flush=True)]),
            (did("gw0", "b"), [End("gw0"), End("gw1")]),
            (WorkerEnded("gw0"), []),
            (WorkerLost("gw1"), [Finished()]),
        ],
    ),
    Scenario(
        "a suite of no items ends at once",
        workers=1,
        steps=[
            (up("gw0"), []),
            (has("gw0", ""), [End("gw0")]),
            (WorkerEnded("gw0"), [Finished()]),
        ],
    ),
]

DEATHS = [
    Scenario(
        "a worker killed in an item costs that item alone; its others run elsewhere, first",
        workers=1,
        steps=[
            (up("gw0"), []),
            (has("gw0", "a b c d"), [run("gw0", "a b")]),
            (began("gw0", "a"), [run("gw0", "c")]),
            (WorkerLost("gw0", ("a",), (), "call"), [ReportCrash("gw0", "a"), Launch()]),
            (up("gw1"), []),
            (has("gw1", "a b c d"), [run("gw1", "b c")]),
            (did("gw1", "b"), [run("gw1", "d", flush=True)]),
            (did("gw1", "c"), []),
            (did("gw1", "d"), [End("gw1")]),
            (WorkerEnded("gw1"), [Finished()]),
        ],
    ),
    Scenario(
        "a result that died with its worker: the item runs again, and nobody is blamed for it",
        workers=1,
        steps=[
            (up("gw0"), []),
            (has("gw0", "a b"), [run("gw0", "a b", flush=True)]),
            (began("gw0", "a"), []),
            # 1. gw0 ends a and begins b. 2. Neither message leaves it. 3. b kills it.
            (WorkerLost("gw0", ("b",), ("a",), "call"), [ReportCrash("gw0", "b"), Launch()]),
            (up("gw1"), []),
            (has("gw1", "a b"), [run("gw1", "a", flush=True)]),
            (did("gw1", "a"), [End("gw1")]),
            (WorkerEnded("gw1"), [Finished()]),
        ],
    ),
    Scenario(
        "nobody knows what the worker ran: nobody is blamed, all of it runs again",
        workers=1,
        steps=[
            (up("gw0"), []),
            (has("gw0", "a b"), [run("gw0", "a b", flush=True)]),
            (began("gw0", "a"), []),
            (WorkerLost("gw0"), [Launch()]),
            (up("gw1"), []),
            (has("gw1", "a b"), [run("gw1", "a b", flush=True)]),
            (did("gw1", "a"), []),
            (did("gw1", "b"), [End("gw1")]),
            (WorkerEnded("gw1"), [Finished()]),
        ],
    ),
    Scenario(
        "a crash that is to be rerun: reported, and run again, also as the last item of the run",
        workers=1,
        steps=[
            (up("gw0"), []),
            (has("gw0", "a"), [run("gw0", "a", flush=True)]),
            (began("gw0", "a"), []),
            (
                WorkerLost("gw0", ("a",), (), "call", ("a",)),
                [ReportCrash("gw0", "a", again=True), Launch()],
            ),
            (up("gw1"), []),
            (has("gw1", "a"), [run("gw1", "a", flush=True)]),
            (WorkerLost("gw1", ("a",), (), "call"), [ReportCrash("gw1", "a"), Finished()]),
        ],
    ),
    Scenario(
        "a crash that is to be rerun leads its unit, which stays together",
        workers=2,
        mode=DistMode.LOADFILE,
        steps=[
            (up("gw0"), []),
            (up("gw1"), []),
            (has("gw0", "x::a x::b y::c y::d"), [run("gw0", "x::a x::b")]),
            (
                has("gw1", "x::a x::b y::c y::d"),
                [run("gw1", "y::c y::d", flush=True), run("gw0", "", flush=True)],
            ),
            (began("gw0", "x::a"), []),
            (
                WorkerLost("gw0", ("x::a",), (), "call", ("x::a",)),
                [ReportCrash("gw0", "x::a", again=True), run("gw1", "x::a x::b"), Launch()],
            ),
        ],
        unrun="x::a x::b y::c y::d",
    ),
    Scenario(
        "a stopped run reruns nothing",
        workers=1,
        steps=[
            (up("gw0"), []),
            (has("gw0", "a"), [run("gw0", "a", flush=True)]),
            (StopRequested("enough"), [End("gw0", drop=True)]),
            (WorkerLost("gw0", ("a",), (), "call", ("a",)), [Finished()]),
        ],
        unrun="a",
    ),
    Scenario(
        "an item ends its worker's session without a word, and again: the second time it is blamed",
        workers=1,
        steps=[
            (up("gw0"), []),
            (has("gw0", "a b"), [run("gw0", "a b", flush=True)]),
            (began("gw0", "a"), []),
            # 1. a ends the session of gw0. 2. What would tell so never leaves it.
            (WorkerLost("gw0", phase="ending"), [Launch()]),
            (up("gw1"), []),
            (has("gw1", "a b"), [run("gw1", "a b", flush=True)]),
            (began("gw1", "a"), []),
            (WorkerLost("gw1", phase="ending"), [ReportCrash("gw1", "a"), Launch()]),
            (up("gw2"), []),
            (has("gw2", "a b"), [run("gw2", "b", flush=True)]),
            (did("gw2", "b"), [End("gw2")]),
            (WorkerEnded("gw2"), [Finished()]),
        ],
    ),
    Scenario(
        "the record says that the item it ran had ended: it runs again, and is not blamed",
        workers=1,
        steps=[
            (up("gw0"), []),
            (has("gw0", "a b"), [run("gw0", "a b", flush=True)]),
            (WorkerLost("gw0", ("a",), ("a",)), [Launch()]),
        ],
        unrun="a b",
        oddities={"running item of a lost worker had finished": 1},
    ),
    Scenario(
        "the worker dies between an item's result and its own record: nobody is blamed",
        workers=1,
        steps=[
            (up("gw0"), []),
            (has("gw0", "a b"), [run("gw0", "a b", flush=True)]),
            (did("gw0", "a"), []),
            (WorkerLost("gw0", ("a",)), [Launch()]),
            (up("gw1"), []),
            (has("gw1", "a b"), [run("gw1", "b", flush=True)]),
            (did("gw1", "b"), [End("gw1")]),
            (WorkerEnded("gw1"), [Finished()]),
        ],
        oddities={"running item of a lost worker had finished": 1},
    ),
    Scenario(
        "the last item kills its worker: there is nothing left to replace it for",
        workers=1,
        steps=[
            (up("gw0"), []),
            (has("gw0", "a"), [run("gw0", "a", flush=True)]),
            (WorkerLost("gw0", ("a",)), [ReportCrash("gw0", "a"), Finished()]),
        ],
    ),
    Scenario(
        "the survivor finishes the one item that is left alone: no replacement",
        workers=2,
        steps=[
            (up("gw0"), []),
            (up("gw1"), []),
            (has("gw0", "a b"), [run("gw0", "a", flush=True)]),
            (has("gw1", "a b"), [run("gw1", "b", flush=True)]),
            (WorkerLost("gw0", ("a",)), [ReportCrash("gw0", "a")]),
            (did("gw1", "b"), [End("gw1")]),
            (WorkerEnded("gw1"), [Finished()]),
        ],
    ),
    Scenario(
        "what a worker sent before it died arrives after its death: it no longer counts",
        workers=2,
        steps=[
            (up("gw0"), []),
            (up("gw1"), []),
            (has("gw0", "a b"), [run("gw0", "a", flush=True)]),
            (has("gw1", "a b"), [run("gw1", "b", flush=True)]),
            # 1. gw0 is stopped, and taken for dead. 2. a runs on gw1. 3. gw0 wakes up.
            (WorkerLost("gw0"), [run("gw1", "a", flush=True), Launch()]),
            (did("gw0", "a"), []),
            (WorkerLost("gw0"), []),
            (did("gw1", "b"), []),
            (did("gw1", "a"), [End("gw1")]),
            (did("gw1", "a"), []),
            (up("gw2"), [End("gw2")]),
            (WorkerEnded("gw1"), []),
            (WorkerEnded("gw2"), [Finished()]),
        ],
        oddities={
            "late ItemFinished from lost worker": 1,
            "late WorkerLost from lost worker": 1,
            "late ItemFinished from ending worker": 1,
        },
    ),
    Scenario(
        "no replacement is allowed: what is left is named",
        workers=1,
        max_worker_restart=0,
        steps=[
            (up("gw0"), []),
            (has("gw0", "a b c"), [run("gw0", "a b")]),
            (
                WorkerLost("gw0", ("a",)),
                [
                    ReportCrash("gw0", "a"),
                    GiveUp("no worker is left, and no replacement is allowed", ("b", "c")),
                ],
            ),
        ],
        unrun="b c",
    ),
    Scenario(
        "every worker dies in import: one clear end, no loop",
        workers=2,
        steps=[
            (up("gw0"), []),
            (up("gw1"), []),
            (WorkerLost("gw0", phase="collect"), []),
            (
                WorkerLost("gw1", phase="collect"),
                [GiveUp("every worker died before it was ready", ())],
            ),
        ],
    ),
    Scenario(
        "replacements that die before they are ready: after the fourth there is no other",
        workers=1,
        max_worker_restart=100,
        steps=[
            (up("gw0"), []),
            (has("gw0", "a"), [run("gw0", "a", flush=True)]),
            (WorkerLost("gw0"), [Launch()]),
            (up("gw1"), []),
            (WorkerLost("gw1"), [Launch()]),
            (up("gw2"), []),
            (WorkerLost("gw2"), [Launch()]),
            (up("gw3"), []),
            (WorkerLost("gw3"), [Launch()]),
            (up("gw4"), []),
            (
                WorkerLost("gw4"),
                [GiveUp("no worker is left, and the last 4 died before they were ready", ("a",))],
            ),
        ],
        unrun="a",
    ),
    Scenario(
        "a worker that died in import is replaced once another one proves that starting works",
        workers=2,
        steps=[
            (up("gw0"), []),
            (up("gw1"), []),
            (WorkerLost("gw0", phase="collect"), []),
            (has("gw1", "a b c"), [run("gw1", "a b"), Launch()]),
            (up("gw2"), []),
            (
                has("gw2", "a b c"),
                [run("gw2", "c", flush=True), run("gw1", "", flush=True)],
            ),
        ],
        unrun="a b c",
    ),
]

ENDINGS = [
    Scenario(
        "a stop: nothing begins, nothing is launched, nobody is blamed",
        workers=2,
        steps=[
            (up("gw0"), []),
            (up("gw1"), []),
            (has("gw0", "a b c d e"), [run("gw0", "a b")]),
            (began("gw0", "a"), [run("gw0", "c")]),
            (StopRequested("maxfail"), [End("gw0", drop=True), End("gw1", drop=True)]),
            (has("gw1", "a b c d e"), []),
            (StopRequested("ctrl-c"), []),
            (did("gw0", "a"), []),
            (WorkerLost("gw0", ("b",)), []),
            (WorkerEnded("gw1"), [Finished()]),
        ],
        unrun="b c d e",
    ),
    Scenario(
        "a worker wants no more items: its items run elsewhere, its place is filled again",
        workers=1,
        steps=[
            (up("gw0"), []),
            (has("gw0", "a b c"), [run("gw0", "a b")]),
            (began("gw0", "a"), [run("gw0", "c")]),
            (did("gw0", "a"), [run("gw0", "", flush=True)]),
            (WorkerStopping("gw0", "shouldstop", ("b", "c")), [End("gw0", drop=True)]),
            (WorkerEnded("gw0"), [Launch()]),
            (up("gw1"), []),
            (has("gw1", "a b c"), [run("gw1", "b c", flush=True)]),
            (did("gw1", "b"), []),
            (did("gw1", "c"), [End("gw1")]),
            (WorkerEnded("gw1"), [Finished()]),
        ],
    ),
    Scenario(
        "an order crosses a worker's stop: what it never took runs elsewhere once it has ended",
        workers=2,
        steps=[
            (up("gw0"), []),
            (up("gw1"), []),
            (has("gw0", "a b"), [run("gw0", "a", flush=True)]),
            (has("gw1", "a b"), [run("gw1", "b", flush=True)]),
            (WorkerStopping("gw0", "exit"), [End("gw0", drop=True)]),
            (WorkerEnded("gw0"), [run("gw1", "a", flush=True), Launch()]),
            (up("gw2"), []),
            (did("gw1", "b"), []),
            (did("gw1", "a"), [End("gw1"), End("gw2")]),
        ],
    ),
    Scenario(
        "collections in another order: reported once, and the run stops",
        workers=3,
        steps=[
            (up("gw0"), []),
            (up("gw1"), []),
            (up("gw2"), []),
            (has("gw0", "a b c"), [run("gw0", "a", flush=True)]),
            (
                has("gw1", "a c b"),
                [
                    CollectionsDiffer("gw0", "gw1", (), (), 1, reordered=True),
                    End("gw0", drop=True),
                    End("gw1", drop=True),
                    End("gw2", drop=True),
                ],
            ),
            (has("gw2", "b"), []),
            (WorkerEnded("gw0"), []),
            (WorkerEnded("gw1"), []),
            (WorkerEnded("gw2"), [Finished()]),
        ],
        unrun="a b c",
    ),
    Scenario(
        "a difference shows even if all is done before the second worker has collected",
        workers=2,
        steps=[
            (up("gw0"), []),
            (up("gw1"), []),
            (has("gw0", "a"), [run("gw0", "a", flush=True)]),
            (did("gw0", "a"), [End("gw0"), End("gw1")]),
            (
                has("gw1", "a b"),
                [CollectionsDiffer("gw0", "gw1", (), ("b",), 1, reordered=False)],
            ),
            (WorkerEnded("gw0"), []),
            (WorkerEnded("gw1"), [Finished()]),
        ],
    ),
    Scenario(
        "a pool: tasks come one by one, and the end is announced",
        workers=2,
        steps=[
            (up("gw0"), []),
            (WorkerReady("gw0"), []),
            (ItemsAdded((Item("t1"),)), [run("gw0", "t1", flush=True)]),
            (ItemsAdded((Item("t2"),)), []),
            (up("gw1"), []),
            (WorkerReady("gw1"), [run("gw1", "t2", flush=True)]),
            (did("gw0", "t1"), []),
            (did("gw1", "t2"), []),
            (ItemsAdded((Item("t3"),)), [run("gw0", "t3", flush=True)]),
            (Closed(), []),
            (did("gw0", "t3"), [End("gw0"), End("gw1")]),
            (WorkerEnded("gw0"), []),
            (WorkerEnded("gw1"), [Finished()]),
        ],
    ),
    Scenario(
        "an idle pool replaces a dead worker once there is something to do",
        workers=1,
        steps=[
            (up("gw0"), []),
            (WorkerReady("gw0"), []),
            (WorkerLost("gw0"), []),
            (ItemsAdded((Item("t1"),)), [Launch()]),
            (up("gw1"), []),
            (WorkerReady("gw1"), [run("gw1", "t1", flush=True)]),
        ],
        unrun="t1",
    ),
]


@pytest.mark.parametrize(
    "scenario", [*LAST_WORDS, *DEATHS, *ENDINGS], ids=lambda scenario: scenario.title
)
def test_scenario(scenario: Scenario) -> None:
    play(scenario)
