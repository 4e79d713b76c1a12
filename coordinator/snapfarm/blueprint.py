"""What a new worker of a pytest session is started with, and how plugins know it."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from snapfarm.node import NodeManager, WorkerNode
from snapfarm.report import runs
from snapfarm_worker.anomaly import Level
from snapfarm_worker.evidence import EvidenceOrder
from snapfarm_worker.jobs import PytestJob, WorkerFiles, WorkerSpec

if TYPE_CHECKING:
    import pytest

    from snapfarm.config import FarmConfig
    from snapfarm.hub import Hub

#: Most seconds between two pulses of a worker; several must fit into the time of silence.
_PULSE = 1.0
_PULSES_IN_SILENCE = 4


def evidence_order(settings: FarmConfig, run: str, words: str = "") -> EvidenceOrder | None:
    """Return what is to be kept of failures in a run, and where; None if nothing is."""
    if not settings.golden or not settings.keep_failures:
        return None
    return EvidenceOrder(
        folder=str(runs.prepare(settings.cache_path, "failures")),
        run=run,
        budget=settings.keep_failures * 1_000_000,
        redact=settings.redacted,
        words=words,
    )


class Blueprint:
    """Describes workers, after conftests and plugins had their say about each.

    `sys_path` is the import path that workers start from: ours, before conftests changed it.
    """

    def __init__(
        self,
        config: pytest.Config,
        settings: FarmConfig,
        workers: int,
        testrun: str,
        sys_path: tuple[str, ...],
        run: str,
        counts_failures: bool = True,
    ) -> None:
        self._config = config
        self._counts_failures = counts_failures
        self._settings = settings
        self._workers = workers
        self._testrun = testrun
        self._sys_path = sys_path
        self._run = run
        self._node_manager = NodeManager(config, testrun)
        #: Every worker ever described, by its name.
        self.nodes: dict[str, WorkerNode] = {}

    def specify(self, worker: str, folder: Path, hub: Hub) -> WorkerSpec:
        """Describe a new worker of a hub whose files lie in a folder."""
        node = WorkerNode(
            worker,
            self._config,
            {
                "workerid": worker,
                "workercount": self._workers,
                "testrunuid": self._testrun,
                "mainargv": list(sys.argv),
            },
            self._node_manager,
        )
        self.nodes[worker] = node
        self._config.hook.pytest_configure_node(node=node)
        settings, files = self._settings, WorkerFiles(str(folder), worker)
        return WorkerSpec(
            worker=worker,
            files=files,
            control=hub.control,
            broadcast=hub.news,
            coordinator=os.getpid(),
            pulse=min(_PULSE, settings.heartbeat_timeout / _PULSES_IN_SILENCE),
            sensors=Level(settings.sensors),
            token=secrets.token_hex(16),
            job=self._job(node, files),
        )

    def _job(self, node: WorkerNode, files: WorkerFiles) -> PytestJob:
        factory = getattr(self._config, "_tmp_path_factory", None)
        inner = f"popen-{node.gateway.id}"
        given = self._config.invocation_params
        return PytestJob(
            args=tuple(os.fspath(arg) for arg in given.args),
            plugins=tuple(plugin for plugin in given.plugins or () if isinstance(plugin, str)),
            directory=str(given.dir),
            worker_input=node.workerinput,
            base_temp=None if factory is None else str(factory.getbasetemp() / inner),
            sys_path=self._sys_path,
            prog=Path(sys.argv[0]).name,
            environment=dict(os.environ),
            counts_failures=self._counts_failures,
            anomalies=self._settings.anomaly_policy,
            redact=self._settings.redacted,
            evidence=evidence_order(self._settings, self._run, str(files.words)),
        )
