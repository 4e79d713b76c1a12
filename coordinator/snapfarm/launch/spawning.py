"""Start processes without the parent's main script, and without multiprocess's tracker."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import multiprocess.resource_tracker
import multiprocess.spawn

from snapfarm_worker import boot

#: What a spawned process runs. Its own folder comes last: it is where the coordinator found it.
BOOT = (
    f"import sys; sys.path.append({str(Path(boot.__file__).parents[1])!r}); "
    "from snapfarm_worker.boot import main; main"
)

_PreparationData = dict[str, object]

#: Guards the patch below: it is global to the process, and several threads may start processes.
_LOCK = threading.Lock()
#: Seeds the hashes of texts in all workers of this process; not 0, which everybody could foresee.
_HASH_SEED = str(1 + secrets.randbelow(2**32 - 1))
_SEED_VARIABLE = "PYTHONHASHSEED"


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


@contextlib.contextmanager
def booted(program: str) -> Iterator[None]:
    """Within this context, spawned processes run `program`, which gets the pipe's descriptor.

    What they read from it is a plain dict with `sys_path`, `sys_argv` and `dir`, then the process
    object. Takes the lock of `without_main`, which does not go with it.
    """
    with _LOCK:
        spawn = multiprocess.spawn
        original_line, original_data = spawn.get_command_line, spawn.get_preparation_data

        def get_command_line(**kwds: object) -> list[str]:
            line: list[str] = original_line(**kwds)
            line[line.index("-c") + 1] = f"{program}({kwds['pipe_handle']})"
            return line

        def get_preparation_data(name: str) -> _PreparationData:
            data = original_data(name)
            return {key: data[key] for key in ("sys_path", "sys_argv", "dir")}

        spawn.get_command_line = get_command_line
        spawn.get_preparation_data = get_preparation_data
        try:
            with _without_tracker(), _with_the_same_hashes():
                yield
        finally:
            spawn.get_command_line = original_line
            spawn.get_preparation_data = original_data


@contextlib.contextmanager
def _with_the_same_hashes() -> Iterator[None]:
    """Let what is started here order sets of texts alike, unless the caller has chosen a seed.

    Python seeds each process by chance. A suite that parametrizes over a set would then be
    collected in another order by each worker. A worker replaces its environment by the
    coordinator's before it imports any test, so what tests start has hashes of its own.
    """
    chosen = os.environ.get(_SEED_VARIABLE)
    if chosen not in (None, "", "random"):
        yield
        return
    os.environ[_SEED_VARIABLE] = _HASH_SEED
    try:
        yield
    finally:
        if chosen is None:
            del os.environ[_SEED_VARIABLE]
        else:
            os.environ[_SEED_VARIABLE] = chosen


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Start processes that get no SIGINT until they let it through themselves.

    Ctrl-C goes to all processes of a terminal: a worker that has no session of its own yet would
    die in the middle of its imports, and print where.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
