"""Rates with their interval, signatures, clusters, and the orders of a hunt."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapfarm.flakes import orders
from snapfarm.flakes.rates import Rate
from snapfarm.flakes.signature import Signature, clusters, innermost, named, normalized


@pytest.mark.parametrize(
    ("failures", "runs", "low", "high"),
    # From published tables of Wilson's interval without continuity correction.
    [
        (3, 40, 0.0258, 0.1986),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (50, 100, 0.4038, 0.5962),
    ],
)
def test_wilson(failures: int, runs: int, low: float, high: float) -> None:
    assert Rate(failures, runs).interval() == pytest.approx((low, high), abs=1e-4)


def test_a_rate_is_shown_with_its_interval() -> None:
    assert str(Rate(3, 40)) == "3 of 40, 95 % 2.6-19.9 %"
    assert Rate(0, 0).interval() == (0.0, 1.0)


@given(st.integers(0, 200), st.integers(1, 200))
def test_an_interval_holds_its_rate(failures: int, more: int) -> None:
    rate = Rate(failures, failures + more)
    low, high = rate.interval()
    assert 0 <= low <= failures / rate.runs <= high <= 1
    wider_low, wider_high = rate.interval(z=3.0)
    assert wider_low <= low <= high <= wider_high


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<Shop object at 0x7f3a2c> has 12 items", "<Shop object at <address>> has <n> items"),
        ("no file /tmp/pytest-of-me/pytest-3/x0/a.db", "no file <path>"),
        ("id 123e4567-e89b-12d3-a456-426614174000 is gone", "id <uuid> is gone"),
        ("took 1.25e-3 s,\n   not 2", "took <n> s, not <n>"),
        ("digest deadbeef0123456789ab", "digest <digest>"),
        ("facade decade", "facade decade"),
    ],
)
def test_a_message_is_normalised(text: str, shown: str) -> None:
    assert normalized(text) == shown
    assert normalized(shown) == shown


@pytest.mark.parametrize(
    ("text", "exception", "message"),
    [
        ("ValueError: no such: x", "ValueError", "no such: x"),
        ("sqlite3.OperationalError: database is locked", "OperationalError", "database is locked"),
        ("assert 1 == 2", "AssertionError", "assert 1 == 2"),
        ("KeyError", "KeyError", ""),
        ("something odd", "failure", "something odd"),
        ("note: it failed", "failure", "note: it failed"),
        ("", "failure", ""),
    ],
)
def test_an_exception_is_named(text: str, exception: str, message: str) -> None:
    assert named(text) == (exception, message)


def test_the_innermost_frame_of_the_project_counts() -> None:
    root = Path("/work/shop")
    frames = [
        ("tests/test_a.py", 3),
        ("/work/shop/shop/cart.py", 7),
        ("/work/shop/.venv/lib/python3.11/site-packages/lib/x.py", 1),
        ("/usr/lib/python3.11/json/decoder.py", 9),
    ]
    assert innermost(frames, root) == "shop/cart.py:7"
    assert innermost(frames[2:], root) == ""


def test_failures_of_one_signature_are_a_cluster() -> None:
    locked = Signature("OperationalError", "database is locked", "db.py:7")
    moved = Signature("OperationalError", "database is locked", "db.py:9")
    other = Signature("KeyError", "'x'", "a.py:1")
    found = clusters({"a": other, "b": locked, "c": moved})
    assert found == [(locked, ("b", "c")), (other, ("a",))]


# ---------------------------------------------------------------- orders


@given(st.integers(0, 9), st.integers(0, 99))
def test_every_round_is_an_order_of_all_tests(count: int, seed: int) -> None:
    tests = [f"t{number}" for number in range(count)]
    rounds = list(itertools.islice(orders.orders(tests, seed), 12))
    assert all(sorted(order) == sorted(tests) for order in rounds)
    assert rounds == list(itertools.islice(orders.orders(tests, seed), 12))


@pytest.mark.parametrize("count", [2, 3, 4, 7, 8, 13])
def test_two_rounds_cover_all_pairs_and_all_rows_all_neighbours(count: int) -> None:
    tests = [f"t{number}" for number in range(count)]
    first = list(itertools.islice(orders.orders(tests, 1), 2))
    assert orders.pairs_covered(first) == count * (count - 1)
    assert orders.pairs_covered(first[:1]) == count * (count - 1) // 2
    rows = [orders.williams_row(tests, row) for row in range(count * (1 + count % 2))]
    neighbours = [pair for row in rows for pair in itertools.pairwise(row)]
    assert set(neighbours) == set(itertools.permutations(tests, 2))
    times = {neighbours.count(pair) for pair in set(neighbours)}
    assert times == ({2} if count % 2 else {1})


@pytest.mark.parametrize("rows", [1, 2, 3, 10, 24, 97])
def test_rows_are_spread_and_each_comes_once(rows: int) -> None:
    assert sorted(orders.spread(rows)) == list(range(rows))
