"""A worker as conftests and plugins know it from pytest-xdist: `report.node` and the node hooks."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from snapfarm_worker import wire


class GatewaySpec:
    """How a worker is reached; always a process on this machine."""

    def __init__(self, worker: str) -> None:
        self.id = worker
        self.popen = True
        self.chdir: str | None = None
        self.python: str | None = None


class Gateway:
    """Carries a worker's id, where xdist has its connection."""

    def __init__(self, worker: str) -> None:
        self.id = worker
        self.spec = GatewaySpec(worker)

    def _rinfo(self) -> SimpleNamespace:
        """Return what pytest-cov asks of the connection: which Python a worker runs."""
        return SimpleNamespace(
            platform=sys.platform,
            version_info=tuple(sys.version_info),
            executable=sys.executable,
        )

    def __repr__(self) -> str:
        return f"<Gateway {self.id}>"


class NodeManager:
    """Stands where xdist has the manager of all nodes: nothing is copied to other machines."""

    def __init__(self, config: pytest.Config, testrun: str) -> None:
        self.config = config
        self.testrunuid = testrun
        self.roots: tuple[object, ...] = ()


class WorkerNode:
    """One incarnation of a worker, with the data that goes to it and comes back.

    `workerinput` may be filled until the worker is started. `workeroutput` exists once the
    worker's session has ended in order; `workerinfo` once the worker has connected.
    """

    workeroutput: dict[str, object]

    def __init__(
        self,
        worker: str,
        config: pytest.Config,
        workerinput: dict[str, object],
        nodemanager: NodeManager,
    ) -> None:
        self.gateway = Gateway(worker)
        self.nodemanager = nodemanager
        self.config = config
        self.workerinput = workerinput
        # A worker has our interpreter; pytest shows it with each failure.
        self.workerinfo: dict[str, object] = {
            "id": worker,
            "version": sys.version,
            "version_info": tuple(sys.version_info),
            "sysplatform": sys.platform,
            "executable": sys.executable,
        }
        self.shutting_down = False

    def connected(self, hello: wire.Hello) -> None:
        """Learn what the worker is."""
        self.workerinfo.update(
            version=hello.python,
            platform=hello.platform,
            executable=hello.executable,
            cwd=hello.cwd,
        )

    def __repr__(self) -> str:
        return f"<WorkerNode {self.gateway.id}>"
