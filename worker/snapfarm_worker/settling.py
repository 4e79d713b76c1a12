"""The moments at which a persistent ring may not take its lock, and what is done instead.

The garbage collector frees a connection in the middle of anything, even of what holds a lock of
the keeper's. What would wait for a lock there could wait for ever. So it is put off to a thread,
which ends as soon as it is done; a program that closes its connections never has one.
"""

from __future__ import annotations

import _thread
import contextlib
import gc
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable

from snapfarm_worker.errors import StateNotKept

_PAUSE = 0.002
#: How often it is tried to settle; after that, the next connection to close tries again.
_TRIES = 2500

#: Guards the register of who keeps what.
claims_lock = threading.Lock()

# Bound once: a test may replace `time.sleep`.
_sleep = time.sleep

_collecting = threading.local()


def _note(phase: str, info: dict[str, int]) -> None:
    _collecting.now = phase == "start"


gc.callbacks.append(_note)


def inside_collector() -> bool:
    """Tell whether the garbage collector has interrupted this thread, and called us."""
    return bool(getattr(_collecting, "now", False))


def try_later(settle: Callable[[], bool]) -> None:
    """Call `settle` on a thread of its own until it says True, or for some seconds.

    Safe inside the garbage collector: unlike `threading.Thread`, this waits for nothing.
    """
    if not sys.is_finalizing():
        with contextlib.suppress(RuntimeError):  # no more threads; the next to close tries again
            _thread.start_new_thread(_patiently, (settle,))


def _patiently(settle: Callable[[], bool]) -> None:
    # A connection is still open when the collector tells that it will be freed.
    for _ in range(_TRIES):
        try:
            if settle():
                return
        except StateNotKept:
            return  # the ring has noted it, and stays open
        _sleep(_PAUSE)


# ---------------------------------------------------------------- fork

_locks: weakref.WeakSet[threading.RLock] = weakref.WeakSet()
#: The locks that a fork has taken.
_held: list[threading.RLock] = []


def guard_at_fork(lock: threading.RLock) -> None:
    """See to it that no other thread holds a lock while this process forks.

    The child has one thread, so a lock of another one would never be released there.
    """
    _locks.add(lock)


def _take_all() -> None:
    for lock in list(_locks):
        lock.acquire()
        _held.append(lock)


def _release_all() -> None:
    while _held:
        _held.pop().release()


os.register_at_fork(before=_take_all, after_in_parent=_release_all, after_in_child=_release_all)
