"""The tasks that a worker has been handed and has not begun: fed by its I/O thread."""

from __future__ import annotations

import collections
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from snapfarm_worker.wire import (
    EndSession,
    ItemsReturned,
    Message,
    RecallItems,
    Rejected,
    RunTasks,
    TaskOrder,
    ToWorker,
)

if TYPE_CHECKING:
    import zmq


class Task(msgspec.Struct, frozen=True):
    """A task with the frames of its function and of its arguments."""

    order: TaskOrder
    function: tuple[memoryview, ...]
    arguments: tuple[memoryview, ...]


class TaskQueue:
    """Hands tasks to as many threads as ask for one."""

    def __init__(self) -> None:
        self._tasks: collections.deque[Task] = collections.deque()
        self._ended = False
        self._changed = threading.Condition()

    def handle(self, order: ToWorker, payload: Sequence[zmq.Frame]) -> Message | None:
        """Take an order; return the answer to send, if there is one."""
        with self._changed:
            match order:
                case RunTasks(tasks=tasks):
                    frames = [frame.buffer for frame in payload]
                    if len(frames) != sum(task.function_frames + task.frames for task in tasks):
                        return Rejected("RunTasks has another number of frames than it says")
                    if not self._ended:
                        self._tasks.extend(_split(tasks, frames))
                        self._changed.notify(len(tasks))
                case RecallItems(order=number, keys=keys):
                    return ItemsReturned(number, self._recall(frozenset(keys)))
                case EndSession(drop=drop):
                    self._ended = True
                    if drop:
                        self._tasks.clear()
                    self._changed.notify_all()
                case _:
                    return Rejected(f"{type(order).__name__} is not expected while tasks run")
            return None

    def _recall(self, keys: frozenset[str]) -> tuple[str, ...]:
        returned = tuple(task.order.key for task in self._tasks if task.order.key in keys)
        self._tasks = collections.deque(t for t in self._tasks if t.order.key not in keys)
        return returned

    def next(self) -> Task | None:
        """Wait for a task; None once no more will come."""
        with self._changed:
            while not self._tasks:
                if self._ended:
                    return None
                self._changed.wait()
            return self._tasks.popleft()


def _split(tasks: Sequence[TaskOrder], frames: list[memoryview]) -> list[Task]:
    found, at = [], 0
    for order in tasks:
        middle = at + order.function_frames
        end = middle + order.frames
        found.append(Task(order, tuple(frames[at:middle]), tuple(frames[middle:end])))
        at = end
    return found
