"""The dispatcher as a pool uses it: several items at once, no memory of what ended, small hands."""

from __future__ import annotations

import pytest

from snapfarm.dispatch import (
    Action,
    Closed,
    Dispatcher,
    End,
    Event,
    Finished,
    GiveUp,
    Item,
    ItemFinished,
    ItemsAdded,
    ItemsReturned,
    ItemState,
    Launch,
    Recall,
    ReportCrash,
    Run,
    StopRequested,
    WorkerEnded,
    WorkerLaunched,
    WorkerLost,
    WorkerReady,
)
from snapfarm.errors import DispatchError


class Pool:
    """A dispatcher that is checked after each event."""

    def __init__(self, workers: int, *, threads: int = 2, most: int = 6, restarts: int = 9) -> None:
        self.dispatcher = Dispatcher(
            workers,
            max_worker_restart=restarts,
            low_water=3 * threads,
            pinned=threads,
            most=most,
            forgetful=True,
        )
        for number in range(workers):
            self(WorkerLaunched(f"gw{number}"))

    def __call__(self, event: Event) -> list[Action]:
        actions = self.dispatcher.handle(event, 0.0)
        self.dispatcher.check()
        return actions

    def add(self, *keys: str) -> list[Action]:
        return self(ItemsAdded(tuple(map(Item, keys))))

    def did(self, worker: str, *keys: str) -> list[Action]:
        return [action for key in keys for action in self(ItemFinished(worker, key))]


def given(actions: list[Action]) -> dict[str, str]:
    """Return what each worker was given to run, as one text."""
    return {each.worker: " ".join(each.keys) for each in actions if isinstance(each, Run)}


def test_a_worker_is_given_no_more_than_most_in_one_go() -> None:
    pool = Pool(1, threads=1, most=3)
    pool(WorkerReady("gw0"))
    assert given(pool.add(*map(str, range(100)))) == {"gw0": "0 1 2"}
    assert given(pool.did("gw0", "0")) == {"gw0": "3 4 5"}
    assert pool.did("gw0", "1", "2") == []
    assert given(pool.did("gw0", "3")) == {"gw0": "6 7 8"}


def test_all_items_that_a_lost_worker_ran_are_reported_and_the_others_run_on() -> None:
    pool = Pool(2)
    pool(WorkerReady("gw0"))
    pool(WorkerReady("gw1"))
    handed = given(pool.add(*"abcdefgh"))
    assert set(" ".join(handed.values()).split()) <= set("abcdefgh")
    first, second, *rest = handed["gw0"].split()
    actions = pool(WorkerLost("gw0", (first, second), (), "call"))
    assert [each for each in actions if isinstance(each, ReportCrash)] == [
        ReportCrash("gw0", first),
        ReportCrash("gw0", second),
    ]
    assert Launch() in actions
    assert pool.dispatcher.outcomes == {ItemState.CRASHED: 2}
    again = given([*actions, *pool(WorkerLaunched("gw2")), *pool(WorkerReady("gw2"))])
    assert set(rest) <= set(" ".join(again.values()).split())
    assert not pool.dispatcher.awaits("gw0", first)


def test_an_item_that_a_lost_worker_had_ended_is_not_blamed() -> None:
    pool = Pool(1)
    pool(WorkerReady("gw0"))
    pool.add("a", "b", "c")
    pool.did("gw0", "a")
    # 1. a ends on one thread, its result arrives. 2. The box of that thread was read before.
    actions = pool(WorkerLost("gw0", ("a", "b"), (), "call"))
    assert [each for each in actions if isinstance(each, ReportCrash)] == [ReportCrash("gw0", "b")]
    assert pool.dispatcher.oddities == {"running item of a lost worker had finished": 1}


def test_ended_items_take_no_memory_and_their_late_results_do_not_count() -> None:
    pool = Pool(1, threads=1)
    pool(WorkerReady("gw0"))
    for number in range(500):
        pool.add(str(number))
        pool.did("gw0", str(number))
    ledger = pool.dispatcher._ledger
    assert (len(ledger.unit_of), len(ledger._ended_keys)) == (0, 0)
    assert pool.dispatcher.outcomes == {ItemState.FINISHED: 500}
    assert pool.did("gw0", "7") == []
    assert pool.dispatcher.oddities == {"late ItemFinished from ready worker": 1}
    assert pool.dispatcher.outcomes == {ItemState.FINISHED: 500}


def test_an_idle_worker_takes_what_another_has_not_begun() -> None:
    pool = Pool(2)
    pool(WorkerReady("gw0"))
    pool(WorkerReady("gw1"))
    actions = pool.add(*map(str, range(12)))
    mine: list[str] = []
    recalls: list[Recall] = []
    others = given(actions)["gw0"].split()
    while not recalls:
        mine += given(actions).get("gw1", "").split()
        actions = pool.did("gw1", mine.pop(0))
        recalls = [each for each in actions if isinstance(each, Recall)]
    assert recalls[0].worker == "gw0"
    # What its threads run is not asked for.
    assert set(recalls[0].keys) <= set(others[2:])
    returned = pool(ItemsReturned("gw0", recalls[0].keys))
    assert given(returned)["gw1"].split() == list(recalls[0].keys)


def test_workers_that_all_die_before_they_are_ready_end_it_at_once() -> None:
    pool = Pool(2)
    pool.add("a", "b")
    assert pool(WorkerLost("gw0")) == []
    actions = pool(WorkerLost("gw1"))
    assert [type(each) for each in actions] == [GiveUp]
    assert pool.dispatcher.done
    with pytest.raises(DispatchError):
        pool.dispatcher.handle(ItemsAdded((Item("c"),)), 0.0)


def test_workers_that_have_run_are_replaced_as_often_as_needed_and_only_for_work() -> None:
    pool = Pool(1, restarts=1 << 40)
    pool(WorkerReady("gw0"))
    for number in range(50):
        worker, key = f"gw{number}", str(number)
        assert given(pool.add(key)) == {worker: key}
        assert pool(WorkerLost(worker, (key,), (), "call")) == [ReportCrash(worker, key)]
        # Nothing is left to do: the replacement comes with the next item.
        assert Launch() in pool.add("x" + key)
        pool(WorkerLaunched(f"gw{number + 1}"))
        pool(WorkerReady(f"gw{number + 1}"))
        pool.did(f"gw{number + 1}", "x" + key)
    assert pool.dispatcher.outcomes == {ItemState.FINISHED: 50, ItemState.CRASHED: 50}


def test_a_closed_pool_ends_when_all_is_done_and_a_stopped_one_at_once() -> None:
    pool = Pool(1)
    pool(WorkerReady("gw0"))
    pool.add("a")
    assert pool(Closed()) == []
    assert pool.did("gw0", "a") == [End("gw0")]
    assert pool(WorkerEnded("gw0")) == [Finished()]

    stopped = Pool(1)
    stopped(WorkerReady("gw0"))
    stopped.add("a", "b")
    assert stopped(StopRequested("killed")) == [End("gw0", drop=True)]
    assert stopped(WorkerLost("gw0", ("a",), (), "call")) == [Finished()]
    assert stopped.dispatcher.unrun == ("a", "b")
