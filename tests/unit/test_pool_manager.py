"""A pool's books at moments that are hard to hit: its manager is driven step by step."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from snapfarm.dispatch import Item, ItemsAdded, WorkerLaunched, WorkerLost, WorkerReady
from snapfarm.errors import LaunchError, PoolBroken
from snapfarm.launch.local import LocalWorker
from snapfarm.pool.codec import TaskCodec
from snapfarm.pool.manager import PoolManager
from snapfarm.pool.settings import settings_of
from snapfarm.pool.work import Chunk, Shipped, pack_calls
from snapfarm_worker.jobs import TaskJob
from support.pool import golden


@pytest.fixture
def manager() -> Iterator[PoolManager]:
    """Return a manager without thread whose processes are never started."""
    settings = settings_of(
        {
            "workers": 2,
            "threads": 1,
            "isolation": "worker",
            "ring": "shared-cache",
            "retries": 0,
            "task_timeout": 0.0,
            "max_result_size": 1000,
            "sensors": False,
            "start_method": "spawn",
            "start_timeout": 60.0,
            "heartbeat_timeout": 10.0,
        }
    )
    job = TaskJob(
        threads=1,
        isolation="worker",
        mapping=False,
        names=None,
        initializer=None,
        result_limit=1000,
        directory=".",
        sys_path=(),
    )
    found = PoolManager(settings, job, TaskCodec(), [golden().snapshot])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalWorker, "__init__", _no_process)
        yield found


def _no_process(self: LocalWorker, spec: object, method: str) -> None:
    raise LaunchError("no process here")


def chunk() -> Chunk:
    calls: list[tuple[object, ...]] = [(1,)]
    function = Shipped("f1", "task", [])
    parcel = pack_calls(TaskCodec(), calls, {})
    return Chunk(function, calls, {}, parcel, first=0, single=True, now=0.0)


def test_workers_that_cant_be_started_are_told_at_once(manager: PoolManager) -> None:
    with pytest.raises(LaunchError, match=r"every worker died before it was ready\n.*no process"):
        manager.open()


def test_a_task_that_comes_while_the_last_worker_gives_up_fails_as_all_others(
    manager: PoolManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1. A task is submitted. 2. The last worker is gone, the pool gives up. 3. It is taken."""
    monkeypatch.setattr(PoolManager, "_serve", lambda self: None)
    with pytest.raises(LaunchError):
        manager.open()  # as far as the giving up
    late = chunk()
    manager._commands.append(late)
    manager._take_commands()
    manager._fail_all(manager.broken)
    with pytest.raises(PoolBroken, match=r"task\[0\] was not run to its end: every worker died"):
        late.future.result(0)


def test_a_cancelled_call_whose_worker_dies_is_skipped_at_the_next_one_too(
    manager: PoolManager,
) -> None:
    """1. A cancelled call is handed to gw0, and left out. 2. gw0 dies before the books know.

    3. The dispatcher hands the call to gw1.
    """
    cancelled = chunk()
    assert cancelled.future.cancel()
    batch = manager._batch(cancelled)
    assert manager.order("gw0", (batch.key,), False) is None
    assert manager.order("gw1", (batch.key,), False) is None
    assert manager._to_skip == [("gw0", batch.key), ("gw1", batch.key)]
    assert manager.tally.picture().cancelled == 1
    # The dispatcher takes both for what they are.
    from snapfarm.dispatch import Dispatcher, ItemFinished

    dispatcher = Dispatcher(2, forgetful=True)
    for event in (
        WorkerLaunched("gw0"),
        WorkerLaunched("gw1"),
        WorkerReady("gw0"),
        WorkerReady("gw1"),
        ItemsAdded((Item(batch.key),)),
        WorkerLost("gw0"),
    ):
        dispatcher.handle(event, 0.0)
    assert dispatcher.awaits("gw1", batch.key)
    for worker, key in manager._to_skip:
        dispatcher.handle(ItemFinished(worker, key), 0.0)
        dispatcher.check()
    assert dispatcher.pending == 0
