"""Keeps what happens in a run in the report's model."""

from __future__ import annotations

import secrets
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec

from snapfarm import __version__
from snapfarm.report.model import Attempt, GoldenLine, ItemLine, RunReport
from snapfarm.report.reading import attempts, phase_of, relative
from snapfarm.report.timeline import Phase, Timeline
from snapfarm_worker import wire
from snapfarm_worker.evidence import DatabaseEvidence
from snapfarm_worker.snapshot import BASE

if TYPE_CHECKING:
    import pytest

    from snapfarm.errors import LaunchError
    from snapfarm.golden import GoldenResult
    from snapfarm.happenings import Died
    from snapfarm_worker.anomaly import Anomaly
    from snapfarm_worker.items import ItemDatabases
    from snapfarm_worker.wire import FromWorker

#: Characters of a worker's last words that are shown.
_LAST_WORDS = 4000

#: Outcome of an attempt after which pytest-rerunfailures runs the item again.
_RERUN = frozenset({"rerun"})


class RunRecorder:
    """The report of a run while it is being made."""

    def __init__(self, workers: int, dist: str, *, root: str = "") -> None:
        started = time.time()
        self.report = RunReport(
            run=f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(started))}-{secrets.token_hex(3)}",
            snapfarm=__version__,
            python=sys.version.split()[0],
            sqlite=sqlite3.sqlite_version,
            started=started,
            planned_workers=workers,
            dist=dist,
        )
        #: Whether it is a farm's run, with workers or without: kept, published, shown at the end.
        self.complete = bool(workers)
        self._root = root
        self._began = time.monotonic()
        #: Attempts that killed a worker, of items that run again, by node id.
        self._crashed: dict[str, tuple[Attempt, ...]] = {}
        #: What an item's last message says of its resets and its evidence, until it is recorded.
        self._last: tuple[float, tuple[DatabaseEvidence, ...]] = (0.0, ())
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
                self._last = sum(reset.seconds for reset in resets), message.evidence
                self._timeline.item_ended(now)
                line.items += 1
                line.busy_seconds += seconds
                for reset in resets:
                    line.resets[reset.tier] = line.resets.get(reset.tier, 0) + 1
                    line.reset_seconds += reset.seconds
                self.anomalies(anomalies)
            case _:
                pass

    def restored(self, worker: str) -> int:
        """Return how many databases a worker has restored and verified."""
        return len(self.report.worker(worker).restore_seconds)

    def ready(self, worker: str) -> None:
        """Keep that a worker holds all databases."""
        self._timeline.ready(worker, time.monotonic())

    def finished(
        self,
        nodeid: str,
        worker: str,
        seconds: float,
        phases: Iterable[Phase],
        evidence: tuple[DatabaseEvidence, ...] = (),
        resets: tuple[wire.RingReset, ...] = (),
    ) -> None:
        """Keep an item's outcome, which is that of its worst phase, and what its phases took.

        `evidence` and `resets` are given where they did not come with a message.
        """
        phases = tuple(phases)
        reset, sent = self._last
        self._last = (0.0, ())
        reset += sum(each.seconds for each in resets)
        began = self._ago(seconds)
        tries = self._crashed.pop(nodeid, ())
        if tries or any(phase.failure is not None for phase in phases):
            tries += attempts(phases, worker, began, evidence or sent)
        spent = {"setup": 0.0, "call": 0.0, "teardown": 0.0}
        for phase in phases:
            if phase.when in spent:
                spent[phase.when] += phase.seconds
        if self.report.planned_workers:
            line = self.report.worker(worker)
            line.setup_seconds += spent["setup"]
            line.call_seconds += spent["call"]
            line.teardown_seconds += spent["teardown"]
        found = {phase.outcome for phase in phases}
        outcome = next((o for o in ("failed", "skipped") if o in found - _RERUN), "passed")
        path, place = phases[0].place if phases else ("", 0)
        self.report.items.append(
            ItemLine(
                nodeid=nodeid,
                outcome=outcome,
                worker=worker,
                seconds=seconds,
                began=began,
                setup=spent["setup"],
                call=spent["call"],
                teardown=spent["teardown"],
                reset=reset,
                path=path,
                line=place,
                detail=next((phase.detail for phase in phases if phase.detail), ""),
                attempts=self._at_home(tries),
            )
        )

    def crashed(
        self, nodeid: str, died: Died, seconds: float, phase: Phase, *, final: bool = True
    ) -> None:
        """Keep that an item killed its worker; `final` if that is its outcome."""
        began = self._ago(seconds)
        kept = tuple(self._remains(nodeid, died))
        tries = self._crashed.pop(nodeid, ()) + attempts([phase], died.worker, began, kept)
        if not final:
            self._crashed[nodeid] = tries
            return
        path, line = phase.place
        self.report.items.append(
            ItemLine(
                nodeid=nodeid,
                outcome="failed",
                worker=died.worker,
                seconds=seconds,
                crashed=True,
                began=began,
                path=path,
                line=line,
                attempts=self._at_home(tries),
            )
        )

    def _remains(self, nodeid: str, died: Died) -> Iterator[DatabaseEvidence]:
        """Yield what is known of the databases of a worker that a test has killed."""
        words = died.words
        said = {}
        if words is not None and words.test == nodeid:
            said = {each.database: each.statements for each in words.databases}
        for golden in self.report.golden:
            if "/" not in golden.name:
                yield DatabaseEvidence(
                    database=golden.name,
                    statements=said.get(golden.name, ()),
                    note=(
                        "it was in the memory of its worker, and ended with it; its golden state "
                        f"is {golden.digest[:12]}"
                        + ("; statements up to a second before" if golden.name in said else "")
                    ),
                )

    def _ago(self, seconds: float) -> float:
        """Return when something began that has just ended, in seconds since the run began."""
        return max(0.0, time.monotonic() - self._began - seconds)

    def _at_home(self, tries: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
        """Return attempts with the paths in them relative to the root."""
        return tuple(
            msgspec.structs.replace(
                each,
                failures=tuple(
                    msgspec.structs.replace(failure, path=relative(failure.path, self._root))
                    for failure in each.failures
                ),
                evidence=tuple(self._kept_at_home(kept) for kept in each.evidence),
            )
            for each in tries
        )

    def _kept_at_home(self, kept: DatabaseEvidence) -> DatabaseEvidence:
        return msgspec.structs.replace(
            kept,
            file=relative(kept.file, self._root),
            statements=tuple(
                msgspec.structs.replace(each, connection=self._shortened(each.connection))
                for each in kept.statements
            ),
        )

    def _shortened(self, text: str) -> str:
        """Return a text in which paths are relative to the root."""
        return text.replace(f"{self._root}/", "") if self._root else text

    def anomalies(self, found: Iterable[Anomaly]) -> None:
        """Keep anomalies that did not come with a worker's message."""
        self.report.anomalies += map(self._near, found)

    def _near(self, anomaly: Anomaly) -> Anomaly:
        """Return an anomaly with the paths in its texts relative to the root."""
        return msgspec.structs.replace(
            anomaly,
            message=self._shortened(anomaly.message),
            stack=tuple(map(self._shortened, anomaly.stack)),
            evidence=tuple(map(self._shortened, anomaly.evidence)),
        )

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
                line.launched = self._timeline.launched_at(line.worker)
        self.report.exit_status = exit_status
        return self.report


class PlainItems:
    """The pytest plugin that keeps the items of a run without a farm."""

    def __init__(self, recorder: RunRecorder, databases: ItemDatabases | None = None) -> None:
        """`databases` is asked for the resets and the evidence of each item."""
        self._recorder = recorder
        self._databases = databases
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
        phases = [phase_of(each) for each in found]
        resets: tuple[wire.RingReset, ...] = ()
        evidence: tuple[DatabaseEvidence, ...] = ()
        if self._databases is not None:
            _, resets = self._databases.take(nodeid)
            evidence = self._databases.take_evidence(nodeid)
        self._recorder.finished(nodeid, worker, seconds, phases, evidence, resets)
