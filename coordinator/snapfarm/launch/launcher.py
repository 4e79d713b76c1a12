"""Starts worker processes by one start method, and has the fork server where that needs one."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

from snapfarm.errors import LaunchError
from snapfarm.launch.descriptors import take_standard_ones
from snapfarm.launch.forkserver import ForkServer, surroundings
from snapfarm.launch.local import LocalWorker
from snapfarm.launch.preloading import Preload
from snapfarm_worker.jobs import WorkerSpec

#: What every worker that runs tests imports, what pytest imports for each session, and what our
#: plugin does.
OF_PYTEST = (
    "snapfarm_worker.agent",
    "snapfarm_worker.testing",
    "snapfarm_worker.forkserver_pytest",
    "snapfarm.roles",
)
#: What every worker of a pool imports.
OF_A_POOL = ("snapfarm_worker.agent", "snapfarm_worker.tasks")


class Launcher:
    """Starts workers. `modules` are what a fork server imports for all of them, then `more`.

    A server that has imported packages of `more` from elsewhere than this process did in the end is
    given up, and so are these.
    """

    def __init__(
        self, start_method: str, modules: Sequence[str], more: Sequence[Preload] = ()
    ) -> None:
        take_standard_ones()
        self._start_method = start_method
        self._modules = modules
        self._more = more
        self._server: ForkServer | None = None
        self._retired: list[ForkServer] = []

    def prepare(self) -> None:
        """Start the fork server now, if one will be needed. If it fails, the first worker tells."""
        if self._start_method == "forkserver" and can_fork_serve():
            with contextlib.suppress(LaunchError):
                self._server = self._serve(take_early(self._modules))
        discard_early()

    def start(self, spec: WorkerSpec) -> LocalWorker:
        """Start a worker. Raises LaunchError."""
        if self._start_method != "forkserver":
            return LocalWorker(spec, self._start_method)
        if not can_fork_serve():
            return LocalWorker(spec, "spawn")
        misplaced = any(each.is_misplaced() for each in self._more)
        if misplaced:
            self._more = ()
        if self._server is not None and (misplaced or self._server.surroundings != surroundings()):
            # A conftest has set what only a new process takes over. Its workers still need this
            # one to tell how they ended.
            self._retired.append(self._server)
            self._server = None
        try:
            if self._server is None:
                self._server = self._serve()
            return LocalWorker(spec, self._start_method, self._server)
        except LaunchError:
            # It may be gone, or can't be started here at all. And what can't be forked may well be
            # spawned.
            return LocalWorker(spec, "spawn")

    def _serve(self, server: ForkServer | None = None) -> ForkServer:
        server = server or ForkServer(self._modules)
        if self._more:
            server.also_import([each.module for each in self._more])
        return server

    def close(self) -> None:
        """End the server. Workers can't be asked how they ended any more."""
        servers = self._retired if self._server is None else [*self._retired, self._server]
        self._server, self._retired = None, []
        for server in servers:
            server.close()


#: What was started before anybody knew whether it would be needed, by what it imports.
_early: dict[tuple[str, ...], ForkServer] = {}
#: What this process had imported by then, for its own use.
_imported_early: set[str] = set()


def start_early(modules: Sequence[str]) -> None:
    """Start a fork server for a launcher that will soon be there, while others import."""
    take_standard_ones()
    if can_fork_serve():
        with contextlib.suppress(LaunchError):
            _early[tuple(modules)] = ForkServer(modules)
        _imported_early.update(sys.modules)


def was_imported_early(name: str) -> bool:
    """Tell whether a module was here before any plugin was."""
    return name in _imported_early


def take_early(modules: Sequence[str]) -> ForkServer | None:
    """Return the server that was started early for these modules, if any.

    Not where a plugin has changed the import path since: it would import Django, say, from
    elsewhere than this process does.
    """
    server = _early.get(tuple(modules))
    if server is None or server.sys_path != sys.path:
        return None
    return _early.pop(tuple(modules))


def discard_early() -> None:
    """End the servers that nobody has taken."""
    while _early:
        _early.popitem()[1].discard()


def can_fork_serve() -> bool:
    """Whether copies of a server are as good as new processes.

    The system has to tell of the end of processes that are not this one's children. And coverage
    begins with each new process that finds its variables, the server among them: what it measures
    there is no copy's.
    """
    return (
        _tells_of_ends()
        # An executable that has all modules in itself takes no other program, as the server is.
        and not getattr(sys, "frozen", False)
        and not any(name.startswith("COV") for name in os.environ)
    )


def _tells_of_ends() -> bool:
    """Whether the system does what Python may know of it: an old one, or a sandbox, may refuse."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True
