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


def test_time_in_which_nobody_looked_does_not_count() -> None:
    table = Deadlines()
    table.look(100.0, 0.0)
    table.set(Kind.ITEM, 101.0, "gw0", "a")
    table.set(Kind.STOP, 102.0)
    # Half a second was meant, ten and a half passed.
    table.look(110.5, 0.5)
    blind = [table.blind]
    assert table.take_due(110.9, ALL) == []
    table.look(110.9, 0.4)
    blind.append(table.blind)
    assert blind == [True, False]
    assert len(table.take_due(112.0, ALL)) == 2


def test_a_look_in_time_or_a_little_late_changes_nothing() -> None:
    table = Deadlines()
    table.look(100.0, 0.0)
    table.set(Kind.STOP, 101.0)
    table.look(105.0, 5.0)
    table.look(106.0, 0.1)
    assert not table.blind
    assert table.take_due(106.0, ALL) == [Deadline(Kind.STOP)]


def test_the_first_look_is_never_late() -> None:
    table = Deadlines()
    table.set(Kind.STOP, 5.0)
    table.look(1000.0, 0.0)
    assert not table.blind
    assert len(table.take_due(1000.0, ALL)) == 1


def test_who_is_always_late_is_not_always_blind() -> None:
    table = Deadlines()
    seen = []
    for now in range(0, 50, 10):
        table.look(float(now), 0.0)
        seen.append(table.blind)
    assert seen == [False, True, False, True, False]
