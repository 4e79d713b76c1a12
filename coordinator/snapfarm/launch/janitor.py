"""Cleans up after a coordinator that was killed: its workers, and the run's private folder.

Run as a script of its own, `python -I -S janitor.py PID FOLDER`, by the coordinator with the
process id PID. It outlives the coordinator by a moment: workers end by themselves when they see
that it is gone, and this kills those that can't (stopped, or stuck in code that never lets other
threads run). It imports nothing but the standard library's quickest modules, because every run
starts one.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

#: How long workers may take to end by themselves, seconds.
_GRACE = 1.5


def watch(coordinator: int, folder: str) -> None:
    """Wait for the coordinator's end, then clean up if the folder still exists."""
    _wait(coordinator, folder)
    if not os.path.isdir(folder):  # noqa: PTH112  # pathlib would take as long as all the rest
        return
    deadline = time.monotonic() + _GRACE
    workers = _workers(folder)
    while time.monotonic() < deadline and any(_alive(pid) for pid in workers):
        time.sleep(0.05)
    for pid in workers:
        _kill(pid)
    _remove(folder)


def _wait(coordinator: int, folder: str) -> None:
    try:
        descriptor = os.pidfd_open(coordinator)
    except (AttributeError, OSError):
        while os.getppid() == coordinator:
            time.sleep(0.25)
        return
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    # The folder goes when the run ends in order, also where the process lives on.
    while os.path.isdir(folder):  # noqa: PTH112
        if poller.poll(1000):
            return


def _workers(folder: str) -> list[int]:
    pids = []
    for name in os.listdir(folder):  # noqa: PTH208
        if name.endswith(".pid"):
            try:
                with open(os.path.join(folder, name)) as file:  # noqa: PTH118, PTH123
                    pids.append(int(file.read()))
            except (OSError, ValueError):
                continue
    return pids


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _kill(pid: int) -> None:
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except OSError:
            continue


def _remove(folder: str) -> None:
    for name in os.listdir(folder):  # noqa: PTH208
        try:
            os.unlink(os.path.join(folder, name))  # noqa: PTH108, PTH118
        except OSError:
            continue
    try:
        os.rmdir(folder)  # noqa: PTH106
    except OSError:
        return


if __name__ == "__main__":
    watch(int(sys.argv[1]), sys.argv[2])
