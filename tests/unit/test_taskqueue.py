"""A worker's queue of tasks: each is handed out once, frames stay with their task."""

from __future__ import annotations

import threading

import pytest
import zmq

from snapfarm_worker.taskqueue import TaskQueue
from snapfarm_worker.wire import (
    EndSession,
    ItemsReturned,
    RecallItems,
    Rejected,
    RunItems,
    RunTasks,
    TaskOrder,
)


def order(key: str, *, function: int = 1, arguments: int = 1) -> TaskOrder:
    return TaskOrder(key, "f1", "task", function, arguments, calls=1, first=0)


def frames(*contents: bytes) -> list[zmq.Frame]:
    return [zmq.Frame(content) for content in contents]


def keys(queue: TaskQueue, count: int) -> list[str]:
    tasks = [queue.next() for _ in range(count)]
    return [task.order.key if task is not None else "" for task in tasks]


def test_tasks_come_in_order_with_their_own_frames() -> None:
    queue = TaskQueue()
    tasks = (order("1"), order("2", function=0, arguments=2), order("3", function=2))
    answer = queue.handle(RunTasks(tasks), frames(b"f", b"a", b"a0", b"a1", b"f0", b"f1", b"b"))
    assert answer is None
    found = [queue.next() for _ in range(3)]
    assert [
        (task.order.key, [*map(bytes, task.function)], [*map(bytes, task.arguments)])
        for task in found
        if task is not None
    ] == [("1", [b"f"], [b"a"]), ("2", [], [b"a0", b"a1"]), ("3", [b"f0", b"f1"], [b"b"])]


@pytest.mark.parametrize("contents", [(), (b"f",), (b"f", b"a", b"more")])
def test_frames_that_do_not_fit_are_rejected(contents: tuple[bytes, ...]) -> None:
    queue = TaskQueue()
    assert isinstance(queue.handle(RunTasks((order("1"),)), frames(*contents)), Rejected)
    queue.handle(EndSession(), [])
    assert queue.next() is None


def test_what_has_begun_is_not_given_back() -> None:
    queue = TaskQueue()
    queue.handle(RunTasks(tuple(map(order, "abcd"))), frames(*[b"f", b"a"] * 4))
    assert keys(queue, 1) == ["a"]
    assert queue.handle(RecallItems(5, ("a", "b", "d", "never")), []) == ItemsReturned(
        5, ("b", "d")
    )
    assert queue.handle(RecallItems(6, ("b",)), []) == ItemsReturned(6, ())
    assert keys(queue, 1) == ["c"]


def test_the_end_comes_after_the_tasks_unless_they_are_dropped() -> None:
    queue = TaskQueue()
    queue.handle(RunTasks((order("a"), order("b"))), frames(*[b"f", b"a"] * 2))
    queue.handle(EndSession(), [])
    assert keys(queue, 3) == ["a", "b", ""]

    dropped = TaskQueue()
    dropped.handle(RunTasks((order("a"),)), frames(b"f", b"a"))
    dropped.handle(EndSession(drop=True), [])
    dropped.handle(RunTasks((order("b"),)), frames(b"f", b"a"))
    assert keys(dropped, 2) == ["", ""]


def test_threads_that_wait_get_one_task_each_and_the_end_all() -> None:
    queue = TaskQueue()
    found: list[str] = []

    def lane() -> None:
        while (task := queue.next()) is not None:
            found.append(task.order.key)

    threads = [threading.Thread(target=lane) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(50):
        pair = (order(f"{number}a"), order(f"{number}b"))
        queue.handle(RunTasks(pair), frames(*[b"f", b"a"] * 2))
    queue.handle(EndSession(), [])
    for thread in threads:
        thread.join(60)
    assert sorted(found) == sorted(f"{n}{which}" for n in range(50) for which in "ab")


def test_what_is_no_order_for_tasks_is_rejected() -> None:
    assert isinstance(TaskQueue().handle(RunItems(("a",)), []), Rejected)
