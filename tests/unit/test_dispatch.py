"""Affinity keys, collections, errors with their story, and what readers may ask a dispatcher."""

from __future__ import annotations

import ast
import typing
from pathlib import Path

import pytest

import snapfarm.dispatch
from snapfarm.dispatch import (
    Accepted,
    Action,
    CollectionsDiffer,
    Dispatcher,
    DistMode,
    EqualCollections,
    Event,
    GiveUp,
    Item,
    ItemFinished,
    ItemsAdded,
    ItemsReturned,
    ItemStarted,
    ItemState,
    Launch,
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
    affinity_of,
    model,
    scope_of,
)
from snapfarm.dispatch.lanes import Lanes
from snapfarm.errors import DispatchError, InternalError


def items(keys: str) -> tuple[Item, ...]:
    return tuple(Item(key) for key in keys.split())


def busy() -> Dispatcher:
    """Return a dispatcher whose gw0 runs a and holds b; gw1 is gone and c is queued for gw2."""
    dispatcher = Dispatcher(3)
    for worker in ("gw0", "gw1", "gw2"):
        dispatcher.handle(WorkerLaunched(worker), 1.0)
    dispatcher.handle(WorkerCollected("gw0", items("a b c")), 2.0)
    dispatcher.handle(ItemStarted("gw0", "a"), 3.0)
    dispatcher.handle(WorkerEnded("gw1"), 4.0)
    return dispatcher


# ---------------------------------------------------------------------------- affinity


@pytest.mark.parametrize(
    ("key", "scope"),
    [
        ("tests/test_a.py::test_x", "tests/test_a.py"),
        ("tests/test_a.py::TestC::test_x", "tests/test_a.py::TestC"),
        ("tests/test_a.py::TestC::TestD::test_x", "tests/test_a.py::TestC::TestD"),
        ("tests/test_a.py::test_x[a::b]", "tests/test_a.py"),
        ("tests/test_a.py::TestC::test_x[a::b-[c]::d]", "tests/test_a.py::TestC"),
        ("tests/[odd]/test_a.py::TestC::test_x", "tests/[odd]/test_a.py::TestC"),
        ("docs/page.md", "docs/page.md"),
    ],
)
def test_a_scope_is_the_class_or_else_the_file(key: str, scope: str) -> None:
    assert scope_of(key) == scope


@pytest.mark.parametrize(
    ("mode", "affinity"),
    [
        (DistMode.LOAD, None),
        (DistMode.WORKSTEAL, None),
        (DistMode.LOADFILE, "t.py"),
        (DistMode.LOADSCOPE, "t.py::C"),
        (DistMode.LOADGROUP, "db"),
    ],
)
def test_the_mode_chooses_the_key(mode: DistMode, affinity: str | None) -> None:
    assert affinity_of(Item("t.py::C::test", "db"), mode) == affinity


def test_an_item_without_group_stays_with_nobody() -> None:
    assert affinity_of(Item("t.py::C::test"), DistMode.LOADGROUP) is None


# ---------------------------------------------------------------------------- collections


def test_the_first_collection_is_the_run() -> None:
    collections = EqualCollections()
    assert collections.add("gw0", items("a b")) == Accepted(items("a b"), complete=True)
    assert collections.add("gw1", items("a b")) == Accepted((), complete=True)


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ("a c b", CollectionsDiffer("gw0", "gw1", (), (), 1, reordered=True)),
        ("a b", CollectionsDiffer("gw0", "gw1", ("c",), (), 2, reordered=False)),
        ("a b c d", CollectionsDiffer("gw0", "gw1", (), ("d",), 3, reordered=False)),
        ("x b y", CollectionsDiffer("gw0", "gw1", ("a", "c"), ("x", "y"), 0, reordered=False)),
        ("", CollectionsDiffer("gw0", "gw1", ("a", "b", "c"), (), 0, reordered=False)),
    ],
)
def test_a_difference_is_described(other: str, difference: CollectionsDiffer) -> None:
    collections = EqualCollections()
    collections.add("gw0", items("a b c"))
    assert collections.add("gw1", items(other)) == difference


def test_an_empty_first_collection_is_a_reference_too() -> None:
    collections = EqualCollections()
    collections.add("gw0", ())
    assert isinstance(collections.add("gw1", items("a")), CollectionsDiffer)


class Shards:
    """Each of two workers collects a part of the suite: another answer to who collects what."""

    def __init__(self) -> None:
        self._seen = 0

    def add(self, worker: str, items: tuple[Item, ...]) -> Accepted | CollectionsDiffer:
        """Take a worker's part."""
        self._seen += 1
        return Accepted(items, complete=self._seen == 2)


def test_who_collects_what_can_be_replaced() -> None:
    dispatcher = Dispatcher(2, collections=Shards())
    dispatcher.handle(WorkerLaunched("gw0"), 0.0)
    dispatcher.handle(WorkerLaunched("gw1"), 0.0)
    assert dispatcher.handle(WorkerCollected("gw0", items("a")), 0.0) == [Run("gw0", ("a",), True)]
    assert (dispatcher.total, dispatcher.closed) == (1, False)
    dispatcher.handle(WorkerCollected("gw1", items("b")), 0.0)
    assert (dispatcher.total, dispatcher.closed) == (2, True)


# ---------------------------------------------------------------------------- readers


def test_a_dispatcher_tells_how_far_it_is() -> None:
    dispatcher = busy()
    assert dispatcher.workers == {
        "gw0": WorkerView(WorkerState.READY, 2, ("a",)),
        "gw1": WorkerView(WorkerState.ENDED, 0, ()),
        "gw2": WorkerView(WorkerState.STARTING, 0, ()),
    }
    assert (dispatcher.total, dispatcher.pending, dispatcher.outcomes) == (3, 3, {})
    assert dispatcher.awaits("gw0", "a")
    dispatcher.handle(ItemFinished("gw0", "a"), 5.0)
    assert not dispatcher.awaits("gw0", "a")
    assert dispatcher.outcomes == {ItemState.FINISHED: 1}
    assert dispatcher.pending == 2
    assert dispatcher.unrun == ("b", "c")
    dispatcher.handle(StopRequested("maxfail"), 6.0)
    assert dispatcher.stop_reason == "maxfail"
    assert not dispatcher.done


def test_large_events_are_told_in_one_line() -> None:
    dispatcher = Dispatcher(1)
    dispatcher.handle(WorkerLaunched("gw0"), 0.0)
    many = tuple(Item(f"t{n}") for n in range(10_000))
    dispatcher.handle(WorkerCollected("gw0", many), 0.5)
    assert max(map(len, dispatcher.story().splitlines())) < 200


def test_a_start_that_works_forgives_earlier_deaths_in_starting() -> None:
    dispatcher = Dispatcher(1, max_worker_restart=100)
    for turn in range(6):
        dispatcher.handle(WorkerLaunched(f"bad{turn}" if turn else "gw"), 0.0)
        if turn:
            assert dispatcher.handle(WorkerLost(f"bad{turn}"), 0.0) == [Launch()]
            dispatcher.handle(WorkerLaunched(f"good{turn}"), 0.0)
        good = f"good{turn}" if turn else "gw"
        dispatcher.handle(WorkerCollected(good, items("a b")), 0.0)
        assert dispatcher.handle(WorkerLost(good), 0.0) == [Launch()]


def test_what_a_thread_has_begun_out_of_order_is_not_asked_back() -> None:
    dispatcher = Dispatcher(2)
    dispatcher.handle(WorkerLaunched("gw0"), 0.0)
    dispatcher.handle(WorkerReady("gw0"), 0.0)
    dispatcher.handle(ItemsAdded(items("t1 t2 t3 t4 t5")), 0.0)
    dispatcher.handle(ItemStarted("gw0", "t1"), 0.0)
    dispatcher.handle(ItemStarted("gw0", "t2"), 0.0)
    assert dispatcher.handle(ItemStarted("gw0", "t4"), 0.0) == []
    assert dispatcher.workers["gw0"] == WorkerView(WorkerState.READY, 4, ("t1", "t2", "t4"))
    dispatcher.handle(WorkerLaunched("gw1"), 0.0)
    assert dispatcher.handle(WorkerReady("gw1"), 0.0) == [Run("gw1", ("t5",), True)]
    dispatcher.check()


# ---------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("event", "what"),
    [
        (WorkerLaunched("gw0"), "worker 'gw0' was announced twice"),
        (WorkerReady("gw7"), "worker 'gw7' was never announced"),
        (WorkerEnded("gw7"), "worker 'gw7' was never announced"),
        (WorkerCollected("gw0", ()), "worker 'gw0' collected twice"),
        (WorkerReady("gw0"), "worker 'gw0' can't go from ready to ready"),
        (ItemStarted("gw0", "z"), "item 'z' was never added"),
        (ItemFinished("gw0", "z"), "item 'z' was never added"),
        (ItemFinished("gw0", "c"), "worker 'gw0' does not hold 'c': it is in the queue"),
        (ItemsReturned("gw0", ("b",)), "none were recalled from it"),
        (WorkerStopping("gw0", "", ("z",)), "item 'z' was never added"),
        (WorkerLost("gw0", ("z",)), "item 'z' was never added"),
        (WorkerLost("gw0", (), ("z",)), "item 'z' was never added"),
        (ItemsAdded(items("d")), "items were added to a run that is closed"),
    ],
)
def test_what_cannot_be_is_an_error_with_the_story(event: Event, what: str) -> None:
    dispatcher = busy()
    with pytest.raises(DispatchError) as caught:
        dispatcher.handle(event, 9.0)
    assert what in caught.value.what
    assert isinstance(caught.value, InternalError)
    text = str(caught.value)
    assert "#5 at 3.000 s: ItemStarted(worker='gw0', key='a')" in text
    assert "worker gw1: starting -> ended" in text
    assert "-> Run(worker='gw0'" in text
    assert text.splitlines()[-1].startswith(f"#7 at 9.000 s: {type(event).__name__}")


def test_a_key_that_occurs_twice_is_an_error() -> None:
    dispatcher = Dispatcher(1)
    dispatcher.handle(WorkerLaunched("gw0"), 0.0)
    with pytest.raises(DispatchError, match="item 'a' was added twice"):
        dispatcher.handle(WorkerCollected("gw0", items("a a")), 0.0)


def test_the_check_finds_an_item_that_got_lost() -> None:
    dispatcher = busy()
    dispatcher.check()
    dispatcher._ledger.queue = Lanes()
    with pytest.raises(DispatchError, match="an item is in no place, or in several"):
        dispatcher.check()


def test_the_check_finds_a_worker_that_waits_for_nothing() -> None:
    dispatcher = busy()
    dispatcher.handle(ItemFinished("gw0", "a"), 5.0)
    dispatcher.handle(ItemFinished("gw0", "b"), 6.0)
    dispatcher.check()
    dispatcher._ledger.workers["gw0"].flushed = False
    with pytest.raises(DispatchError, match="the last item of worker 'gw0' waits for nothing"):
        dispatcher.check()


# ---------------------------------------------------------------------------- the package


def test_every_event_and_action_is_public_and_documented() -> None:
    for union in (Event, Action):
        for member in typing.get_args(union):
            assert member.__name__ in snapfarm.dispatch.__all__
            assert f"\n    {member.__name__} " in (model.__doc__ or "")


def test_the_same_events_give_the_same_actions() -> None:
    def play() -> list[list[Action]]:
        dispatcher = Dispatcher(2, max_worker_restart=0)
        return [
            dispatcher.handle(event, 0.0)
            for event in (
                WorkerLaunched("gw0"),
                WorkerLaunched("gw1"),
                WorkerCollected("gw0", items("a b c d e f g h")),
                WorkerCollected("gw1", items("a b c d e f g h")),
                WorkerLost("gw0", ("a",)),
                WorkerLost("gw1"),
            )
        ]

    first = play()
    assert isinstance(first[-1][-1], GiveUp)
    assert first == play()


def test_the_package_imports_nothing_that_acts() -> None:
    allowed = {
        "__future__", "collections", "collections.abc", "enum", "itertools", "msgspec",
        "snapfarm.errors", "snapfarm_worker.turns", "types", "typing",
    }  # fmt: skip
    folder = Path(snapfarm.dispatch.__file__).parent
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import(names=names):
                    found = {alias.name for alias in names}
                case ast.ImportFrom(module=str(module)):
                    found = {module}
                case _:
                    continue
            outside = {name for name in found if not name.startswith("snapfarm.dispatch")}
            assert outside <= allowed, path.name
