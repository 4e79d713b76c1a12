"""Runs a command and measures its whole tree of processes: wall clock, CPU seconds, memory.

CPU is what the kernel charges: a process's usage includes every descendant that was waited for. A
descendant that outlives its parent is handed to us, since we are the subreaper, and is waited for
here, so that none is left out. Memory is the largest sum of the proportional set sizes (PSS, where
shared pages are divided among their users) of the tree. Sampling it disturbs, so times and memory
are not measured in the same run.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import psutil

#: Seconds between two looks at the memory.
SAMPLE_EVERY = 0.03

_PR_SET_CHILD_SUBREAPER = 36
#: How long to wait for descendants that outlive the command, seconds.
_STRAGGLERS = 5.0


class Run(msgspec.Struct, frozen=True):
    """A finished command; seconds and bytes. `memory` is 0 where it was not sampled."""

    status: int
    output: str
    wall: float
    cpu: float
    memory: int


def measure(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    *,
    memory: bool = False,
) -> Run:
    """Run a command to its end; output and errors are returned together."""
    _adopt_orphans()
    output = folder / ".output"
    with output.open("wb") as stream:
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
        sampler = _Sampler(process.pid) if memory else None
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    peak = sampler.stop() if sampler is not None else 0
    cpu = usage.ru_utime + usage.ru_stime + _stragglers()
    return Run(process.returncode, output.read_text(errors="replace"), wall, cpu, peak)


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
    """Watches the memory of a tree from a thread."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
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
        while not self._ended.wait(SAMPLE_EVERY):
            self._peak = max(self._peak, sum(pss(pid) for pid in self._tree()))

    def _tree(self) -> list[int]:
        try:
            return [self._root.pid, *(each.pid for each in self._root.children(recursive=True))]
        except psutil.NoSuchProcess:
            return []


def pss(pid: int) -> int:
    """Return the proportional set size of a process, in bytes; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
