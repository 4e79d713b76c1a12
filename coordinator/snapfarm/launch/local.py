"""Worker processes on this machine, started with the `multiprocess` package."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import multiprocess

from snapfarm.errors import LaunchError
from snapfarm.launch.spawning import without_main
from snapfarm_worker import agent
from snapfarm_worker.agent import WorkerSpec


class LocalWorker:
    """One worker process. The parent of `coordinator/` decides; this only does."""

    def __init__(self, spec: WorkerSpec, start_method: str) -> None:
        context = multiprocess.get_context(start_method)
        self._process = context.Process(target=agent.main, args=(spec,), name=f"farm-{spec.worker}")
        try:
            with without_main():
                self._process.start()
        except (OSError, ValueError) as error:
            raise LaunchError(f"worker {spec.worker} could not be started: {error}") from error
        self.pid: int = self._process.pid
        spec.files.pid.write_text(str(self.pid))
        self._ended = False
        try:
            self._descriptor: int | None = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            self._descriptor = None

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when the process has ended.

        Not multiprocess's own sentinel where that can be avoided: a process that a test forked
        keeps that one open.
        """
        return self._process.sentinel if self._descriptor is None else self._descriptor

    def signal(self, number: int) -> None:
        """Send a signal to the worker alone; nothing happens if it has ended."""
        if not self._ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the worker and all that it has started in its session."""
        if not self._ended:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            self.signal(signal.SIGKILL)

    def is_stopped(self) -> bool:
        """Return whether the process is stopped (SIGSTOP, a debugger); False where unknown."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] in {"T", "t"}

    def reap(self) -> int | None:
        """Collect the ended process with what it left running; return its exit code.

        Negative: the signal that killed it, as in subprocess. The processes that it left are
        killed before it is collected, since only until then its process group is surely its own.
        """
        if not self._ended:
            self.kill()
            self._process.join(5)
            self._ended = self._process.exitcode is not None
        code: int | None = self._process.exitcode
        return code

    def close(self) -> None:
        """Release the descriptors of an ended process."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        with contextlib.suppress(ValueError):
            self._process.close()
