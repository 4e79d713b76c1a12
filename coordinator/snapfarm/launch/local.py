"""Worker processes on this machine, started with the `multiprocess` package."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import multiprocess
import multiprocess.context
import multiprocess.process

from snapfarm.errors import LaunchError
from snapfarm.launch import janitor
from snapfarm.launch.forkserver import ForkServer
from snapfarm.launch.spawning import BOOT, booted, interrupts_held, without_main
from snapfarm_worker import agent, boot
from snapfarm_worker.jobs import WorkerSpec

#: How long an ended process may take until its exit code can be read, and how often to try it.
_PATIENCE = 5.0
_LOOK = 0.002
#: Fields of a process's state, counted after its name: its state, and when it began.
_STATE, _BORN = 0, 19


class LocalWorker:
    """One worker process. The parent of `coordinator/` decides; this only does."""

    def __init__(
        self, spec: WorkerSpec, start_method: str, server: ForkServer | None = None
    ) -> None:
        self._process, starting = _process(spec, start_method, server)
        try:
            with starting, interrupts_held():
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
        except (AttributeError, OSError) as error:
            self._descriptor = None
            if server is not None:
                # Nobody would ever be told that it has ended.
                self.reap()
                raise LaunchError(
                    f"worker {spec.worker} could not be watched: {type(error).__name__}: {error}"
                ) from error

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

        Without a fork server, which may have been killed, the system collects its children, and
        the id may be another process's by now. That can't be while the session has a member left:
        the system gives away no id of a session.
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
                # Who collects it instead may do so late, or never: so in some containers.
                and not (isinstance(self._process, _Forked) and self._process.lost)
                and _stat(self.pid)[_STATE]
                and time.monotonic() < deadline
            ):
                time.sleep(_LOOK)
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


class _Forked:
    """A process that the fork server has made; it looks like one of multiprocess."""

    def __init__(self, spec: WorkerSpec, server: ForkServer) -> None:
        self._spec = spec
        self._server = server
        self._exit_code: int | None = None
        #: Whether nobody can tell any more how it ended, or collect it.
        self.lost = False
        self.pid = 0
        #: Workers of a fork server have descriptors of processes in its place.
        self.sentinel = -1

    def start(self) -> None:
        """Have it made."""
        self.pid = self._server.fork(self._spec)

    @property
    def exitcode(self) -> int | None:
        """How it ended, as subprocess has it; None if that is not known."""
        if self._exit_code is None:
            try:
                self._exit_code = self._server.exit_code(self.pid)
            except ChildProcessError:
                self.lost = True
        return self._exit_code

    def close(self) -> None:
        """Release nothing: the server has it."""


class _SpawnedWorker(multiprocess.context.SpawnProcess):  # type: ignore[misc]  # it has no types
    """A process whose pickle is the worker's specification alone."""

    def __init__(self, spec: WorkerSpec) -> None:
        super().__init__(name=f"farm-{spec.worker}")
        self._spec = spec

    def __reduce__(self) -> tuple[Callable[[boot.Role], boot.Role], tuple[agent.Working]]:
        return boot.received, (agent.Working(self._spec),)


def _process(
    spec: WorkerSpec, start_method: str, server: ForkServer | None
) -> tuple[_Forked | multiprocess.process.BaseProcess, contextlib.AbstractContextManager[None]]:
    """Return a worker's process, and the context to start it in."""
    if server is not None:
        return _Forked(spec, server), contextlib.nullcontext()
    if start_method == "spawn" and not getattr(sys, "frozen", False):
        return _SpawnedWorker(spec), booted(BOOT)
    context = multiprocess.get_context(start_method)
    process = context.Process(target=agent.main, args=(spec,), name=f"farm-{spec.worker}")
    return process, without_main()
