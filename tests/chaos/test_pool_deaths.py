"""Workers of a pool that die, hang or fork: exactly the calls that ran are to blame."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, wait
from pathlib import Path

import pytest

from snapfarm import WorkerPool, hub
from snapfarm.errors import TaskTimeout, WorkerCrashed
from support.pool import golden, wait_until
from support.pool_tasks import (
    LIMIT,
    die,
    die_at,
    echo,
    hold,
    leave_process,
    outlast,
    rows,
    stick,
    write,
)


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(golden(), 2, 2) as running:
        yield running


def kill_one(pool: WorkerPool, chance: random.Random) -> None:
    """Kill one of the workers that are not known to be dead."""
    pids = [each.pid for each in pool.statistics().workers if each.pid and not each.death]
    if pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(pids), signal.SIGKILL)


# ------------------------------------------------------------------ one death


def test_a_worker_that_is_killed_fails_what_its_threads_ran(
    pool: WorkerPool, tmp_path: Path
) -> None:
    held = [pool.submit(hold, str(tmp_path), f"held{n}") for n in range(4)]
    files = [tmp_path / f"held{n}" for n in range(4)]
    wait_until(lambda: all(file.exists() and file.read_text() for file in files))
    waiting = [pool.submit(echo, n) for n in range(20)]
    victim = int(files[0].read_text())
    os.kill(victim, signal.SIGKILL)
    lost = [n for n in range(4) if int(files[n].read_text()) == victim]
    for n in lost:
        error = held[n].exception(LIMIT)
        assert isinstance(error, WorkerCrashed)
        assert error.exit_code == -signal.SIGKILL
        assert error.cause == "signal SIGKILL"
        assert error.retryable
        assert error.attempts == 1
        assert "hold[" in error.task
    (tmp_path / "go").touch()
    assert [future.result(LIMIT) for future in waiting] == list(range(20))
    for n in set(range(4)) - set(lost):
        assert held[n].result(LIMIT) == f"held{n}"


def test_a_task_that_ends_its_process_is_told_with_its_last_words(pool: WorkerPool) -> None:
    error = pool.submit(leave_process, 23).exception(LIMIT)
    assert isinstance(error, WorkerCrashed)
    assert error.exit_code == 23
    assert not error.retryable
    assert "these are my last words" in error.output
    assert "these are my last words" in str(error)
    assert isinstance(pool.submit(lambda conn: sys.exit(4)).exception(LIMIT), SystemExit)


@pytest.fixture(scope="module")
def single() -> Iterator[WorkerPool]:
    """A pool whose workers run one call at a time: nobody dies beside another."""
    with WorkerPool(golden(), 2, 1) as running:
        yield running


@pytest.mark.parametrize("chunksize", [1, 7, 20])
def test_of_a_chunk_only_the_call_that_killed_its_worker_fails(
    single: WorkerPool, chunksize: int
) -> None:
    pool = single
    before = pool.statistics()
    results = pool.map(die_at, range(20), [9] * 20, chunksize=chunksize)
    found: list[int] = []
    with pytest.raises(WorkerCrashed) as caught:
        found.extend(results)
    assert found == list(range(9))
    assert caught.value.task.endswith("die_at[9]")
    wait_until(lambda: not pool.statistics().pending)
    after = pool.statistics()
    assert after.crashed - before.crashed == 1
    # What was cancelled since nobody could read it any more was not run.
    ended = after.done - before.done + after.cancelled - before.cancelled
    assert ended == after.submitted - before.submitted - 1


def test_calls_keep_their_names_after_a_crash(pool: WorkerPool) -> None:
    def named(conn: sqlite3.Connection, n: int) -> str:
        from snapfarm_worker.tasks import current_task

        if n == 3:
            die(conn)
        return current_task().name.rpartition("[")[2]

    results = pool.map(named, range(8), chunksize=8)
    assert [next(results) for _ in range(3)] == ["0]", "1]", "2]"]
    results = pool.map(named, [0, 1, 2, 4, 5], chunksize=8)
    assert list(results) == [f"{n}]" for n in range(5)]


def test_retries_run_a_call_again(tmp_path: Path) -> None:
    once = str(tmp_path / "once")
    with WorkerPool(golden(), 1, 2, retries=2) as pool:
        results = pool.map(die_at, range(10), [4] * 10, [once] * 10, chunksize=10)
        assert list(results) == list(range(10))
        assert pool.statistics().retried == 1
        error = pool.submit(die).exception(LIMIT)
        assert isinstance(error, WorkerCrashed)
        assert error.attempts == 3
        assert "2 earlier attempts" in str(error)
        figures = pool.statistics()
    assert (figures.retried, figures.crashed, figures.done) == (3, 1, 10)
    assert "retried" in str(pool.report())


class KillsWhoUnpacks:
    """Kills the worker that unpacks it."""

    def __init__(self) -> None:
        self.maker = os.getpid()

    def __setstate__(self, state: dict[str, int]) -> None:
        if state["maker"] != os.getpid():
            os._exit(9)


def test_arguments_that_kill_who_unpacks_them_blame_their_chunk(pool: WorkerPool) -> None:
    before = pool.statistics().crashed
    results = pool.map(echo, [1, KillsWhoUnpacks(), 3], chunksize=3)
    with pytest.raises(WorkerCrashed):
        list(results)
    assert pool.statistics().crashed - before == 3
    assert pool.submit(echo, 1).result(LIMIT) == 1


def test_a_lane_that_fails_takes_its_worker_along_and_blames_its_task(pool: WorkerPool) -> None:
    def breaks_its_lane(conn: sqlite3.Connection) -> None:
        from snapfarm_worker import tasks

        def fails(*args: object) -> None:
            raise OSError("no way home")

        lane: tasks.Lane = tasks._here.lane
        lane._runner.link.send = fails  # type: ignore[assignment, method-assign]  # patched for the test

    error = pool.submit(breaks_its_lane).exception(LIMIT)
    assert isinstance(error, WorkerCrashed)
    assert "OSError: no way home" in error.output
    assert pool.submit(echo, 1).result(LIMIT) == 1


# ------------------------------------------------------------------ time limits


def test_a_stuck_task_is_ended_with_the_stacks_of_its_threads() -> None:
    with WorkerPool(golden(), 1, 2, task_timeout=1.0) as pool:
        error = pool.submit(stick).exception(LIMIT)
        assert isinstance(error, TaskTimeout)
        assert isinstance(error, TimeoutError)
        assert error.seconds == 1.0
        assert "in stick" in error.stacks
        assert "in stick" in str(error)
        assert pool.submit(echo, 1).result(LIMIT) == 1
        # The limit is one for each call, not for a chunk of them.
        slow = pool.map(lambda conn, _: time.sleep(0.1), range(16), chunksize=16)
        assert list(slow) == [None] * 16


def test_a_stopped_worker_is_replaced() -> None:
    with WorkerPool(golden(), 1, 1, heartbeat_timeout=0.5) as pool:
        error = pool.submit(die, signal.SIGSTOP).exception(LIMIT)
        assert isinstance(error, WorkerCrashed)
        assert "SIGSTOP" in error.cause
        assert pool.submit(echo, 1).result(LIMIT) == 1


# ------------------------------------------------------------------ what tasks do to their process


@pytest.mark.parametrize(
    ("way", "status"),
    [("return", 0), ("raise", 1), ("sys.exit", 5), ("exit text", 1), ("_exit", 7)],
)
def test_a_child_that_a_task_forks_has_no_part_in_the_pool(
    pool: WorkerPool, way: str, status: int
) -> None:
    def forks(conn: sqlite3.Connection, way: str) -> int | str:
        if pid := os.fork():
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        match way:
            case "raise":
                raise ValueError("in the child")
            case "sys.exit":
                sys.exit(5)
            case "exit text":
                sys.exit("words")
            case "_exit":
                os._exit(7)
        return "the child came back"

    assert pool.submit(forks, way).result(LIMIT) == status
    assert list(pool.map(forks, [way] * 3, chunksize=3)) == [status] * 3
    assert pool.submit(echo, 1).result(LIMIT) == 1


def test_threads_of_a_task_may_outlive_it_but_not_the_worker(tmp_path: Path) -> None:
    def starts(conn: sqlite3.Connection, folder: str) -> int:
        threading.Thread(target=hold, args=(conn, folder)).start()
        return os.getpid()

    pool = WorkerPool(golden(), 1, 1)
    pid = pool.submit(starts, str(tmp_path)).result(LIMIT)
    assert pool.submit(echo, 1).result(LIMIT) == 1
    (tmp_path / "go").touch()
    pool.shutdown()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


# ------------------------------------------------------------------ many


def test_every_call_is_accounted_for_once_while_workers_are_killed() -> None:
    """100 000 calls, and one of 4 x 4 threads' workers is killed after every few thousand."""
    count, kill_every = 100_000, 8_000
    chance = random.Random(7)
    outcomes: Counter[str] = Counter()
    blamed: list[tuple[str, str]] = []
    with WorkerPool(golden(), 4, 4) as pool:
        at = 0
        while at < count:
            # A map ends with its first failure: go on behind that.
            start = at
            results = pool.map(echo, iter(range(at, count)), chunksize=250)
            try:
                for result in results:
                    assert result == at
                    outcomes["done"] += 1
                    at += 1
                    if at % kill_every == 0:
                        kill_one(pool, chance)
            except WorkerCrashed as error:
                blamed.append((error.task.rpartition("[")[2], f"{at - start}]"))
                outcomes["crashed"] += 1
                at += 1
        wait_until(lambda: not pool.statistics().pending)
        figures = pool.statistics()
    assert outcomes.total() == count
    assert all(name == expected for name, expected in blamed)
    assert sum(each.death == "signal SIGKILL" for each in figures.workers) > 1
    assert figures.failed == 0
    assert figures.done + figures.crashed + figures.cancelled == figures.submitted
    assert figures.done >= outcomes["done"]
    assert figures.crashed >= outcomes["crashed"]


def test_cancelling_races_with_running_and_dying() -> None:
    chance = random.Random(11)
    with WorkerPool(golden(), 2, 2) as pool:
        # A pool whose workers all die before one was ready is broken, and rightly so.
        pool.submit(echo, 0).result(LIMIT)
        futures: list[Future[object]] = []
        for n in range(3000):
            futures.append(pool.submit(echo, n))
            if n % 3 == 0:
                chance.choice(futures[-40:]).cancel()
            if n % 500 == 499:
                kill_one(pool, chance)
        assert not wait(futures, LIMIT).not_done
        found: Counter[str] = Counter({"done": 1})
        for n, future in enumerate(futures):
            try:
                assert future.result() == n
                found["done"] += 1
            except CancelledError:
                found["cancelled"] += 1
            except WorkerCrashed:
                found["crashed"] += 1
        wait_until(lambda: not pool.statistics().pending)
        figures = pool.statistics()
    assert found.total() == 3001
    assert (figures.done, figures.cancelled, figures.crashed) == (
        found["done"],
        found["cancelled"],
        found["crashed"],
    )


def threads_that_wrote(conn: sqlite3.Connection) -> int:
    count: int = conn.execute("SELECT count(DISTINCT thread) FROM written").fetchone()[0]
    return count


def test_all_threads_write_to_one_ring() -> None:
    count = 10_000
    with WorkerPool(golden(), 1, 4) as pool:
        assert sorted(pool.map(write, range(count))) == list(range(count))
        assert pool.submit(rows).result(LIMIT) == count
        assert pool.submit(threads_that_wrote).result(LIMIT) > 1
        assert pool.anomalies == ()


def test_a_call_that_returns_in_its_last_moment_is_late_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub, "_STACKS_TIME", LIMIT)
    with WorkerPool(golden(), 1, 2, task_timeout=1.0) as pool:
        results = pool.map(outlast, [1, 2, 3], [2, 2, 2], chunksize=3)
        assert next(results) == 1
        with pytest.raises(TaskTimeout, match=r"outlast\[1\]") as caught:
            next(results)
        # The call goes on while its stack is being written: what stands there may be cut short.
        assert "Thread 0x" in caught.value.stacks
        assert pool.submit(echo, 5).result(LIMIT) == 5
        assert pool.statistics().crashed == 0
