"""The search for polluters: right, confirmed by minimality, and within its number of runs."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapfarm.flakes import search


def names(count: int) -> list[str]:
    return [f"t{number}" for number in range(count)]


@given(st.data())
def test_one_polluter_is_found_in_logarithmic_time(data: st.DataObject) -> None:
    tests = names(data.draw(st.integers(1, 300)))
    polluter = data.draw(st.sampled_from(tests))
    found = search.find(tests, lambda asked: polluter in asked)
    assert found.tests == (polluter,)
    assert found.runs <= math.log2(len(tests)) + 3


@given(st.data())
def test_two_that_need_each_other_are_found(data: st.DataObject) -> None:
    tests = names(data.draw(st.integers(2, 300)))
    first, second = sorted(data.draw(st.sets(st.sampled_from(tests), min_size=2, max_size=2)))

    def effect(asked: tuple[str, ...]) -> bool:
        return first in asked and second in asked

    suspects = data.draw(st.lists(st.sampled_from(tests), max_size=5))
    found = search.find(tests, effect, suspects)
    assert set(found.tests) == {first, second}
    assert found.runs <= 2 * math.log2(len(tests)) + 4


@given(st.data())
def test_of_two_polluters_one_is_found_alone(data: st.DataObject) -> None:
    tests = names(data.draw(st.integers(2, 100)))
    polluters = data.draw(st.sets(st.sampled_from(tests), min_size=2, max_size=4))
    found = search.find(tests, lambda asked: bool(polluters & set(asked)))
    assert len(found.tests) == 1
    assert found.tests[0] in polluters


@given(st.data())
def test_a_cleaner_does_not_mislead(data: st.DataObject) -> None:
    tests = names(data.draw(st.integers(3, 100)))
    places = sorted(data.draw(st.sets(st.integers(0, len(tests) - 1), min_size=3, max_size=3)))
    early, cleaner, late = (tests[place] for place in places)

    def effect(asked: tuple[str, ...]) -> bool:
        dirty = False
        for test in asked:
            dirty = (dirty or test in {early, late}) and test != cleaner
        return dirty

    assert search.find(tests, effect).tests == (late,)


@given(st.data())
def test_suspects_save_runs_and_mislead_nobody(data: st.DataObject) -> None:
    tests = names(data.draw(st.integers(2, 200)))
    polluter = data.draw(st.sampled_from(tests))
    suspects = data.draw(st.lists(st.sampled_from(tests), max_size=5))
    found = search.find(tests, lambda asked: polluter in asked, suspects)
    assert found.tests == (polluter,)
    assert found.runs <= math.log2(len(tests)) + 3


@pytest.mark.parametrize("count", [*range(2, 20), 33, 34, 45, 46])
def test_no_two_culprits_and_no_innocent_suspect_cost_too_much(count: int) -> None:
    """Each pair of places: what is proved by chance above is proved by counting here."""
    tests = names(count)
    for first, second in itertools.combinations(tests, 2):
        others = [test for test in tests if test not in {first, second}][:1]
        found = search.find(tests, {first, second}.issubset, others)
        assert found.tests == (first, second)
        assert found.runs <= 2 * math.log2(count) + 4


def test_a_right_suspect_costs_one_run() -> None:
    tests = names(256)
    found = search.find(tests, lambda asked: "t77" in asked, ["t77"])
    assert (found.tests, found.runs) == (("t77",), 1)


@pytest.mark.parametrize("tests", [[], ["a", "b", "c", "d"]])
def test_an_effect_that_does_not_come_back_names_nobody(tests: list[str]) -> None:
    assert search.find(tests, lambda _asked: False).tests == ()
