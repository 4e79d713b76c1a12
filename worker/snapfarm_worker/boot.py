"""A spawned process's first lines: what multiprocess would do, without importing it here.

multiprocess imports dill, half of what a worker costs to start. The coordinator still starts its
workers with multiprocess, and sends what that sends: how to prepare the process, then what to run.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import sys
import threading
import traceback
from collections.abc import Callable
from typing import NoReturn, Protocol, TypedDict, cast


class Preparation(TypedDict):
    """How to prepare the process: its import path, arguments and folder."""

    sys_path: list[str]
    sys_argv: list[str]
    dir: str


class Role(Protocol):
    """What a process is started to be."""

    def run(self) -> None:
        """Be it, to the end."""


def main(pipe: int) -> None:
    """Read from a pipe's descriptor what this process is, and be it."""
    with os.fdopen(pipe, "rb") as parent:
        prepare(cast("Preparation", pickle.load(parent)))
        # Only now can it be found where the coordinator has found it.
        role = cast("Role", pickle.load(parent))
    work(role.run)


def prepare(preparation: Preparation) -> None:
    """Let the process be where its parent was, and find what that found."""
    sys.path[:] = preparation["sys_path"]
    sys.argv[:] = preparation["sys_argv"]
    os.chdir(preparation["dir"])


def work(run: Callable[[], object]) -> NoReturn:
    """Run what the process is for, and end it."""
    status = 1
    try:
        run()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        _exit(status)


def _exit(status: int) -> NoReturn:
    """End the process: its threads and its exit functions, but no module is taken apart for it.

    That takes as long as a tenth of a start, and nobody is there to need what it frees.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001  # as the interpreter does
    atexit._run_exitfuncs()  # noqa: SLF001  # the same
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def received(role: Role) -> Role:
    """Return what a process is to be: what the pickle of its process object comes out as."""
    return role
