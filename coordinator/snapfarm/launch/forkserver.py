"""The coordinator's side of the fork server, which makes workers by copying itself.

The server is started early, so that it imports while the coordinator does. What a process inherits
when it starts, and a copy does not get later, may change meanwhile: `surroundings` tells, and then
the server is not the right one any more.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import cast

import multiprocess.context
import multiprocess.process
import multiprocess.reduction
import multiprocess.spawn

from snapfarm.errors import LaunchError
from snapfarm.launch.spawning import BOOT, booted, interrupts_held
from snapfarm_worker import boot, forkserver
from snapfarm_worker.agent import Working
from snapfarm_worker.jobs import WorkerSpec

#: Copies answer at once; the server may still be importing. Seconds.
_PATIENCE = 60.0
#: How long the server may take to end once it was hung up, seconds.
_LAST_WORD = 1.0
#: How often to look whether it has.
_LOOK = 0.002
#: Variables that Python, its libraries and the system's loader read when a process starts. Not TZ,
#: which each worker reads again: Django's settings set it in every run.
_READ_AT_START = ("PYTHON", "LD_", "LC_", "LANG", "MALLOC_", "GLIBC_")


def surroundings() -> object:
    """Return what only a new process takes over from this one."""
    variables = {
        name: value for name, value in os.environ.items() if name.startswith(_READ_AT_START)
    }
    limits = [
        resource.getrlimit(getattr(resource, name))
        for name in dir(resource)
        if name.startswith("RLIMIT_")
    ]
    user = os.getresuid(), os.getresgid(), os.getgroups()
    return variables, limits, os.sched_getaffinity(0), os.nice(0), user


class ForkServer:
    """A running server. `modules` are imported there, for all that come from it."""

    def __init__(self, modules: Sequence[str]) -> None:
        self.surroundings = surroundings()
        #: Where it imports from, until it is a worker.
        self.sys_path = [*sys.path]
        self._lock = threading.Lock()
        self._channel, theirs = socket.socketpair()
        try:
            with theirs:
                serving = _Server(theirs.fileno(), tuple(modules))
                with booted(BOOT), interrupts_held():
                    serving.start()
        except Exception as error:
            self._channel.close()
            raise LaunchError(
                f"the fork server could not be started: {type(error).__name__}: {error}"
            ) from error
        # Nobody at the exit of this process is to wait for it: it ends when the channel does.
        multiprocess.process._children.discard(serving)  # noqa: SLF001  # no public way
        self._process = serving
        self._channel.settimeout(_PATIENCE)

    def fork(self, spec: WorkerSpec) -> int:
        """Make a worker; return its process id. Raises OSError, or what pickling raises."""
        role = io.BytesIO()
        multiprocess.reduction.dump(Working(spec), role)
        data = multiprocess.spawn.get_preparation_data(spec.worker)
        preparation = cast(
            "boot.Preparation", {key: data[key] for key in ("sys_path", "sys_argv", "dir")}
        )
        os.umask(umask := os.umask(0o77))
        pid = self._ask(forkserver.Fork(preparation, role.getvalue(), umask))
        if not isinstance(pid, int):
            raise TypeError(f"the fork server answered {pid!r}")
        return pid

    def also_import(self, modules: Sequence[str]) -> None:
        """Have more imported before the next worker is made; one that has ended does not."""
        data = pickle.dumps(forkserver.Import(tuple(modules)))
        with self._lock, contextlib.suppress(OSError):
            forkserver.send(self._channel, data)

    def exit_code(self, pid: int) -> int | None:
        """Collect a worker that has ended; None while it runs.

        Raises ChildProcessError if nobody can tell any more.
        """
        try:
            code = self._ask(forkserver.Look(pid))
        except OSError:
            return _inherited(pid)
        return code if isinstance(code, int) else None

    def _ask(self, order: forkserver.Order) -> object:
        data = pickle.dumps(order)
        with self._lock:
            try:
                forkserver.send(self._channel, data)
                answer = forkserver.receive(self._channel)
                if answer is None:
                    raise ConnectionResetError("the fork server has ended")
            except BaseException:
                # What it may answer yet would be taken for the answer to the next order, and a
                # worker that it makes yet for the one that is spawned instead.
                self._channel.close()
                with contextlib.suppress(OSError):
                    self._process.kill()
                raise
        found: object = pickle.loads(answer)
        if isinstance(found, OSError):
            raise found
        return found

    def close(self) -> None:
        """Hang up, which ends the server; workers that still run go on."""
        self._channel.close()
        if not self._has_ended():
            with contextlib.suppress(OSError):
                self._process.kill()
            self._has_ended()

    def discard(self) -> None:
        """End a server that has made no worker, whatever it is doing."""
        self._channel.close()
        with contextlib.suppress(OSError):
            self._process.kill()
        self._has_ended()

    def _has_ended(self) -> bool:
        """Collect the server, waiting a moment for its end; return whether it came."""
        # Not by `join`: it waits for a pipe that whatever a worker has forked keeps open.
        deadline = time.monotonic() + _LAST_WORD
        while self._process.exitcode is None:
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK)
        return True


def _inherited(pid: int) -> int | None:
    """Collect a worker that became a child of this process when the server had ended.

    The first process of a container gets all that have lost their parent. Raises ChildProcessError
    if that is another one.
    """
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


class _Server(multiprocess.context.SpawnProcess):  # type: ignore[misc]  # it has no types
    """A process whose pickle says that it is the server, and where its channel is."""

    def __init__(self, channel: int, modules: tuple[str, ...]) -> None:
        super().__init__(name="farm-forkserver")
        self._channel = channel
        self._modules = modules

    def __reduce__(self) -> tuple[Callable[[boot.Role], boot.Role], tuple[forkserver.Serving]]:
        popen = multiprocess.context.get_spawning_popen()
        channel: int = popen.duplicate_for_child(self._channel)
        return boot.received, (forkserver.Serving(channel, os.getpid(), self._modules),)
