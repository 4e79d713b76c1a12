"""The table of deadlines: waiting, enforcing, and time that does not count."""

from __future__ import annotations

from snapfarm.deadlines import Deadline, Deadlines, Kind

ALL = frozenset(Kind)


def test_there_is_nothing_to_wait_for_in_an_empty_table() -> None:
    table = Deadlines()
    assert table.left(5.0) is None
    assert table.take_due(5.0, ALL) == []


def test_the_next_deadline_is_waited_for() -> None:
    table = Deadlines()
    table.set(Kind.EXIT, 9.0, "gw0")
    table.set(Kind.ITEM, 7.0, "gw1", "a")
    assert table.left(5.0) == 2.0
    assert table.left(8.0) == 0.0


def test_due_is_what_has_passed_earliest_first_and_once() -> None:
    table = Deadlines()
    table.set(Kind.ITEM, 7.0, "gw1", "a")
    table.set(Kind.ITEM, 6.0, "gw1", "b")
    table.set(Kind.STOP, 8.0)
    assert table.take_due(7.0, ALL) == [
        Deadline(Kind.ITEM, "gw1", "b"),
        Deadline(Kind.ITEM, "gw1", "a"),
    ]
    assert table.take_due(7.5, ALL) == []
    assert table.take_due(8.0, ALL) == [Deadline(Kind.STOP)]


def test_each_takes_the_kinds_that_it_enforces() -> None:
    table = Deadlines()
    table.set(Kind.KILL, 1.0, "gw0")
    table.set(Kind.ITEM, 1.0, "gw0", "a")
    assert table.take_due(2.0, {Kind.KILL}) == [Deadline(Kind.KILL, "gw0")]
    assert table.at(Kind.ITEM, "gw0", "a") == 1.0


def test_a_deadline_is_replaced_dropped_and_forgotten_with_its_worker() -> None:
    table = Deadlines()
    table.set(Kind.EXIT, 1.0, "gw0")
    table.set(Kind.EXIT, 3.0, "gw0")
    assert table.at(Kind.EXIT, "gw0") == 3.0
    table.drop(Kind.EXIT, "gw0")
    table.drop(Kind.EXIT, "gw0")
    table.set(Kind.ITEM, 1.0, "gw0", "a")
    table.set(Kind.ITEM, 2.0, "gw1", "a")
    table.forget("gw0")
    assert table.take_due(9.0, ALL) == [Deadline(Kind.ITEM, "gw1", "a")]


def test_time_that_does_not_count_moves_all_of_them() -> None:
    table = Deadlines()
    table.set(Kind.ITEM, 1.0, "gw0", "a")
    table.set(Kind.STOP, 2.0)
    table.shift(10.0)
    assert table.take_due(10.9, ALL) == []
    assert len(table.take_due(12.0, ALL)) == 2
