"""Start processes without running the parent's main script once more in each of them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import cast

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
            yield
        finally:
            multiprocess.spawn.get_preparation_data = original
