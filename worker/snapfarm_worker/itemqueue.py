"""The items that a worker has been handed and has not begun: fed by its I/O thread, run by main."""

from __future__ import annotations

import collections
from collections.abc import Iterable

from snapfarm_worker.originals import SimpleQueue, new_lock
from snapfarm_worker.wire import (
    EndSession,
    ItemsReturned,
    Message,
    RecallItems,
    Rejected,
    RunItems,
    ToWorker,
)


class ItemQueue:
    """A queue whose consumer always knows an item's successor before it begins the item.

    The successor that `next()` has named is pinned: it can't be recalled, because fixtures were
    kept for it.
    """

    def __init__(self, known: Iterable[str]) -> None:
        #: Keys that this worker has collected; an order for any other is refused.
        self._known = frozenset(known)
        self._keys: collections.deque[str] = collections.deque()
        #: Whether the last key may run without a successor.
        self._flush = False
        self._ended = False
        #: Whether nothing may begin any more; orders that cross with that one are forgotten.
        self._dropped = False
        #: The successor that was promised to the item that runs now.
        self._pinned: str | None = None
        #: That successor, once fixtures have been left in place for it.
        self._kept: str | None = None
        self._lock = new_lock()
        #: Something for each order, to wait for; not a Condition, which is not for two threads once
        #: gevent has replaced what it is made of.
        self._orders: SimpleQueue[None] = SimpleQueue()

    def handle(self, order: ToWorker) -> Message | None:
        """Take an order; return the answer to send, if there is one."""
        with self._lock:
            answer: Message | None = None
            match order:
                case RunItems(keys=keys, flush=flush):
                    if unknown := [key for key in keys if key not in self._known]:
                        return Rejected(f"this worker has not collected {unknown[0]!r}")
                    if not self._dropped:
                        self._keys.extend(keys)
                        self._flush = flush
                case RecallItems(order=number, keys=keys):
                    answer = ItemsReturned(number, self._recall(frozenset(keys)))
                case EndSession(drop=drop):
                    self._ended = True
                    if drop:
                        self._drop_all_but(self._kept)
                case _:
                    return Rejected(f"{type(order).__name__} is not expected while items run")
            self._orders.put(None)
            return answer

    def _recall(self, keys: frozenset[str]) -> tuple[str, ...]:
        returned = tuple(key for key in self._keys if key in keys and key != self._pinned)
        gone = frozenset(returned)
        self._keys = collections.deque(key for key in self._keys if key not in gone)
        return returned

    def _drop_all_but(self, kept: str | None) -> tuple[str, ...]:
        self._dropped = True
        dropped = tuple(key for key in self._keys if key != kept)
        self._keys = collections.deque(key for key in self._keys if key == kept)
        return dropped

    def next(self) -> tuple[str, str | None] | None:
        """Wait until an item can begin; return it with its successor, None at the session's end.

        The successor is None where no more is known to come, so that all fixtures are torn down.
        """
        while True:
            with self._lock:
                if len(self._keys) > 1 or (self._keys and (self._flush or self._ended)):
                    key = self._keys.popleft()
                    self._pinned = self._keys[0] if self._keys else None
                    self._kept = None
                    return key, self._pinned
                if self._ended and not self._keys:
                    return None
            self._orders.get()

    def ready(self) -> str | None:
        """Return the item that `next()` would return without waiting, and pin it for that call."""
        with self._lock:
            if len(self._keys) > 1 or (self._keys and (self._flush or self._ended)):
                self._pinned = self._keys[0]
                return self._pinned
            return None

    def keep_successor(self) -> bool:
        """Promise the running item, which is torn down now, that its successor will run.

        Returns False where the successor was dropped. One that is kept runs whatever is dropped
        later: fixtures are there for it, and if they failed in their teardown after all, that
        would belong to no item.
        """
        with self._lock:
            if not self._dropped:
                self._kept = self._pinned
            return self._kept is not None

    def drop(self) -> tuple[str, ...]:
        """Forget and return all items that have not begun; the session runs nothing any more."""
        with self._lock:
            return self._drop_all_but(None)

    def wait_for_end(self) -> None:
        """Wait for EndSession, running nothing."""
        while not self._ended:
            self._orders.get()
