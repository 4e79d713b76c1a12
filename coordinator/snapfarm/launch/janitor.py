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
    # Once more at the end: a worker whose start had just begun may have come.
    while time.monotonic() < deadline and any(_alive(pid) for pid in _leaders(folder)):
        time.sleep(0.05)
    for pid in _leaders(folder):
        kill_session(pid)
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
    while os.path.isdir(folder):  # noqa: PTH112  # without pathlib, it starts sooner
        if poller.poll(1000):
            return


def _leaders(folder: str) -> list[int]:
    """Return the processes that the coordinator has started: each leads a session of its own."""
    pids = []
    for path, _folders, names in os.walk(folder):
        for name in names:
            if name.endswith(".pid"):
                try:
                    with open(os.path.join(path, name)) as file:  # noqa: PTH118, PTH123  # without pathlib, it starts sooner
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


def kill_session(leader: int) -> None:
    """Kill a process and all of the session that it leads, whatever process groups they are in."""
    for kill in (os.killpg, os.kill):
        try:
            kill(leader, signal.SIGKILL)
        except OSError:
            continue
    for pid in _members(leader):
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            continue


def _members(session: int) -> list[int]:
    """Return the living processes of a session; none where there is no /proc to ask."""
    members = []
    try:
        names = os.listdir("/proc")  # noqa: PTH208  # without pathlib, it starts sooner
    except OSError:
        return []
    for name in names:
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat") as file:  # noqa: PTH123  # without pathlib, it starts sooner
                state, _parent, _group, its_session = file.read().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue
        if int(its_session) == session and state not in "ZX":
            members.append(int(name))
    return members


def _remove(folder: str) -> None:
    for path, _folders, names in os.walk(folder, topdown=False):
        for name in names:
            try:
                os.unlink(os.path.join(path, name))  # noqa: PTH108, PTH118  # without pathlib, it starts sooner
            except OSError:
                continue
        try:
            os.rmdir(path)  # noqa: PTH106  # without pathlib, it starts sooner
        except OSError:
            continue


if __name__ == "__main__":
    watch(int(sys.argv[1]), sys.argv[2])
