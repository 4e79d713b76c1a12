"""`WorkerPool.map`: order, windows, chunks, limits, and iterables that misbehave."""

from __future__ import annotations

import itertools
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapfarm import WorkerPool
from snapfarm.errors import TaskUnshippable
from snapfarm.pool import mapping
from support.pool import golden, wait_until
from support.pool_tasks import LIMIT, echo, hold, rows


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(golden(), 2, 2) as running:
        yield running


def double(conn: sqlite3.Connection, value: int) -> int:
    return 2 * value


def divide(conn: sqlite3.Connection, value: int) -> int:
    return 4 // value


def pair(conn: sqlite3.Connection, left: object, right: object) -> tuple[object, object]:
    return left, right


@pytest.mark.parametrize("chunksize", [None, 1, 7, 1000])
def test_results_come_in_order(pool: WorkerPool, chunksize: int | None) -> None:
    expected = [2 * n for n in range(500)]
    assert list(pool.map(double, range(500), chunksize=chunksize)) == expected
    assert list(pool.map(double, iter(range(500)), chunksize=chunksize)) == expected


def test_iterables_end_with_the_shortest(pool: WorkerPool) -> None:
    assert list(pool.map(rows)) == []
    assert list(pool.map(echo, [])) == []
    assert list(pool.map(echo, iter(()))) == []
    assert list(pool.map(pair, [1, 2, 3], "ab")) == [(1, "a"), (2, "b")]
    assert list(pool.map(pair, itertools.count(), [])) == []
    assert list(pool.map(pair, itertools.count(), {"k": 1})) == [(0, "k")]


def test_what_an_iterable_held_at_the_call_is_what_counts(pool: WorkerPool) -> None:
    values = list(range(200))
    results = pool.map(echo, values, chunksize=1)
    values.clear()
    assert list(results) == list(range(200))


@pytest.mark.parametrize("chunksize", [None, 1, 10])
def test_an_endless_generator_is_taken_as_its_results_are(
    pool: WorkerPool, chunksize: int | None
) -> None:
    taken = itertools.count()
    results = pool.map(double, taken, chunksize=chunksize)
    assert list(itertools.islice(results, 300)) == [2 * n for n in range(300)]
    results.close()
    before = pool.statistics()
    # The window, and the chunk whose results are being taken.
    assert next(taken) <= (12 + 1) * mapping._MOST_CALLS + 300
    wait_until(lambda: not pool.statistics().pending)
    assert pool.statistics().submitted == before.submitted


def test_results_are_a_generator(pool: WorkerPool) -> None:
    results = pool.map(double, range(10), chunksize=3)
    assert next(results) == 0
    assert list(itertools.islice(results, 3)) == [2, 4, 6]
    assert results.send(None) == 8
    assert [value for value in results if value > 12] == [14, 16, 18]
    assert next(results, "no more") == "no more"

    # An exception comes in its turn, and is the last.
    failing = pool.map(divide, [4, 2, 1, 0, 1, 2], chunksize=4)
    assert list(itertools.islice(failing, 3)) == [1, 2, 4]
    with pytest.raises(ZeroDivisionError):
        next(failing)
    assert list(failing) == []

    closed = pool.map(double, itertools.count(), chunksize=5)
    assert next(closed) == 0
    with pytest.raises(KeyError, match="mine"):
        closed.throw(KeyError("mine"))
    assert list(closed) == []
    closed.close()
    wait_until(lambda: not pool.statistics().pending)

    # Whoever drops them, and the loop over them, wants no more of them.
    for value in pool.map(double, itertools.count(), chunksize=5):
        if value == 20:
            break
    wait_until(lambda: not pool.statistics().pending)


@pytest.mark.parametrize("buffersize", [1, 5, 40])
@pytest.mark.parametrize("chunksize", [None, 3])
def test_no_more_calls_are_taken_than_the_buffer_has_room_for(
    pool: WorkerPool, buffersize: int, chunksize: int | None
) -> None:
    taken = 0

    def numbers() -> Iterator[int]:
        nonlocal taken
        for n in range(200):
            taken += 1
            yield n

    results = pool.map(echo, numbers(), buffersize=buffersize, chunksize=chunksize)
    for number, result in enumerate(results):
        assert result == number
        # The one that was just yielded makes room, as in the standard library.
        assert taken - number <= buffersize + 1
    assert number == 199


def test_a_buffer_is_no_obstacle_for_lists(pool: WorkerPool) -> None:
    assert list(pool.map(echo, list(range(50)), buffersize=4)) == list(range(50))


def test_bad_sizes_are_refused_as_in_the_standard_library(pool: WorkerPool) -> None:
    with pytest.raises(ValueError, match="chunksize"):
        pool.map(echo, [1], chunksize=0)
    with pytest.raises(ValueError, match="buffersize"):
        pool.map(echo, [1], buffersize=0)
    with pytest.raises(TypeError, match="not iterable"):
        pool.map(echo, 5)  # type: ignore[call-overload]  # what it refuses


def test_the_time_limit_counts_from_the_call(pool: WorkerPool, tmp_path: Path) -> None:
    results = pool.map(hold, [str(tmp_path)], timeout=0.05)
    with pytest.raises(TimeoutError):
        next(results)
    (tmp_path / "go").touch()
    wait_until(lambda: not pool.statistics().pending)


@pytest.mark.parametrize("chunksize", [None, 1, 4])
def test_a_task_that_raises_ends_the_map_in_its_turn(
    pool: WorkerPool, chunksize: int | None
) -> None:
    def inverse(conn: sqlite3.Connection, value: int) -> float:
        return 1 / value

    results = pool.map(inverse, [1, 2, 4, 5, 0, 8, 9, 10], chunksize=chunksize)
    found: list[float] = []
    with pytest.raises(ZeroDivisionError):
        found.extend(results)
    assert found == [1, 0.5, 0.25, 0.2]
    with pytest.raises(StopIteration):
        next(results)


def test_an_argument_that_cant_be_shipped_lets_those_before_it_run(pool: WorkerPool) -> None:
    bad = (n for n in range(3))
    arguments: list[object] = [*range(600), bad, *range(10)]
    for given in (arguments, iter(arguments)):
        results = pool.map(echo, given, chunksize=4)
        found: list[object] = []
        with pytest.raises(TaskUnshippable, match="argument 1 can't be shipped: a generator"):
            found.extend(results)
        assert found == list(range(600))
    with pytest.raises(TaskUnshippable, match="argument 1"):
        list(pool.map(echo, [1, bad]))
    wait_until(lambda: not pool.statistics().pending)


def test_a_generator_that_raises_does_so_after_the_results_before_it(pool: WorkerPool) -> None:
    def numbers() -> Iterator[int]:
        yield from range(602)
        raise RuntimeError("no more numbers")

    results = pool.map(echo, numbers(), chunksize=4)
    found: list[object] = []
    with pytest.raises(RuntimeError, match="no more numbers"):
        found.extend(results)
    assert found == list(range(602))

    with pytest.raises(ZeroDivisionError):
        pool.map(echo, (1 // n for n in range(3)))


def test_a_generator_may_use_the_pool(pool: WorkerPool) -> None:
    def numbers() -> Iterator[object]:
        for n in range(30):
            yield pool.submit(echo, n).result(LIMIT)

    assert list(pool.map(double, numbers())) == [2 * n for n in range(30)]
    nested = pool.map(double, pool.map(double, range(30)))
    assert list(nested) == [4 * n for n in range(30)]


def test_a_generator_that_blocks_keeps_nobody_else(pool: WorkerPool) -> None:
    go_on = threading.Event()

    def numbers() -> Iterator[int]:
        yield 1
        assert go_on.wait(LIMIT)
        yield 2

    found: list[int] = []
    thread = threading.Thread(target=lambda: found.extend(pool.map(double, numbers())))
    thread.start()
    assert pool.submit(echo, 5).result(LIMIT) == 5
    assert list(pool.map(double, range(100))) == [2 * n for n in range(100)]
    go_on.set()
    thread.join(LIMIT)
    assert found == [2, 4]


def test_a_map_that_nobody_reads_is_run_to_its_end(pool: WorkerPool) -> None:
    before = pool.statistics().done
    results = pool.map(double, range(3000), chunksize=1)
    wait_until(lambda: pool.statistics().done - before == 3000)
    assert list(results) == [2 * n for n in range(3000)]
