"""The hooks that pytest-xdist gives to conftests and plugins, for where xdist is not installed.

Suites and plugins (pytest-cov, pytest-rerunfailures, …) implement them to pass data to workers and
back. The names and the meaning are xdist's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snapfarm.node import WorkerNode


@pytest.hookspec()
def pytest_xdist_setupnodes(config: pytest.Config, specs: Sequence[object]) -> None:
    """Called before any worker is set up."""


@pytest.hookspec()
def pytest_configure_node(node: WorkerNode) -> None:
    """Called before a worker is started: put plain data into `node.workerinput`."""


@pytest.hookspec()
def pytest_testnodeready(node: WorkerNode) -> None:
    """Called when a worker has connected."""


@pytest.hookspec()
def pytest_testnodedown(node: WorkerNode, error: object | None) -> None:
    """Called when a worker is gone; `node.workeroutput` holds what it left, `error` why it died."""


@pytest.hookspec()
def pytest_xdist_node_collection_finished(node: WorkerNode, ids: Sequence[str]) -> None:
    """Called when a worker has collected; `ids` are node ids in order."""


@pytest.hookspec(firstresult=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Return how many workers `auto` means."""


@pytest.hookspec(firstresult=True)
def pytest_handlecrashitem(crashitem: str, report: pytest.TestReport, sched: object) -> object:
    """Called when an item has killed its worker, with the report that will be logged.

    `sched.mark_test_pending(crashitem)` runs the item again; the outcome is then to be "rerun".
    """
