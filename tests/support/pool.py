"""What tests of worker pools share: a golden database, waiting, scripts that have pools."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from snapfarm import Golden
from support.pool_tasks import LIMIT, SCHEMA

#: What a script of a test begins with.
HEAD = f"""
import os, pathlib, sqlite3, sys, threading, time
from snapfarm import Golden, WorkerPool
from support.pool_tasks import *
conn = sqlite3.connect(":memory:")
conn.executescript({SCHEMA!r})
golden = Golden.of(conn)
"""


def golden(name: str = "default", script: str = "") -> Golden:
    """Return a small golden database."""
    with contextlib.closing(sqlite3.connect(":memory:")) as conn:
        conn.executescript(SCHEMA + script)
        return Golden.of(conn, name=name)


def wait_until(holds: Callable[[], object]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


class Script:
    """A program with a pool, and all that it has started."""

    def __init__(self, folder: Path, text: str, *options: str) -> None:
        self.folder = folder
        (folder / "script.py").write_text(HEAD + text)
        temporary = folder / "tmp"
        temporary.mkdir()
        self.process = subprocess.Popen(
            [sys.executable, *options, str(folder / "script.py")],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "TMPDIR": str(temporary),
                "PYTHONPATH": str(Path(__file__).parent.parent),
            },
        )
        self._started: set[psutil.Process] = set()

    def wait_for(self, name: str) -> None:
        """Wait until the script, or a task, has written a file; note what processes there are."""
        wait_until(lambda: (self.folder / name).exists() or self.process.poll() is not None)
        assert (self.folder / name).exists(), self.process.communicate()
        with contextlib.suppress(psutil.NoSuchProcess):
            self._started.update(psutil.Process(self.process.pid).children(recursive=True))

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def end(self) -> tuple[int, str, str]:
        """Wait for its end; return exit status, output and errors. Nothing of it is left."""
        self.process.wait(LIMIT)
        if self.process.returncode != -signal.SIGKILL:
            # Neither a janitor nor anybody else has to come and clean up.
            assert list((self.folder / "tmp").iterdir()) == []
        output, errors = self.process.communicate(timeout=LIMIT)
        _gone, left = psutil.wait_procs(list(self._started), timeout=10)
        assert left == [], f"{left}\n{output}\n{errors}"
        wait_until(lambda: not list((self.folder / "tmp").iterdir()))
        return self.process.returncode, output, errors


@contextlib.contextmanager
def script(folder: Path, text: str, *options: str) -> Iterator[Script]:
    """Run a script that begins with HEAD; it is gone in the end, whatever happens."""
    running = Script(folder, text, *options)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()
        for stream in (running.process.stdout, running.process.stderr):
            if stream is not None:
                stream.close()
