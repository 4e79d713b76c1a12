"""The times of a run add up, however far it got."""

from __future__ import annotations

import msgspec
import pytest

from snapfarm.report.timeline import Timeline, WallTimes, WorkerTimes


def test_the_spans_of_a_run_and_of_its_workers() -> None:
    timeline = Timeline(100.0)
    timeline.launched("gw0", 100.5)
    timeline.launched("gw1", 100.6)
    timeline.answered("gw1", 101.0)
    timeline.answered("gw0", 101.5)
    timeline.ready("gw1", 102.0)
    timeline.ready("gw0", 102.1)
    timeline.collected("gw1", 104.0)
    timeline.item_began(104.5)
    timeline.collected("gw0", 105.0)
    timeline.item_began(105.1)
    timeline.item_ended(106.0)
    timeline.item_ended(109.0)
    timeline.session_ended("gw0", 109.5)
    timeline.session_ended("gw1", 109.4)
    timeline.gone("gw1", 110.0)
    timeline.gone("gw0", 110.2)

    wall = timeline.wall(111.0)
    assert wall == WallTimes(start=1.0, databases=1.0, collection=2.5, tests=4.5, end=2.0)
    assert sum(msgspec.structs.astuple(wall)) == 11.0

    found = timeline.of_worker("gw0", busy=3.0)
    assert msgspec.structs.astuple(found) == pytest.approx((1.0, 0.6, 2.9, 1.5, 0.7))


@pytest.mark.parametrize("reached", range(4))
def test_a_run_that_got_no_further_ends_in_the_span_that_it_was_in(reached: int) -> None:
    timeline = Timeline(0.0)
    timeline.launched("gw0", 0.0)
    if reached > 0:
        timeline.answered("gw0", 1.0)
    if reached > 1:
        timeline.ready("gw0", 2.0)
    if reached > 2:
        timeline.item_began(3.0)
    spans = msgspec.structs.astuple(timeline.wall(10.0))
    assert sum(spans) == 10.0
    assert spans[:reached] == (1.0,) * reached
    assert spans[reached] == 10.0 - reached
    assert spans[reached + 1 :] == (0.0,) * (4 - reached)


def test_a_worker_that_died_at_its_start_waited_for_nothing() -> None:
    timeline = Timeline(0.0)
    timeline.launched("gw0", 1.0)
    timeline.answered("gw0", 2.0)
    timeline.gone("gw0", 5.0)
    assert timeline.of_worker("gw0", busy=0.0) == WorkerTimes(start=1.0)


def test_a_worker_that_nobody_launched_has_no_times() -> None:
    timeline = Timeline(0.0)
    timeline.answered("gw7", 1.0)
    assert timeline.of_worker("gw7", busy=0.0) == WorkerTimes()
