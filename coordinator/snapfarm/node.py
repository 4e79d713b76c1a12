"""A worker as conftests and plugins know it from pytest-xdist: `report.node` and the node hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


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

    def __repr__(self) -> str:
        return f"<Gateway {self.id}>"


class WorkerNode:
    """One incarnation of a worker, with the data that goes to it and comes back.

    `workerinput` may be filled until the worker is started. `workeroutput` exists once the
    worker's session has ended in order; `workerinfo` once the worker has connected.
    """

    workeroutput: dict[str, object]

    def __init__(self, worker: str, config: pytest.Config, workerinput: dict[str, object]) -> None:
        self.gateway = Gateway(worker)
        self.config = config
        self.workerinput = workerinput
        self.workerinfo: dict[str, object] = {"id": worker}
        self.shutting_down = False

    def __repr__(self) -> str:
        return f"<WorkerNode {self.gateway.id}>"
