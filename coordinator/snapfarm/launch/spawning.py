"""Start processes without the parent's main script, and without multiprocess's tracker."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import cast

import multiprocess.resource_tracker
import multiprocess.spawn

_PreparationData = dict[str, object]

#: Guards the patch below: it is global to the process, and several threads may start processes.
_LOCK = threading.Lock()


@contextlib.contextmanager
def without_main() -> Iterator[None]:
    """Within this context, processes start without importing the parent's `__main__`.

    A spawned process normally runs the parent's script again under another name, to be able to
    unpickle what was defined there. A script without an `if __name__ == "__main__"` guard would
    then start a farm in every worker. Nothing that a farm starts lives in `__main__`, so it is
    left out. Keep the body short: other threads wait for it.
    """
    with _LOCK:
        original = cast(
            "Callable[[str], _PreparationData]", multiprocess.spawn.get_preparation_data
        )

        def get_preparation_data(name: str) -> _PreparationData:
            data = original(name)
            data.pop("init_main_from_path", None)
            data.pop("init_main_from_name", None)
            return data

        multiprocess.spawn.get_preparation_data = get_preparation_data
        try:
            with _without_tracker():
                yield
        finally:
            multiprocess.spawn.get_preparation_data = original


@contextlib.contextmanager
def _without_tracker() -> Iterator[None]:
    """Start no resource tracker for what is started here.

    It is a process that imports multiprocess and dill, a tenth of a second of CPU in each run, to
    look after semaphores and shared memory, of which a farm has none. A worker in which somebody
    uses them gets a tracker of its own (see `agent`).
    """
    tracker = multiprocess.resource_tracker
    original = tracker.getfd
    nowhere = os.open(os.devnull, os.O_WRONLY)
    tracker.getfd = lambda: nowhere
    try:
        yield
    finally:
        tracker.getfd = original
        os.close(nowhere)
