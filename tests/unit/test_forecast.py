"""How long a run will still take, and the line that says so."""

from __future__ import annotations

import pytest

from snapfarm.report.forecast import Forecast, progress, spoken, status_line


def forecast(known: dict[str, float], *keys: str) -> Forecast:
    made = Forecast(known)
    made.collected(keys or tuple(known))
    return made


def test_what_tests_took_before_is_what_they_will_take() -> None:
    made = forecast({"a": 4.0, "b": 2.0, "c": 2.0})
    assert made.left(0.0, 1) == pytest.approx(8.0)
    # Of two workers, one has the long one.
    assert made.left(0.0, 2) == pytest.approx(4.0)
    assert made.left(0.0, 8) == pytest.approx(4.0)


def test_what_runs_counts_with_what_is_left_of_it() -> None:
    made = forecast({"a": 4.0, "b": 2.0})
    made.started("gw0", "a", 10.0)
    assert made.left(13.0, 1) == pytest.approx(3.0)
    # It takes longer than ever: nobody knows how long.
    assert made.left(20.0, 1) == pytest.approx(2.0)
    made.ended("gw0", "a", 4.0, failed=False)
    made.started("gw0", "b", 14.0)
    assert made.left(14.0, 1) == pytest.approx(2.0)
    made.ended("gw0", "b", 2.0, failed=True)
    assert (made.left(16.0, 1), made.done, made.failed) == (0.0, 2, 1)


def test_a_slower_machine_is_noticed() -> None:
    made = forecast({f"t{n}": 1.0 for n in range(200)})
    for n in range(100):
        made.started("gw0", f"t{n}", 0.0)
        made.ended("gw0", f"t{n}", 3.0, failed=False)
    left = made.left(0.0, 1)
    assert left == pytest.approx(300.0, rel=0.05)


def test_unknown_tests_are_forecast_by_their_like_and_not_before_there_are_some() -> None:
    made = forecast({}, *(f"t{n}" for n in range(10)))
    for n in range(5):
        assert made.left(0.0, 2) is None
        made.ended("gw0", f"t{n}", 2.0, failed=False)
    assert made.left(0.0, 2) == pytest.approx(5.0)
    # Beside known ones, the average of those does for a start.
    made = forecast({"a": 3.0, "b": 1.0}, "a", "b", "new")
    assert made.left(0.0, 1) == pytest.approx(6.0)


def test_an_item_that_runs_again_and_a_worker_that_is_gone_are_no_riddle() -> None:
    made = forecast({"a": 1.0})
    made.started("gw0", "a", 0.0)
    made.gone("gw0")
    made.started("gw1", "a", 1.0)
    made.ended("gw1", "a", 1.0, failed=False)
    made.gone("gw1")
    assert (made.done, made.left(2.0, 1), made.slowest()) == (1, 0.0, None)


def test_only_the_first_collection_counts_and_without_one_nothing_is_known() -> None:
    made = Forecast({"a": 1.0})
    assert made.left(0.0, 2) is None
    made.collected(["a"])
    made.collected(["a", "b"])
    assert made.total == 1
    assert made.left(0.0, 0) is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "1 s"), (4.4, "4 s"), (41.0, "40 s"), (88.0, "90 s"), (100.0, "2 min"),
     (1800.0, "30 min"), (9000.0, "2.5 h")],
)  # fmt: skip
def test_a_time_is_said_no_more_precisely_than_it_is_known(seconds: float, said: str) -> None:
    assert spoken(seconds) == said


def test_the_line_fits_and_names_what_has_been_running_for_long() -> None:
    name = "tests/shop/test_checkout.py::test_everything[postgres-2]"
    made = forecast({"a": 30.0, name: 10.0})
    assert progress(made, 0.0, 2) == "0 of 2 tests, 30 s left"
    made.started("gw0", name, 0.0)
    assert status_line(made, 4.0, 2, 120) == "0 of 2 tests, 30 s left"
    assert status_line(made, 12.0, 2, 120) == f"0 of 2 tests, 30 s left   {name} (10 s)"
    cut = status_line(made, 12.0, 2, 60)
    assert len(cut) < 60
    assert cut.startswith("0 of 2 tests, 30 s left   …")
    assert cut.endswith("[postgres-2] (10 s)")
    for width in range(4, 120):
        assert len(status_line(made, 12.0, 2, width)) < width
    made.ended("gw0", name, 12.0, failed=True)
    assert progress(made, 12.0, 2).startswith("1 of 2 tests, 1 failed, ")
    made.ended("gw0", "a", 30.0, failed=False)
    assert progress(made, 42.0, 2) == "2 of 2 tests, 1 failed"
