"""Runs a command and measures its whole tree of processes: wall clock, CPU seconds, memory.

CPU is what the kernel charges: a process's usage includes every descendant that was waited for. A
descendant that outlives its parent is handed to us, since we are the subreaper, and is waited for
here, so that none is left out.

Memory is the largest sum of the proportional set sizes (PSS, where shared pages are divided among
their users) of the tree, on Linux. Looking at it disturbs a little, so a look is taken the less
often the longer it takes: `_SHARE` of the time at most. Elsewhere memory is 0.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

#: Seconds between two looks at the memory, at least.
SAMPLE_EVERY = 0.03
#: Most of the time that looking may take.
_SHARE = 0.03

_PR_SET_CHILD_SUBREAPER = 36
#: How long to wait for descendants that outlive the command, seconds.
_STRAGGLERS = 5.0


class Run(msgspec.Struct, frozen=True):
    """A finished command; seconds and bytes. `memory` is 0 where it was not sampled.

    `began` is when it was started, in seconds since the epoch.
    """

    status: int
    output: str
    wall: float
    cpu: float
    memory: int
    began: float


def measure(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    *,
    memory: bool = False,
    output: Path | None = None,
) -> Run:
    """Run a command in a folder to its end; output and errors are returned together.

    They are written to the file `output` meanwhile, `folder/.output` where none is given. To be
    used where nothing else in this process has children: all that end are waited for.
    """
    _adopt_orphans()
    ours = set(_children(os.getpid()))
    output = output or folder / ".output"
    with output.open("wb") as stream:
        epoch, began = time.time(), time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
        sampler = _Sampler(ours) if memory else None
        try:
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - began
        except BaseException:
            _end(process)
            raise
        finally:
            peak = sampler.stop() if sampler is not None else 0
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu = usage.ru_utime + usage.ru_stime + _stragglers()
    return Run(process.returncode, output.read_text(errors="replace"), wall, cpu, peak, epoch)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let a command end in order, which Ctrl-C has reached too; else interrupt it, then kill it."""
    try:
        try:
            process.wait(_STRAGGLERS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            process.wait(_STRAGGLERS)
    except BaseException:
        process.kill()
        process.wait()


def _adopt_orphans() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _stragglers() -> float:
    """Wait for what the command left behind; return its CPU seconds."""
    cpu = 0.0
    deadline = time.monotonic() + _STRAGGLERS
    while time.monotonic() < deadline:
        try:
            pid, _, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid:
            cpu += usage.ru_utime + usage.ru_stime
        else:
            time.sleep(0.005)
    return cpu


class _Sampler:
    """Watches from a thread the memory of all our descendants, but those that we had before."""

    def __init__(self, before: set[int]) -> None:
        self._before = before
        self._peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Return the largest sum that was seen, in bytes."""
        self._ended.set()
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        pause = SAMPLE_EVERY
        while not self._ended.wait(pause):
            began = time.thread_time()
            self._peak = max(self._peak, sum(map(pss, self._tree())))
            pause = max(SAMPLE_EVERY, (time.thread_time() - began) / _SHARE)

    def _tree(self) -> Iterator[int]:
        waiting = [pid for pid in _children(os.getpid()) if pid not in self._before]
        while waiting:
            pid = waiting.pop()
            yield pid
            waiting += _children(pid)


def _children(pid: int) -> list[int]:
    """Return the processes that the threads of a process have started; none if it has ended."""
    found: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    except OSError:
        return found
    return found


def pss(pid: int) -> int:
    """Return the proportional set size of a process, in bytes; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
