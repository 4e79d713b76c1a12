"""The private folder of a run: sockets, pipes, black boxes; gone when the run is over."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from snapfarm.launch import janitor

_PREFIX = "farm-"
_LOCK = "lock"


class RunFolder:
    """A fresh 0700 folder, guarded by a janitor process for the case that we are killed.

    It lies in the temporary directory, not in the project, because the path of an ipc socket may
    have no more than 107 bytes.
    """

    def __init__(self) -> None:
        base = Path(tempfile.gettempdir())
        if len(str(base)) > 60:
            base = Path("/tmp")
        sweep(base)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        self._lock = (self.path / _LOCK).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._janitor = subprocess.Popen(
            [sys.executable, "-I", "-S", janitor.__file__, str(os.getpid()), str(self.path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def remove(self) -> None:
        """Remove the folder and its janitor. All workers have ended before."""
        self._janitor.kill()
        self._janitor.wait()
        self._lock.close()
        shutil.rmtree(self.path, ignore_errors=True)


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
