"""A worker's queue always knows an item's successor, and never gives a promised one back."""

from __future__ import annotations

import threading

import pytest

from snapfarm_worker.itemqueue import ItemQueue
from snapfarm_worker.wire import (
    EndSession,
    ItemsReturned,
    RecallItems,
    Rejected,
    RunItems,
    Welcome,
)

KEYS = ("a", "b", "c", "d")


def test_items_come_in_order_with_their_successors() -> None:
    queue = ItemQueue(KEYS)
    queue.handle(RunItems(("a", "b", "c"), flush=True))
    assert [queue.next(), queue.next(), queue.next()] == [("a", "b"), ("b", "c"), ("c", None)]


def test_last_item_waits_until_its_successor_is_known() -> None:
    queue = ItemQueue(KEYS)
    queue.handle(RunItems(("a",)))
    assert queue.ready() is None
    queue.handle(RunItems(("b",)))
    assert queue.ready() == "a"


def test_flush_is_taken_back_by_a_later_order() -> None:
    queue = ItemQueue(KEYS)
    queue.handle(RunItems(("a",), flush=True))
    queue.handle(RunItems(("b",), flush=False))
    assert queue.next() == ("a", "b")
    assert queue.ready() is None


def test_end_lets_the_rest_run() -> None:
    queue = ItemQueue(KEYS)
    queue.handle(RunItems(("a", "b")))
    queue.handle(EndSession())
    assert [queue.next(), queue.next(), queue.next()] == [("a", "b"), ("b", None), None]


def test_end_with_drop_forgets_the_rest() -> None:
    queue = ItemQueue(KEYS)
    queue.handle(RunItems(("a", "b", "c")))
    assert queue.next() == ("a", "b")
    queue.handle(EndSession(drop=True))
    assert queue.next() is None


def test_recall_gives_back_what_has_not_begun_but_never_a_promised_successor() -> None:
    queue = ItemQueue(KEYS)
    queue.handle(RunItems(KEYS))
    assert queue.next() == ("a", "b")
    assert queue.handle(RecallItems(7, KEYS)) == ItemsReturned(7, ("c", "d"))
    queue.handle(EndSession())
    assert queue.next() == ("b", None)


def test_announced_item_is_pinned() -> None:
    queue = ItemQueue(KEYS)
    queue.handle(RunItems(("a",), flush=True))
    assert queue.ready() == "a"
    assert queue.handle(RecallItems(1, ("a",))) == ItemsReturned(1, ())
    assert queue.next() == ("a", None)


def test_recall_is_answered_even_if_nothing_is_left() -> None:
    assert ItemQueue(KEYS).handle(RecallItems(3, ("a",))) == ItemsReturned(3, ())


def test_order_for_an_item_that_was_not_collected_is_rejected() -> None:
    answer = ItemQueue(KEYS).handle(RunItems(("a", "other")))
    assert answer == Rejected("this worker has not collected 'other'")


def test_unexpected_order_is_rejected_by_name() -> None:
    answer = ItemQueue(KEYS).handle(Welcome(()))
    assert answer == Rejected("Welcome is not expected while items run")


@pytest.mark.parametrize("order", [RunItems(("a", "b")), EndSession()])
def test_waiting_consumer_is_woken(order: RunItems | EndSession) -> None:
    queue = ItemQueue(KEYS)
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(queue.next()))
    thread.start()
    queue.handle(order)
    thread.join(5)
    assert results == [("a", "b") if isinstance(order, RunItems) else None]


def test_drop_returns_what_will_not_run() -> None:
    queue = ItemQueue(KEYS)
    queue.handle(RunItems(("a", "b", "c")))
    queue.next()
    assert queue.drop() == ("b", "c")


def test_orders_that_cross_with_the_end_are_forgotten() -> None:
    queue = ItemQueue(KEYS)
    queue.handle(EndSession(drop=True))
    queue.handle(RunItems(("a", "b"), flush=True))
    assert queue.next() is None


def test_a_successor_that_was_dropped_is_not_kept() -> None:
    queue = ItemQueue(KEYS)
    queue.handle(RunItems(("a", "b", "c")))
    assert queue.next() == ("a", "b")
    queue.handle(EndSession(drop=True))
    assert not queue.keep_successor()
    # An item that is run again is torn down again.
    assert not queue.keep_successor()
    assert queue.next() is None


def test_a_successor_for_which_fixtures_were_kept_runs_as_the_last() -> None:
    queue = ItemQueue(KEYS)
    queue.handle(RunItems(KEYS))
    assert queue.next() == ("a", "b")
    assert queue.keep_successor()
    queue.handle(EndSession(drop=True))
    assert queue.keep_successor()
    assert queue.next() == ("b", None)
    assert queue.next() is None


def test_a_session_that_stops_by_itself_drops_the_successor_too() -> None:
    queue = ItemQueue(KEYS)
    queue.handle(RunItems(KEYS))
    queue.next()
    assert queue.keep_successor()
    assert queue.drop() == ("b", "c", "d")
