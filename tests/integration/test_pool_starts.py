"""Pools that begin badly, end early, or are told to end at an odd moment."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import NoReturn

import pytest

from snapfarm import Golden, WorkerPool
from snapfarm.errors import LaunchError, PoolBroken
from snapfarm.launch.local import LocalWorker
from support.pool import golden, wait_until
from support.pool_tasks import LIMIT, echo, hold, rows


@pytest.fixture(scope="module")
def database() -> Golden:
    return golden()


def broken(pool: WorkerPool, task: Callable[..., object] | str = echo) -> str:
    """Return what a pool says that breaks at its start, the same at every place."""
    with pool:
        try:
            first: BaseException | None = pool.submit(task).exception(LIMIT)
        except PoolBroken as error:
            first = error
        assert isinstance(first, PoolBroken)
        with pytest.raises(PoolBroken) as caught:
            wait_until(lambda: pool.submit(task).exception(LIMIT) is None)
        with pytest.raises(PoolBroken):
            pool.map(task, [1])
    assert "every worker died before it was ready" in str(first)
    return str(caught.value)


def raises(text: str) -> NoReturn:
    raise ValueError(text)


def test_an_initializer_runs_once_in_each_worker(database: Golden) -> None:
    def initialize(value: str) -> None:
        os.environ["INITIALIZED"] = os.environ.get("INITIALIZED", "") + value

    with WorkerPool(database, 1, 2, initializer=initialize, initargs=("x",)) as pool:
        assert pool.submit(lambda conn: os.environ["INITIALIZED"]).result(LIMIT) == "x"


def test_an_initializer_that_raises_breaks_the_pool_with_its_traceback(database: Golden) -> None:
    words = broken(WorkerPool(database, 2, initializer=raises, initargs=("bad start",)))
    assert "in its initializer" in words
    assert "ValueError: bad start" in words
    assert words.count("bad start") == 1  # both workers said the same


def test_an_initializer_that_exits_breaks_the_pool(database: Golden) -> None:
    assert "exit status 5" in broken(WorkerPool(database, 1, initializer=lambda: os._exit(5)))


def test_an_initializer_that_fails_with_a_thread_left_behind_breaks_the_pool(
    database: Golden,
) -> None:
    def fails() -> None:
        threading.Thread(target=time.sleep, args=(3600,)).start()
        raise ValueError("with a thread")

    assert "with a thread" in broken(WorkerPool(database, 1, initializer=fails))


def test_a_task_that_no_worker_can_import_breaks_the_pool(database: Golden) -> None:
    name = "support.pool_tasks:no_such"
    assert "no attribute 'no_such'" in broken(WorkerPool(database, 1, tasks=[name]), name)


def test_workers_that_cant_be_started_fail_the_constructor(
    database: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: LocalWorker, spec: object, method: str) -> None:
        raise LaunchError("no room for a process")

    with monkeypatch.context() as patch:
        patch.setattr(LocalWorker, "__init__", fails)
        with pytest.raises(LaunchError, match="no room for a process"):
            WorkerPool(database, 2)


def test_a_function_that_a_worker_cant_import_fails_its_calls(
    database: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text(
        f"import os\nif os.getpid() != {os.getpid()}: raise ImportError('not for you')\n"
        "def task(conn): return 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import only_here  # type: ignore[import-not-found]  # made by the test

    with WorkerPool(database, 1) as pool:
        error = pool.submit(only_here.task).exception(LIMIT)
        assert isinstance(error, ImportError)
        assert str(error) == "not for you"
        assert pool.submit(echo, 1).result(LIMIT) == 1


def test_shutdown_while_the_database_is_still_on_its_way(database: Golden) -> None:
    large = golden("large", "CREATE TABLE t AS SELECT randomblob(16000000) AS x;")
    pool = WorkerPool({"large": large, "small": database}, 2)
    future = pool.submit(lambda conns: rows(conns["small"], "items"))
    pool.shutdown()
    assert future.result(0) == 3
    WorkerPool(large, 2).shutdown()
    cancelled = WorkerPool(large, 2)
    futures = [cancelled.submit(echo, n) for n in range(5)]
    cancelled.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in futures)


def test_after_shutdown_nothing_is_taken_and_all_is_done(database: Golden, tmp_path: Path) -> None:
    pool = WorkerPool(database, 1, 1)
    held = pool.submit(hold, str(tmp_path))
    waiting = [pool.submit(echo, n) for n in range(20)]
    wait_until((tmp_path / "held").exists)
    pool.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(echo)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.map(echo, [1])
    (tmp_path / "go").touch()
    assert held.result(LIMIT) == "held"
    assert [future.result(LIMIT) for future in waiting] == list(range(20))
    pool.shutdown()
    pool.shutdown()


def test_cancelled_futures_are_those_that_had_not_begun(database: Golden, tmp_path: Path) -> None:
    pool = WorkerPool(database, 1, 1)
    held = pool.submit(hold, str(tmp_path))
    waiting = [pool.submit(echo, n) for n in range(50)]
    results = pool.map(echo, range(500), chunksize=1)
    wait_until((tmp_path / "held").exists)
    assert not held.cancel()
    assert waiting[-1].cancel()
    pool.shutdown(wait=False, cancel_futures=True)
    (tmp_path / "go").touch()
    assert held.result(LIMIT) == "held"
    # Some were on the worker already.
    outcomes = [future.cancelled() or future.result(LIMIT) for future in waiting]
    assert outcomes[-1] is True
    with pytest.raises((CancelledError, RuntimeError)):
        list(results)
    pool.shutdown()
    figures = pool.statistics()
    assert figures.pending == 0
    assert figures.cancelled >= outcomes.count(True)


def test_a_callback_may_shut_its_pool_down(database: Golden) -> None:
    pool = WorkerPool(database, 1, 1)
    futures = [pool.submit(echo, n) for n in range(10)]
    seen = threading.Event()

    def ends(future: Future[object]) -> None:
        pool.shutdown()
        seen.set()

    futures[0].add_done_callback(ends)
    assert seen.wait(LIMIT)
    assert [future.result(LIMIT) for future in futures] == list(range(10))
    pool.shutdown()


def test_a_pool_may_be_used_in_a_task(database: Golden) -> None:
    def nested(conn: sqlite3.Connection) -> list[object]:
        with WorkerPool(Golden.of(conn), 1, start_method="fork") as inner:
            return list(inner.map(echo, range(3), chunksize=1))

    def forked_before(conn: sqlite3.Connection) -> int:
        if pid := os.fork():
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os._exit(0)

    with WorkerPool(database, 1) as pool:
        assert pool.submit(forked_before).result(LIMIT) == 0
        assert pool.submit(nested).result(LIMIT) == [0, 1, 2]
