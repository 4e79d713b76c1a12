"""Scenarios of the dispatcher: items that stay together, and items that move."""

from __future__ import annotations

import pytest

from snapfarm.dispatch import (
    DistMode,
    End,
    Finished,
    Item,
    ItemsReturned,
    Launch,
    Recall,
    ReportCrash,
    WorkerCollected,
    WorkerEnded,
    WorkerLost,
    WorkerStopping,
)
from support.dispatch_scenario import Scenario, Step, began, did, has, play, run, up

AFFINITY = [
    Scenario(
        "a killer in a file: the rest of its unit stays together, on another worker",
        workers=2,
        mode=DistMode.LOADFILE,
        steps=[
            (up("gw0"), []),
            (up("gw1"), []),
            (has("gw0", "x::a x::b x::c y::d y::e"), [run("gw0", "x::a x::b x::c")]),
            (has("gw1", "x::a x::b x::c y::d y::e"), [run("gw1", "y::d y::e", flush=True)]),
            (began("gw0", "x::a"), []),
            (
                WorkerLost("gw0", ("x::a",)),
                [ReportCrash("gw0", "x::a"), run("gw1", "x::b x::c"), Launch()],
            ),
            (did("gw1", "y::d"), []),
            # The unit of x::b has not begun, but x::b is the successor of y::e: it stays.
            (up("gw2"), []),
            (has("gw2", "x::a x::b x::c y::d y::e"), []),
            (did("gw1", "y::e"), [run("gw1", "", flush=True)]),
            (
                WorkerLost("gw1", ("x::b",)),
                [ReportCrash("gw1", "x::b"), run("gw2", "x::c", flush=True)],
            ),
            (did("gw2", "x::c"), [End("gw2")]),
            (WorkerEnded("gw2"), [Finished()]),
        ],
    ),
    Scenario(
        "who has worked gets what is left for a starting worker rather than tear its fixtures down",
        workers=2,
        mode=DistMode.LOADFILE,
        steps=[
            (up("gw0"), []),
            (up("gw1"), []),
            (has("gw0", "x::a x::b y::c y::d"), [run("gw0", "x::a x::b")]),
            (began("gw0", "x::a"), []),
            (did("gw0", "x::a"), [run("gw0", "y::c y::d")]),
        ],
        unrun="x::b y::c y::d",
    ),
    Scenario(
        "groups need not be neighbours: a unit stands where its first item stood",
        workers=2,
        mode=DistMode.LOADGROUP,
        steps=[
            (up("gw0"), []),
            (up("gw1"), []),
            (
                WorkerCollected("gw0", (Item("a", "g"), Item("b"), Item("c", "g"), Item("d"))),
                [run("gw0", "a c")],
            ),
            (
                WorkerCollected("gw1", (Item("a", "g"), Item("b"), Item("c", "g"), Item("d"))),
                [run("gw1", "b d", flush=True), run("gw0", "", flush=True)],
            ),
        ],
        unrun="a b c d",
    ),
]

#: gw0 runs w::a, and the three items of x are recalled from it for gw1, which has only y::f.
SUITE = "w::a w::b x::c x::d x::e y::f"
LONGER = f"{SUITE} z::g u::h"
RECALLED: list[Step] = [
    (up("gw0"), []),
    (up("gw1"), []),
    (has("gw0", SUITE), [run("gw0", "w::a w::b")]),
    (began("gw0", "w::a"), [run("gw0", "x::c x::d x::e")]),
    (has("gw1", SUITE), [run("gw1", "y::f"), Recall("gw0", ("x::c", "x::d", "x::e"))]),
]

THEFTS = [
    Scenario(
        "the whole unit comes back, and moves",
        workers=2,
        mode=DistMode.LOADFILE,
        steps=[
            *RECALLED,
            (
                ItemsReturned("gw0", ("x::c", "x::d", "x::e")),
                [run("gw1", "x::c x::d x::e"), run("gw0", "", flush=True)],
            ),
            (began("gw1", "y::f"), []),
            (did("gw0", "w::a"), []),
        ],
        unrun="w::b x::c x::d x::e y::f",
    ),
    Scenario(
        "the recall crosses a start: the unit that has begun stays, and is handed back",
        workers=2,
        mode=DistMode.LOADFILE,
        steps=[
            *RECALLED,
            # 1. The coordinator recalls c, d, e. 2. gw0 ends a and b and begins c, which pins d.
            # 3. It takes the recall, and can give back only e.
            (did("gw0", "w::a"), []),
            (did("gw0", "w::b"), []),
            (began("gw0", "x::c"), []),
            (
                ItemsReturned("gw0", ("x::e",)),
                [run("gw0", "x::e"), run("gw1", "", flush=True)],
            ),
            (did("gw0", "x::c"), [run("gw0", "", flush=True)]),
        ],
        unrun="x::d x::e y::f",
    ),
    Scenario(
        "the answer overtakes the start: what is begun is known from what is missing",
        workers=2,
        mode=DistMode.LOADFILE,
        steps=[
            *RECALLED,
            (
                ItemsReturned("gw0", ("x::d", "x::e")),
                [run("gw0", "x::d x::e"), run("gw1", "", flush=True)],
            ),
            (did("gw0", "w::a"), []),
        ],
        unrun="w::b x::c x::d x::e y::f",
    ),
    Scenario(
        "the unit's first item ended before the recall came: the rest is handed back",
        workers=2,
        mode=DistMode.LOADFILE,
        steps=[
            *RECALLED,
            (did("gw0", "w::a"), []),
            (did("gw0", "w::b"), []),
            (did("gw0", "x::c"), []),
            (
                ItemsReturned("gw0", ("x::d", "x::e")),
                [run("gw0", "x::d x::e", flush=True), run("gw1", "", flush=True)],
            ),
        ],
        unrun="x::d x::e y::f",
    ),
    Scenario(
        "a worker that gives nothing back is not asked again before it has moved on",
        workers=2,
        mode=DistMode.LOADFILE,
        steps=[
            (up("gw0"), []),
            (up("gw1"), []),
            (has("gw0", "w::a w::b w::c x::d x::e y::f"), [run("gw0", "w::a w::b w::c")]),
            (began("gw0", "w::a"), [run("gw0", "x::d x::e")]),
            (
                has("gw1", "w::a w::b w::c x::d x::e y::f"),
                [run("gw1", "y::f"), Recall("gw0", ("x::d", "x::e"))],
            ),
            (ItemsReturned("gw0", ()), [run("gw1", "", flush=True)]),
            (began("gw1", "y::f"), []),
            (did("gw0", "w::a"), [Recall("gw0", ("x::d", "x::e"))]),
        ],
        unrun="w::b w::c x::d x::e y::f",
    ),
    Scenario(
        "work comes free while an answer is on its way: who owes the answer gets none of it",
        workers=3,
        mode=DistMode.LOADFILE,
        steps=[
            (up("gw0"), []),
            (up("gw1"), []),
            (has("gw0", LONGER), [run("gw0", "w::a w::b")]),
            (began("gw0", "w::a"), [run("gw0", "x::c x::d x::e")]),
            (has("gw1", LONGER), [run("gw1", "y::f z::g")]),
            (up("gw2"), []),
            (
                has("gw2", LONGER),
                [run("gw2", "u::h"), Recall("gw0", ("x::c", "x::d", "x::e"))],
            ),
            (did("gw0", "w::a"), []),
            (WorkerLost("gw1"), [run("gw2", "y::f"), Launch()]),
            (did("gw0", "w::b"), []),
            (did("gw0", "x::c"), []),
            # z::g is still queued, and may not come between x::c and the rest of its unit.
            (ItemsReturned("gw0", ("x::e",)), [run("gw0", "x::e")]),
            (up("gw3"), []),
            (
                has("gw3", LONGER),
                [
                    run("gw3", "z::g", flush=True),
                    run("gw0", "", flush=True),
                    run("gw2", "", flush=True),
                ],
            ),
        ],
        unrun="x::d x::e y::f z::g u::h",
    ),
    Scenario(
        "a third worker does not run its last item while it may get a share of what moves",
        workers=3,
        mode=DistMode.LOADFILE,
        steps=[
            (up("gw0"), []),
            (up("gw1"), []),
            (has("gw0", f"{SUITE} y::i z::g"), [run("gw0", "w::a w::b")]),
            (began("gw0", "w::a"), [run("gw0", "x::c x::d x::e")]),
            (up("gw2"), []),
            (has("gw1", f"{SUITE} y::i z::g"), [run("gw1", "y::f y::i")]),
            (
                has("gw2", f"{SUITE} y::i z::g"),
                [run("gw2", "z::g"), Recall("gw0", ("x::c", "x::d", "x::e"))],
            ),
            (did("gw1", "y::f"), []),
            (
                ItemsReturned("gw0", ("x::c", "x::d", "x::e")),
                [
                    run("gw2", "x::c x::d x::e"),
                    run("gw1", "", flush=True),
                    run("gw0", "", flush=True),
                ],
            ),
        ],
        unrun="w::a w::b x::c x::d x::e y::i z::g",
    ),
    Scenario(
        "a worker stops by itself while items are recalled from it: they move at once",
        workers=2,
        mode=DistMode.LOADFILE,
        steps=[
            *RECALLED,
            (did("gw0", "w::a"), []),
            (
                WorkerStopping("gw0", "exit", ("w::b", "x::c", "x::d", "x::e")),
                [End("gw0", drop=True), run("gw1", "w::b")],
            ),
            # The answer was on its way already; it says nothing new.
            (
                ItemsReturned("gw0", ("x::c", "x::d", "x::e")),
                [run("gw1", "x::c x::d x::e")],
            ),
        ],
        unrun="w::b x::c x::d x::e y::f",
    ),
    Scenario(
        "the one that was to get the items dies first: they go to the queue",
        workers=2,
        mode=DistMode.LOADFILE,
        steps=[
            *RECALLED,
            (WorkerLost("gw1", ("y::f",)), [ReportCrash("gw1", "y::f"), Launch()]),
            (ItemsReturned("gw0", ("x::c", "x::d", "x::e")), []),
            (up("gw2"), []),
            (has("gw2", SUITE), [run("gw2", "x::c x::d x::e"), run("gw0", "", flush=True)]),
        ],
        unrun="w::a w::b x::c x::d x::e",
    ),
    Scenario(
        "the worker dies with items in limbo: they are nobody's, and run elsewhere",
        workers=2,
        mode=DistMode.LOADFILE,
        steps=[
            *RECALLED,
            (
                WorkerLost("gw0", ("w::a",)),
                [ReportCrash("gw0", "w::a"), run("gw1", "w::b"), Launch()],
            ),
            (ItemsReturned("gw0", ("x::c", "x::d", "x::e")), []),
            # The replacement is still starting, but fixtures of gw1 shall not be torn down for it.
            (did("gw1", "y::f"), [run("gw1", "x::c x::d x::e")]),
        ],
        unrun="w::b x::c x::d x::e",
        oddities={"late ItemsReturned from lost worker": 1},
    ),
    Scenario(
        "nobody is told to run its last item while an answer is on its way",
        workers=2,
        mode=DistMode.LOADFILE,
        steps=[
            *RECALLED,
            (did("gw0", "w::a"), []),
            (
                ItemsReturned("gw0", ("x::c", "x::d", "x::e")),
                [run("gw1", "x::c x::d x::e"), run("gw0", "", flush=True)],
            ),
        ],
        unrun="w::b x::c x::d x::e y::f",
    ),
]


@pytest.mark.parametrize("scenario", [*AFFINITY, *THEFTS], ids=lambda scenario: scenario.title)
def test_scenario(scenario: Scenario) -> None:
    play(scenario)
