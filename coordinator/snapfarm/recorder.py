"""Keeps what happens in a run in the report's model."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from snapfarm import __version__
from snapfarm.report.model import GoldenLine, ItemLine, RunReport
from snapfarm.report.timeline import Phase, Timeline
from snapfarm_worker import wire
from snapfarm_worker.snapshot import BASE

if TYPE_CHECKING:
    import pytest

    from snapfarm.errors import LaunchError
    from snapfarm.golden import GoldenResult
    from snapfarm.happenings import Died
    from snapfarm_worker.anomaly import Anomaly
    from snapfarm_worker.wire import FromWorker

#: Characters of a worker's last words that are shown.
_LAST_WORDS = 4000


class RunRecorder:
    """The report of a run while it is being made."""

    def __init__(self, workers: int, dist: str) -> None:
        self.report = RunReport(
            snapfarm=__version__,
            python=sys.version.split()[0],
            sqlite=sqlite3.sqlite_version,
            started=time.time(),
            planned_workers=workers,
            dist=dist,
        )
        self._began = time.monotonic()
        self._timeline = Timeline(self._began)
        #: Why workers failed or how they died, in order, each text once.
        self._words: dict[str, str] = {}

    def golden(self, result: GoldenResult) -> None:
        """Keep what a golden database is."""
        manifest = result.snapshot.manifest
        self.report.golden.append(
            GoldenLine(
                name=(
                    result.name
                    if manifest.layer == BASE
                    else f"{manifest.database}/{manifest.layer}"
                ),
                digest=manifest.digest,
                size=manifest.size,
                tables=sum(table.kind != "view" for table in manifest.tables),
                fingerprint=result.fingerprint,
                cached=result.cached,
                build_seconds=result.build_seconds,
                notes=result.notes,
            )
        )

    def launched(self, worker: str) -> None:
        """Keep that a worker is about to be started."""
        self._timeline.launched(worker, time.monotonic())

    def arrived(self, worker: str, message: FromWorker) -> None:
        """Keep what a message says of its worker."""
        line = self.report.worker(worker)
        now = time.monotonic()
        match message:
            case wire.Hello(pid=pid):
                line.pid = pid
                self._timeline.answered(worker, now)
            case wire.SnapshotRestored():
                line.receive_seconds[message.database] = message.receive_seconds
                line.restore_seconds[message.database] = message.restore_seconds
                line.repaired_chunks += message.repaired_chunks
            case wire.Collected(seconds=seconds):
                line.collect_seconds = seconds
                self._timeline.collected(worker, now)
            case wire.ItemStarted():
                self._timeline.item_began(now)
            case wire.SessionEnded():
                self._timeline.session_ended(worker, now)
            case wire.ItemFinished(seconds=seconds, resets=resets, anomalies=anomalies):
                self._timeline.item_ended(now)
                line.items += 1
                line.busy_seconds += seconds
                for reset in resets:
                    line.resets[reset.tier] = line.resets.get(reset.tier, 0) + 1
                    line.reset_seconds += reset.seconds
                self.report.anomalies += anomalies
            case _:
                pass

    def restored(self, worker: str) -> int:
        """Return how many databases a worker has restored and verified."""
        return len(self.report.worker(worker).restore_seconds)

    def ready(self, worker: str) -> None:
        """Keep that a worker holds all databases."""
        self._timeline.ready(worker, time.monotonic())

    def finished(self, nodeid: str, worker: str, seconds: float, phases: Iterable[Phase]) -> None:
        """Keep an item's outcome, which is that of its worst phase, and what its phases took."""
        line = self.report.worker(worker) if self.report.planned_workers else None
        found = set()
        for phase in phases:
            found.add(phase.outcome)
            if line is None:
                continue
            match phase.when:
                case "setup":
                    line.setup_seconds += phase.seconds
                case "call":
                    line.call_seconds += phase.seconds
                case "teardown":
                    line.teardown_seconds += phase.seconds
        worst = next((o for o in ("failed", "rerun", "skipped") if o in found), "passed")
        if worst == "rerun":
            worst = "passed"
        self.report.items.append(
            ItemLine(nodeid=nodeid, outcome=worst, worker=worker, seconds=seconds)
        )

    def crashed(self, nodeid: str, died: Died, seconds: float) -> None:
        """Keep that an item killed its worker."""
        self.report.items.append(
            ItemLine(
                nodeid=nodeid, outcome="failed", worker=died.worker, seconds=seconds, crashed=True
            )
        )

    def anomalies(self, found: Iterable[Anomaly]) -> None:
        """Keep anomalies that did not come with a worker's message."""
        self.report.anomalies += found

    def gone(self, worker: str) -> None:
        """Keep that a worker's process has ended, in order or not."""
        self._timeline.gone(worker, time.monotonic())

    def death(self, worker: str, how: str) -> None:
        """Keep how a worker's process ended."""
        self.report.worker(worker).death = how
        self._words.setdefault(how, worker)

    def failed(self, worker: str, message: wire.WorkerFailed) -> None:
        """Keep why a worker could not go on."""
        self._words.setdefault(message.message.strip()[-_LAST_WORDS:], worker)

    def not_started(self, worker: str, error: LaunchError) -> None:
        """Keep why a worker could not be started."""
        self._words.setdefault(str(error).removeprefix(f"worker {worker} "), worker)

    def last_words(self) -> str:
        """Return why workers ended, each reason once, with the first worker that gave it."""
        return "\n".join(f"{worker}: {words}" for words, worker in self._words.items())

    def unrun(self, nodeids: Iterable[str], reason: str) -> None:
        """Keep which items have no outcome."""
        self.report.unrun = list(nodeids)
        self.report.unrun_reason = reason

    def notice(self, what: str) -> None:
        """Keep something odd."""
        self.report.notices.append(what)

    def close(self, exit_status: int) -> RunReport:
        """Return the finished report."""
        now = time.monotonic()
        self.report.seconds = now - self._began
        self.report.coordinator_cpu = time.process_time()
        if self.report.planned_workers:
            self.report.wall = self._timeline.wall(now)
            for line in self.report.workers.values():
                line.times = self._timeline.of_worker(line.worker, line.busy_seconds)
        self.report.exit_status = exit_status
        return self.report


class PlainItems:
    """The pytest plugin that keeps the items of a run without a farm."""

    def __init__(self, recorder: RunRecorder) -> None:
        self._recorder = recorder
        #: Reports of items that have not ended, by node id.
        self._reports: dict[str, list[pytest.TestReport]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep a report until its item has ended."""
        self._reports.setdefault(report.nodeid, []).append(report)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Keep the item."""
        found = self._reports.pop(nodeid, [])
        worker = next((str(vars(report).get("worker_id", "master")) for report in found), "master")
        seconds = sum(report.duration for report in found)
        phases = [Phase(str(each.when), each.outcome, each.duration) for each in found]
        self._recorder.finished(nodeid, worker, seconds, phases)
