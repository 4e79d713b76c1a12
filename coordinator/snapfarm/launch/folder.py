"""The private folder of a run: sockets, pipes, black boxes; gone when the run is over."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TextIO

from snapfarm.launch import janitor

_PREFIX = "farm-"
#: Marks a folder as a run's; whoever lives holds it locked.
_LOCK = "snapfarm.lock"
#: Longest name of a temporary directory, in bytes: an ipc path may have 107 with what we append.
_LONGEST_BASE = 60


class RunFolder:
    """A fresh 0700 folder, guarded by a janitor process for the case that we are killed.

    It lies in the temporary directory, not in the project, because the path of an ipc socket may
    have no more than 107 bytes.
    """

    def __init__(self) -> None:
        base = _base()
        sweep(base)
        self.path, self._lock = _make(base)
        self._janitor = subprocess.Popen(
            [sys.executable, "-I", "-S", janitor.__file__, str(os.getpid()), str(self.path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            # While the janitor has work to do, nobody else may sweep the folder away.
            pass_fds=(self._lock.fileno(),),
        )

    def remove(self) -> None:
        """Remove the folder and its janitor. All workers have ended before."""
        self._janitor.kill()
        self._janitor.wait()
        self._lock.close()
        shutil.rmtree(self.path, ignore_errors=True)


def _base() -> Path:
    """Return the temporary directory, or /tmp where its name can't be part of a socket's."""
    base = tempfile.gettempdir()
    try:
        fits = len(base.encode()) <= _LONGEST_BASE
    except UnicodeEncodeError:
        fits = False
    return Path(base if fits else "/tmp")


def _make(base: Path) -> tuple[Path, TextIO]:
    """Make a folder and lock it."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        lock = (path / _LOCK).open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Between those two another run may have swept it away, lock and all.
        if (path / _LOCK).exists():
            return path, lock
        lock.close()


def sweep(base: Path) -> None:
    """Remove folders of runs that were killed together with their janitor (a reboot, say)."""
    for folder in base.glob(f"{_PREFIX}*"):
        try:
            if folder.stat().st_uid != os.getuid():
                continue
            with (folder / _LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            # Held by a living run, no run folder at all, or gone meanwhile.
            continue
