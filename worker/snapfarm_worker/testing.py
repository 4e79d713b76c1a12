"""A worker's job of running tests: pytest between databases and coordinator."""

from __future__ import annotations

import os
import traceback

import pytest
from _pytest.config import ConftestImportFailure

from snapfarm_worker import session, wire
from snapfarm_worker.anomaly import Level
from snapfarm_worker.blackbox import BlackBox
from snapfarm_worker.courier import keep_freed_memory
from snapfarm_worker.databases import Databases
from snapfarm_worker.fixtures import DatabasePlugin
from snapfarm_worker.jobs import PytestJob
from snapfarm_worker.link import Link
from snapfarm_worker.offers import OfferedLayers
from snapfarm_worker.ring import ResetPolicy
from snapfarm_worker.snapshot import Snapshot


class PytestRunner:
    """Runs a pytest session whose items come from the coordinator."""

    stage = "pytest"

    def __init__(self, job: PytestJob, link: Link, box: BlackBox, *, sensors: Level) -> None:
        self._job = job
        self._link = link
        self._box = box
        self._databases = Databases(policy=ResetPolicy.TEST, sensors=sensors)

    def prepare(self) -> None:
        """Set what suites and plugins expect in a worker's process."""
        session.apply_environment(self._job)

    def hold(self, order: wire.DatabaseOrder, snapshot: Snapshot) -> None:
        """Restore a snapshot into a ring that tests reset."""
        if not self._databases.names:
            keep_freed_memory()
        self._databases.hold(order, snapshot)

    def offer(self, layers: tuple[wire.Announce, ...]) -> None:
        """Let tests ask for layers, which are fetched when the first one does."""
        offered = OfferedLayers(layers, self._link.send)
        self._link.take_chunks(offered.take)
        self._databases.declare(offered)

    def run(self) -> bool:
        """Run the session; what pytest refuses before it begins is told as the user's mistake."""
        os.environ.update(self._databases.environment())
        try:
            plugin = DatabasePlugin(self._databases, self._job.anomalies)
            session.run_session(self._job, self._link, self._box, plugin)
        except (pytest.UsageError, ConftestImportFailure) as error:
            self._link.send(wire.WorkerFailed("configure", _told(error), usage=True))
            return False
        return True

    def close(self) -> None:
        """Close the databases."""
        self._databases.close()


def _told(error: Exception) -> str:
    if isinstance(error, ConftestImportFailure):
        cause = "".join(traceback.format_exception(error.cause))
        return f"ImportError while loading conftest {str(error.path)!r}\n{cause}"
    return "\n".join(str(part) for part in error.args)
