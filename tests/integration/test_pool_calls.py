"""What comes back from a pool's tasks: results, exceptions, buffers, and what can't travel."""

from __future__ import annotations

import asyncio
import concurrent.futures
import re
import sqlite3
import threading
from collections.abc import Iterator

import pytest

from snapfarm import WorkerPool
from snapfarm.errors import ResultUnshippable, TaskUnshippable
from snapfarm_worker.errors import RemoteTraceback, TaskError
from snapfarm_worker.tasks import current_task
from support import pool_tasks
from support.pool import golden
from support.pool_tasks import LIMIT, Block, echo, fail_as, flip, home_refuses, rows

#: Results of more bytes are refused here.
MOST = 1_000_000


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(golden(), 2, 2, max_result_size=MOST) as running:
        yield running


def test_futures_are_those_of_the_standard_library(pool: WorkerPool) -> None:
    futures = [pool.submit(echo, n) for n in range(20)]
    assert isinstance(futures[0], concurrent.futures.Future)
    done, left = concurrent.futures.wait(futures, LIMIT)
    assert (len(done), len(left)) == (20, 0)
    results = {future.result() for future in concurrent.futures.as_completed(futures, LIMIT)}
    assert results == set(range(20))

    async def gathered() -> list[object]:
        return await asyncio.gather(
            *(asyncio.wrap_future(pool.submit(echo, n)) for n in range(5)),
        )

    assert asyncio.run(gathered()) == [0, 1, 2, 3, 4]


def test_any_callable_that_dill_can_ship_is_a_task(pool: WorkerPool) -> None:
    factor = 3

    def closure(conn: sqlite3.Connection, value: int, *, plus: int = 0) -> int:
        return rows(conn, "items") * factor * value + plus

    class Adder:
        def __init__(self, number: int) -> None:
            self.number = number

        def __call__(self, conn: sqlite3.Connection, value: int) -> int:
            return self.number + value

        def method(self, conn: sqlite3.Connection) -> int:
            return self.number

    assert pool.submit(closure, 2, plus=1).result(LIMIT) == 19
    assert pool.submit(lambda conn: conn.total_changes).result(LIMIT) == 0
    assert pool.submit(Adder(4), 3).result(LIMIT) == 7
    assert pool.submit(Adder(4).method).result(LIMIT) == 4


def test_a_task_knows_what_it_is(pool: WorkerPool) -> None:
    def context(conn: sqlite3.Connection, n: int) -> tuple[str, int, int, list[str]]:
        task = current_task()
        return task.name, n, task.attempt, list(task.uris)

    found = list(pool.map(context, range(5), chunksize=5))
    assert [re.sub(r".*<locals>\.", "", name) for name, *_ in found] == [
        f"context[{n}]" for n in range(5)
    ]
    assert [rest for _, *rest in found] == [[n, 1, ["default"]] for n in range(5)]
    with pytest.raises(LookupError):
        current_task()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("liar", pool_tasks.Liar),
        ("mute", pool_tasks.Mute),
        ("group", ExceptionGroup),
        ("exit", SystemExit),
        ("surrogate", ValueError),
        ("rude", pool_tasks.Rude),
    ],
)
def test_an_exception_arrives_as_itself(
    pool: WorkerPool, kind: str, expected: type[BaseException]
) -> None:
    error = pool.submit(fail_as, kind).exception(LIMIT)
    assert type(error) is expected
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "in fail_as" in str(error.__cause__)
    if isinstance(error, pool_tasks.Liar):
        assert (error.code, error.where, str(error)) == (7, "home", "code 7 at home")


def test_an_exception_that_cant_travel_arrives_as_its_text(pool: WorkerPool) -> None:
    error = pool.submit(fail_as, "unpicklable").exception(LIMIT)
    assert isinstance(error, TaskError)
    assert "Unpicklable" in str(error)
    assert "some words" in str(error)
    assert "in fail_as" in str(error.__cause__)


def test_what_cant_be_shipped_fails_at_submit_and_is_named(pool: WorkerPool) -> None:
    numbers = (n for n in range(3))

    class Config:
        def __init__(self) -> None:
            self.deep = {"source": numbers}

    with pytest.raises(TaskUnshippable, match=r"lambda.*'numbers', a generator"):
        pool.submit(lambda conn: numbers)
    with pytest.raises(TaskUnshippable, match=r"argument 2 .*deep\['source'\] is a generator"):
        pool.submit(echo, 1, Config())
    with pytest.raises(TaskUnshippable, match=r"argument 'value' can't be shipped: a generator"):
        pool.submit(echo, value=numbers)
    with pytest.raises(TaskUnshippable, match=r"'pool', .*WorkerPool: .* stays with its process"):
        pool.submit(lambda conn: pool)
    with pytest.raises(TypeError, match="a task is a callable"):
        pool.submit("echo")
    assert pool.submit(echo, 1).result(LIMIT) == 1


def test_a_result_that_cant_travel_is_an_error(pool: WorkerPool) -> None:
    future = pool.submit(lambda conn: (n for n in range(3)))
    with pytest.raises(ResultUnshippable, match=r"lambda.*can't travel back.*generator"):
        future.result(LIMIT)


def test_a_result_over_the_limit_fails_alone_in_its_chunk(pool: WorkerPool) -> None:
    def sized(conn: sqlite3.Connection, size: int) -> bytes:
        if size < 0:
            raise ValueError(size)
        return bytes(size)

    results = pool.map(sized, [1, MOST + 1, 2], chunksize=3)
    assert next(results) == bytes(1)
    with pytest.raises(ResultUnshippable, match=rf"sized\[1\].*max_result_size allows {MOST}"):
        next(results)
    # Together they are over the limit; none of them is.
    assert [len(each) for each in pool.map(sized, [MOST // 2] * 3, chunksize=3)] == [MOST // 2] * 3
    with pytest.raises(ValueError, match="-1"):
        list(pool.map(sized, [1, -1, MOST + 1], chunksize=3))


@pytest.mark.parametrize("kind", ["ValueError", "SystemExit"])
def test_a_result_that_cant_be_unpacked_here_is_an_error(pool: WorkerPool, kind: str) -> None:
    future = pool.submit(home_refuses, kind)
    with pytest.raises(ResultUnshippable, match=f"can't be unpacked here: {kind}: unpacked"):
        future.result(LIMIT)
    assert pool.submit(echo, 1).result(LIMIT) == 1


def test_large_buffers_travel_in_frames_of_their_own(pool: WorkerPool) -> None:
    data = bytearray(b"a" + bytes(200_000) + b"z")
    out_of_band, block = pool.submit(flip, Block(data)).result(LIMIT)
    assert out_of_band
    assert isinstance(block.data, memoryview)
    assert bytes(block.data) == bytes(data)[::-1]
    assert not pool.submit(flip, Block(bytearray(10))).result(LIMIT)[1].data[5]


def test_a_class_of_the_script_is_one_class_in_the_task(pool: WorkerPool) -> None:
    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

    def moved(conn: sqlite3.Connection, point: Point) -> bool:
        return isinstance(point, Point) and type(point) is Point

    assert pool.submit(moved, Point(1)).result(LIMIT)
    assert all(pool.map(moved, map(Point, range(10)), chunksize=3))
    Point.__doc__ = "changed"
    assert pool.submit(moved, Point(1)).result(LIMIT)


def test_functions_are_shipped_anew_when_what_they_use_has_changed(pool: WorkerPool) -> None:
    offset = 1

    def add(conn: sqlite3.Connection, value: int) -> int:
        return value + offset

    assert pool.submit(add, 1).result(LIMIT) == 2
    offset = 10
    assert pool.submit(add, 1).result(LIMIT) == 11


def test_output_of_tasks_is_shown_even_where_nobody_looks(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io
    import sys

    closed = io.StringIO()
    closed.close()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", closed)
        pool.submit(lambda conn: print("into the void", flush=True)).result(LIMIT)
        assert pool.submit(echo, 1).result(LIMIT) == 1
    assert pool.submit(echo, 2).result(LIMIT) == 2


def test_tasks_are_submitted_by_several_threads_and_by_callbacks(pool: WorkerPool) -> None:
    results: list[object] = []
    finished = threading.Event()

    def again(future: concurrent.futures.Future[object]) -> None:
        results.append(future.result())
        if len(results) < 3:
            pool.submit(echo, len(results)).add_done_callback(again)
        else:
            finished.set()

    pool.submit(echo, 0).add_done_callback(again)
    assert finished.wait(LIMIT)
    assert results == [0, 1, 2]

    found: dict[int, list[object]] = {}

    def submits(number: int) -> None:
        futures = [pool.submit(echo, (number, n)) for n in range(50)]
        found[number] = [future.result(LIMIT) for future in futures]

    threads = [threading.Thread(target=submits, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert found == {number: [(number, n) for n in range(50)] for number in range(4)}
