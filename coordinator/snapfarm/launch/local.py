"""Worker processes on this machine, started with the `multiprocess` package."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import multiprocess
import multiprocess.connection
import multiprocess.context
import multiprocess.process

from snapfarm.errors import LaunchError
from snapfarm.launch import janitor
from snapfarm.launch.spawning import booted, without_main
from snapfarm_worker import agent, boot
from snapfarm_worker.jobs import WorkerSpec

#: What a spawned worker runs. Its own folder comes last: it is where the coordinator found it.
_BOOT = (
    f"import sys; sys.path.append({str(Path(boot.__file__).parents[1])!r}); "
    "from snapfarm_worker.boot import main; main"
)
#: How long an ended process may take until its exit code can be read, and how often to try it.
_PATIENCE = 5.0
_LOOK = 0.002
#: How long a forkserver may take to tell it, seconds.
_LAST_WORD = 1.0
#: Fields of a process's state, counted after its name: its state, and when it began.
_STATE, _BORN = 0, 19


class LocalWorker:
    """One worker process. The parent of `coordinator/` decides; this only does."""

    def __init__(self, spec: WorkerSpec, start_method: str) -> None:
        self._process, starting = _process(spec, start_method)
        try:
            with starting, _interrupts_held():
                self._process.start()
        except Exception as error:
            # The system has no room for it, or what a hook put into `workerinput` can't travel.
            raise LaunchError(
                f"worker {spec.worker} could not be started: {type(error).__name__}: {error}"
            ) from error
        # At its exit a process waits for all children that multiprocess knows of. A coordinator
        # that ends early must not: its workers only end once they see that it is gone.
        multiprocess.process._children.discard(self._process)  # noqa: SLF001  # no public way
        self.pid: int = self._process.pid
        self._ended = False
        #: Tells this process from a later one with the same id; "" where the system does not say.
        self._born = _stat(self.pid)[_BORN]
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
        """Kill the worker and all that it has started in its session.

        A forkserver collects its children itself, so the id may be another process's by now. That
        can't be while the session has a member left: the system gives away no id of a session.
        """
        if not self._ended and _stat(self.pid)[_BORN] in (self._born, ""):
            janitor.kill_session(self.pid)

    def is_stopped(self) -> bool:
        """Return whether the process is stopped (SIGSTOP, a debugger); False where unknown."""
        return _stat(self.pid)[_STATE] in {"T", "t"}

    def reap(self) -> int | None:
        """Collect the ended process with what it left running; return its exit code.

        Negative: the signal that killed it, as in subprocess. The processes that it left are
        killed before it is collected, since only until then its session's id is surely its own.
        """
        if not self._ended:
            self.kill()
            # Not `join`: it waits for a pipe that whatever the worker has forked keeps open.
            deadline = time.monotonic() + _PATIENCE
            while (
                self._process.exitcode is None
                and _stat(self.pid)[_STATE]
                and time.monotonic() < deadline
            ):
                time.sleep(_LOOK)
            if self._process.exitcode is None:
                # A forkserver has collected it, and is about to say how it ended.
                multiprocess.connection.wait([self._process.sentinel], _LAST_WORD)
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


def _stat(pid: int) -> list[str]:
    """Return what the system tells of a process; empty texts where it tells nothing."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return [""] * (_BORN + 1)


class _SpawnedWorker(multiprocess.context.SpawnProcess):  # type: ignore[misc]  # it has no types
    """A process whose pickle is the worker's specification alone."""

    def __init__(self, spec: WorkerSpec) -> None:
        super().__init__(name=f"farm-{spec.worker}")
        self._spec = spec

    def __reduce__(self) -> tuple[Callable[[WorkerSpec], WorkerSpec], tuple[WorkerSpec]]:
        return boot.received, (self._spec,)


def _process(
    spec: WorkerSpec, start_method: str
) -> tuple[multiprocess.process.BaseProcess, contextlib.AbstractContextManager[None]]:
    """Return a worker's process, and the context to start it in."""
    if start_method == "spawn" and not getattr(sys, "frozen", False):
        return _SpawnedWorker(spec), booted(_BOOT)
    context = multiprocess.get_context(start_method)
    process = context.Process(target=agent.main, args=(spec,), name=f"farm-{spec.worker}")
    return process, without_main()


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Start processes that get no SIGINT until they let it through themselves.

    Ctrl-C goes to all processes of a terminal: a worker that has no session of its own yet would
    die in the middle of its imports, and print where.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
