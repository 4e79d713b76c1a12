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
from snapfarm_worker.django_creation import undo_inherited_block
from snapfarm_worker.fixtures import DatabasePlugin
from snapfarm_worker.jobs import PytestJob
from snapfarm_worker.link import Link
from snapfarm_worker.offers import OfferedLayers
from snapfarm_worker.ring import ResetPolicy, Ring
from snapfarm_worker.snapshot import Snapshot


class PytestRunner:
    """Runs a pytest session whose items come from the coordinator."""

    stage = "pytest"

    def __init__(self, job: PytestJob, link: Link, box: BlackBox, *, sensors: Level) -> None:
        self._job = job
        self._link = link
        self._box = box
        self._databases = Databases(policy=ResetPolicy.TEST, sensors=sensors)
        self._of_django: list[tuple[wire.DjangoOrder, Ring]] = []

    def prepare(self) -> None:
        """Set what suites and plugins expect in a worker's process."""
        session.apply_environment(self._job)
        undo_inherited_block()

    def hold(self, order: wire.DatabaseOrder, snapshot: Snapshot) -> None:
        """Restore a snapshot into a ring, which tests reset unless it is Django's."""
        if not self._databases.names:
            keep_freed_memory()
        ring = self._databases.hold(order, snapshot)
        if order.django is not None:
            self._of_django.append((order.django, ring))

    def offer(self, layers: tuple[wire.Announce, ...]) -> None:
        """Let tests ask for layers, which are fetched when the first one does."""
        offered = OfferedLayers(layers, self._link.send)
        self._link.take_chunks(offered.take)
        self._databases.declare(offered)

    def run(self) -> bool:
        """Run the session; what pytest refuses before it begins is told as the user's mistake."""
        os.environ.update(self._databases.environment())
        try:
            job = self._job
            plugin = DatabasePlugin(self._databases, job.anomalies, job.evidence, job.redact)
            self._link.each_pulse(plugin.remember)
            session.run_session(self._job, self._link, self._box, plugin, self._framework_plugins())
        except (pytest.UsageError, ConftestImportFailure) as error:
            self._link.send(wire.WorkerFailed("configure", _told(error), usage=True))
            return False
        return True

    def _framework_plugins(self) -> dict[str, object]:
        if not self._of_django:
            return {}
        from snapfarm_worker.django_databases import DjangoDatabases

        return {"farm-django": DjangoDatabases(self._of_django)}

    def close(self) -> None:
        """Close the databases."""
        self._databases.close()


def _told(error: Exception) -> str:
    if isinstance(error, ConftestImportFailure):
        cause = "".join(traceback.format_exception(error.cause))
        return f"ImportError while loading conftest {str(error.path)!r}\n{cause}"
    return "\n".join(str(part) for part in error.args)
