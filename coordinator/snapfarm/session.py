"""The coordinator as a pytest session: it collects nothing and replays what its workers report.

pytest, its terminal, junitxml and every reporting plugin see an ordinary session whose reports
happen to come from elsewhere. `RunRecorder` keeps what the farm's own reports need.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from snapfarm import replay
from snapfarm.broadcast import Broadcast
from snapfarm.dispatch import CollectionsDiffer, Dispatcher, DistMode
from snapfarm.errors import UserError
from snapfarm.farm import Farm, Limits
from snapfarm.golden import GoldenResult, describe, obtain
from snapfarm.hub import Died, Hub, KillReason
from snapfarm.launch.folder import RunFolder
from snapfarm.launch.local import LocalWorker
from snapfarm.node import WorkerNode
from snapfarm.recorder import RunRecorder
from snapfarm.report import terminal
from snapfarm.store import SnapshotStore
from snapfarm_worker import plain, wire
from snapfarm_worker.agent import WorkerFiles, WorkerSpec
from snapfarm_worker.blackbox import RUNNING
from snapfarm_worker.items import PytestJob

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

    from snapfarm.config import FarmConfig
    from snapfarm_worker.wire import FromWorker, Location

#: `sys.path` before pytest put anything into it: what workers start from.
_SYS_PATH = tuple(sys.path)
#: Seconds between two pulses of a worker.
_PULSE = 1.0
#: Node ids that are shown of a difference between two collections.
_DIFFERENCES = 10


class FarmSession:
    """The pytest plugin that is the coordinator; the owner of a `Farm`."""

    def __init__(self, config: pytest.Config, farm_config: FarmConfig, workers: int) -> None:
        self._config = config
        self._settings = farm_config
        self._workers = workers
        self._testrun = str(_option(config, "testrunuid") or uuid.uuid4().hex)
        self._recorder = RunRecorder(workers, farm_config.dist)
        self._nodes: dict[str, WorkerNode] = {}
        #: Where each item is, from its start message.
        self._locations: dict[str, Location] = {}
        self._collect_failures: set[tuple[str, str]] = set()
        self._seen_warnings: set[tuple[str, str, int]] = set()
        self._indexes: dict[str, int] = {}
        self._collected: set[str] = set()
        self._announced = False
        #: What shall end the run once the workers have: raised from the run loop.
        self._verdict: BaseException | None = None
        self._internal_error = False
        self._began = time.monotonic()
        self._folder: RunFolder | None = None
        self._hub: Hub | None = None
        self._farm: Farm | None = None
        self._goldens: tuple[GoldenResult, ...] = ()

    @property
    def report(self) -> RunRecorder:
        """What was recorded of the run."""
        return self._recorder

    # ------------------------------------------------------------ pytest's hooks

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Start the workers, then obtain the golden databases while they start."""
        self._session = session
        try:
            self._open()
        except UserError as error:
            self.close()
            raise pytest.UsageError(str(error)) from error
        except BaseException:
            # pytest finishes no session that did not start.
            self.close()
            raise

    def _open(self) -> None:
        self._folder = RunFolder()
        self._hub = Hub(
            self._folder.path,
            lambda spec: LocalWorker(spec, self._settings.start_method),
            expected=self._workers,
            silence=self._settings.heartbeat_timeout,
        )
        dispatcher = Dispatcher(
            self._workers,
            DistMode(self._settings.dist),
            max_worker_restart=self._settings.max_worker_restart,
        )
        limits = Limits(
            item=self._settings.test_timeout,
            start=self._settings.start_timeout,
            stop=self._settings.stop_timeout,
        )
        self._farm = Farm(self._hub, dispatcher, self, limits)
        self._began = time.monotonic()
        self._call_node_hook("pytest_xdist_setupnodes", specs=[])
        self._farm.start(self._workers)
        self._serve_databases(self._hub)

    def _serve_databases(self, hub: Hub) -> None:
        rebuild = bool(_option(self._config, "rebuild_golden"))
        self._goldens = obtain(
            self._settings,
            rebuild=rebuild,
            on_start=lambda golden: self._say(f"golden  {golden.name}   is being built"),
            scratch=None if self._folder is None else self._folder.path,
        )
        store = SnapshotStore.sized_for(result.snapshot.manifest.size for result in self._goldens)
        broadcast = Broadcast(self._settings.chunk_size)
        orders = []
        by_name = {golden.name: golden for golden in self._settings.golden}
        for result in self._goldens:
            store.put(result.snapshot)
            manifest = result.snapshot.manifest
            announce = broadcast.add(manifest, store.image(manifest.digest))
            golden = by_name[result.name]
            ring = golden.ring or self._settings.ring
            reset = golden.reset or self._settings.reset
            orders.append(wire.DatabaseOrder(announce, ring, reset))
            self._recorder.golden(result)
        for result in self._goldens:
            self._say(describe(result))
            for note in result.notes:
                self._say(f"        {result.name}: {note}")
        hub.serve(broadcast, tuple(orders))

    def pytest_collection(self, session: pytest.Session) -> bool:
        """Collect nothing here: the workers do."""
        del session
        return True

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Replay what the workers report until all is done."""
        farm = self._running_farm()
        try:
            while not farm.done:
                farm.step()
                self._obey(session)
        except KeyboardInterrupt:
            self._say("interrupted: the workers are being ended")
            farm.abort()
            self._recorder.unrun(farm.unrun, "the run was interrupted")
            raise
        if farm.unrun and not self._recorder.report.unrun:
            self._recorder.unrun(farm.unrun, self._stop_reason(session))
        if self._verdict is not None:
            raise self._verdict
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        return True

    def _obey(self, session: pytest.Session) -> None:
        """Stop the farm when pytest, or a plugin, wants to stop."""
        if reason := self._stop_reason(session):
            self._running_farm().stop(reason)

    def _stop_reason(self, session: pytest.Session) -> str:
        return str(self._verdict or session.shouldfail or session.shouldstop or "")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> object:
        """Leave no process and no file behind, whatever ended the session."""
        try:
            if self._internal_error:
                session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
            return (yield)
        finally:
            self.close()

    def pytest_unconfigure(self) -> None:
        """Leave nothing behind also where the session did not get so far as to start."""
        self.close()

    def close(self) -> None:
        """Kill what is left of the farm and remove its folder."""
        if self._hub is not None:
            self._hub.close()
            self._hub = None
        if self._folder is not None:
            self._folder.remove()
            self._folder = None

    # ------------------------------------------------------------ the farm's owner

    def specify(self, worker: str) -> WorkerSpec:
        """Describe a new worker, after conftests and plugins had their say about it."""
        folder, hub = self._folder, self._hub
        if folder is None or hub is None:
            raise RuntimeError("a worker was asked for before the session started")
        node = WorkerNode(
            worker,
            self._config,
            {
                "workerid": worker,
                "workercount": self._workers,
                "testrunuid": self._testrun,
                "mainargv": list(sys.argv),
            },
        )
        self._nodes[worker] = node
        self._call_node_hook("pytest_configure_node", node=node)
        factory = getattr(self._config, "_tmp_path_factory", None)
        base_temp = None if factory is None else str(factory.getbasetemp() / f"popen-{worker}")
        return WorkerSpec(
            worker=worker,
            files=WorkerFiles(str(folder.path), worker),
            control=hub.control,
            broadcast=hub.news,
            coordinator=os.getpid(),
            pulse=_PULSE,
            sensors=self._settings.sensors == "on",
            job=PytestJob(
                args=tuple(os.fspath(arg) for arg in self._config.invocation_params.args),
                worker_input=node.workerinput,
                base_temp=base_temp,
                sys_path=_SYS_PATH,
                prog=Path(sys.argv[0]).name,
            ),
        )

    def arrived(self, worker: str, message: FromWorker) -> None:
        """Hand a worker's message to pytest."""
        self._recorder.arrived(worker, message)
        match message:
            case wire.Hello():
                self._hello(worker, message)
            case wire.CollectReported(report=data):
                self._collect_reported(data)
            case wire.WarningRecorded():
                self._warned(message)
            case wire.Collected():
                self._worker_collected(worker, message)
            case wire.ItemStarted(key=key, location=location):
                self._locations[key] = location
                self._config.hook.pytest_runtest_logstart(nodeid=nodeid_of(key), location=location)
            case wire.ItemFinished():
                self._item_finished(worker, message)
            case wire.Stopping(reason=reason, failed=failed):
                if failed:
                    self._session.shouldfail = self._session.shouldfail or reason
                else:
                    self._session.shouldstop = self._session.shouldstop or reason
            case wire.SessionEnded():
                self._session_ended(worker, message)
            case wire.WorkerFailed():
                self._worker_failed(worker, message)
            case _:
                pass

    def _hello(self, worker: str, hello: wire.Hello) -> None:
        node = self._nodes[worker]
        node.workerinfo.update(
            version=hello.python,
            version_info=tuple(sys.version_info),
            sysplatform=sys.platform,
            platform=hello.platform,
            executable=hello.executable,
            cwd=hello.cwd,
        )
        self._call_node_hook("pytest_testnodeready", node=node)

    def _collect_reported(self, data: bytes) -> None:
        """Replay a failed or skipped collector once, though every worker reports it."""
        for report in replay.reports(self._config, data):
            identity = (report.nodeid, str(report.longrepr))
            if identity not in self._collect_failures:
                self._collect_failures.add(identity)
                self._config.hook.pytest_collectreport(report=report)

    def _warned(self, message: wire.WarningRecorded) -> None:
        """Replay a warning; one of configuration or collection once for all workers."""
        warning = replay.warning_message(message.warning)
        if message.when != "runtest":
            identity = (str(warning.message), warning.filename, warning.lineno)
            if identity in self._seen_warnings:
                return
            self._seen_warnings.add(identity)
        self._config.hook.pytest_warning_recorded.call_historic(
            kwargs={
                "warning_message": warning,
                "when": message.when,
                "nodeid": message.nodeid,
                "location": message.location,
            }
        )

    def _worker_collected(self, worker: str, message: wire.Collected) -> None:
        keys = [item.key for item in message.items]
        self._collected.add(worker)
        if not self._indexes:
            self._indexes = {key: index for index, key in enumerate(keys)}
            self._session.testscollected = len(keys)
            reporter = self._reporter()
            if reporter is not None and message.deselected:
                reporter.stats.setdefault("deselected", []).extend(message.deselected)
        self._call_node_hook(
            "pytest_xdist_node_collection_finished",
            node=self._nodes[worker],
            ids=[nodeid_of(key) for key in keys],
        )
        errors = self._session.testsfailed
        if message.errors and not self._config.getoption("continue_on_collection_errors"):
            plural = "s" if errors != 1 else ""
            self._verdict = self._session.Interrupted(f"{errors} error{plural} during collection")
        if len(self._collected) >= self._workers:
            self._announce_ready()

    def _item_finished(self, worker: str, message: wire.ItemFinished) -> None:
        key, node = message.key, self._nodes[worker]
        self._announce_ready()
        found = replay.item_reports(
            self._config, message.reports, node, self._testrun, self._indexes[key]
        )
        hook = self._config.hook
        for report in found:
            hook.pytest_runtest_logreport(report=report)
        nodeid = nodeid_of(key)
        hook.pytest_runtest_logfinish(nodeid=nodeid, location=self._location(key))
        self._recorder.finished(nodeid, worker, message, [report.outcome for report in found])

    def crashed(self, key: str, died: Died, seconds: float) -> None:
        """Report an item that killed its worker: this is its outcome."""
        nodeid = nodeid_of(key)
        report = replay.crash_report(
            nodeid, self._location(key), died, seconds, self._settings.test_timeout
        )
        vars(report).update(
            node=self._nodes[died.worker],
            worker_id=died.worker,
            testrun_uid=self._testrun,
            item_index=self._indexes.get(key, 0),
            farm_crash=True,
        )
        self._announce_ready()
        hook = self._config.hook
        hook.pytest_handlecrashitem(crashitem=nodeid, report=report, sched=None)
        hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=nodeid, location=report.location)
        self._recorder.crashed(nodeid, died, seconds)

    def down(self, worker: str, died: Died, *, orderly: bool) -> None:
        """Tell plugins that a worker is gone, and keep what it said about its end."""
        expected = orderly and (died.exit_code == 0 or died.killed is KillReason.ENDING)
        error = None if expected else _end_of(died)
        if error is not None and not self._running_farm().stopping:
            self._recorder.death(worker, error)
            if died.record.phase not in RUNNING:
                self._tell(worker, f"its process ended: {error}")
        self._call_node_hook("pytest_testnodedown", node=self._nodes[worker], error=error)

    def printed(self, worker: str, lines: tuple[str, ...]) -> None:
        """Show what a worker wrote past pytest's capture (all of it, with `-s`)."""
        reporter = self._reporter()
        if reporter is None:
            return
        reporter.ensure_newline()
        for line in lines:
            reporter.write_line(f"[{worker}] {line}")

    def noticed(self, worker: str, what: str) -> None:
        """Keep what is odd for the report, and tell it."""
        self._recorder.notice(f"{worker}: {what}")
        self._tell(worker, what)

    def differ(self, difference: CollectionsDiffer) -> None:
        """Stop with a usage error that shows where two collections differ."""
        self._verdict = pytest.UsageError(_difference(difference))

    def gave_up(self, reason: str, unrun: tuple[str, ...]) -> None:
        """End the run: nobody is left to run these items."""
        self._recorder.unrun([nodeid_of(key) for key in unrun], reason)
        if self._verdict is None:
            last_words = self._recorder.last_words()
            self._verdict = self._session.Interrupted(
                f"{reason}\n{last_words}" if last_words else reason
            )

    def _session_ended(self, worker: str, message: wire.SessionEnded) -> None:
        node = self._nodes[worker]
        node.workeroutput = cast("dict[str, object]", plain.decode(message.output))
        if message.reason and not self._running_farm().stopping and self._verdict is None:
            # pytest.exit() or a KeyboardInterrupt of the test's own: it ends the whole run.
            self._verdict = pytest.exit.Exception(
                f"{worker}: {message.reason}", returncode=message.exit_status
            )

    def _worker_failed(self, worker: str, message: wire.WorkerFailed) -> None:
        self._recorder.failed(worker, message)
        if message.stage == "pytest" and not message.usage:
            self._internal_error = True
            self._session.shouldstop = f"an internal error in worker {worker}"
            if (reporter := self._reporter()) is not None:
                for line in message.message.splitlines():
                    reporter.write_line(f"INTERNALERROR> [{worker}] {line}")

    # ------------------------------------------------------------ telling

    def _announce_ready(self) -> None:
        """Say once how many workers are ready: when all are, or when the first result comes."""
        if self._announced:
            return
        self._announced = True
        ready = len(self._collected)
        verified = self._recorder.verified(len(self._goldens)) if self._goldens else None
        seconds = time.monotonic() - self._began
        self._say(terminal.ready_line(ready, self._workers, seconds, verified, len(self._indexes)))

    def _say(self, line: str) -> None:
        reporter = self._reporter()
        if reporter is not None and self._config.get_verbosity() >= 0:
            reporter.ensure_newline()
            reporter.write_line(line)

    def _tell(self, worker: str, what: str) -> None:
        reporter = self._reporter()
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(f"[{worker}] {what}", yellow=True)

    def _reporter(self) -> TerminalReporter | None:
        return cast(
            "TerminalReporter | None", self._config.pluginmanager.get_plugin("terminalreporter")
        )

    def _location(self, key: str) -> Location:
        nodeid = nodeid_of(key)
        return self._locations.get(key) or (nodeid.partition("::")[0], None, nodeid)

    def _running_farm(self) -> Farm:
        if self._farm is None:
            raise RuntimeError("the farm was used before the session started")
        return self._farm

    def _call_node_hook(self, name: str, **arguments: object) -> None:
        hook = getattr(self._config.hook, name)
        if name == "pytest_xdist_setupnodes":
            arguments["config"] = self._config
        hook(**arguments)


def nodeid_of(key: str) -> str:
    """Return the node id in an item's key, which has a counter where node ids repeat."""
    return key.partition("\x00")[0]


def _option(config: pytest.Config, name: str) -> object:
    return getattr(config.option, name, None)


def _end_of(died: Died) -> str:
    doing = died.record.phase.name.lower()
    subject = f" {died.record.subject}" if died.record.subject else ""
    killed = f" (killed by the farm: {died.killed})" if died.killed else ""
    return f"{died.cause}{killed} while {doing}{subject}"


def _difference(difference: CollectionsDiffer) -> str:
    first, other = difference.first_worker, difference.other_worker
    lines = [f"workers {first} and {other} collected different tests, so they can't share them"]
    if difference.reordered:
        lines.append(
            f"the same tests in another order, from number {difference.first_difference + 1} on: "
            "parametrize with a list (or sorted(...)) rather than a set, and keep random values "
            "and object addresses out of test ids"
        )
    for keys, who in ((difference.missing, first), (difference.extra, other)):
        if keys:
            lines.append(f"only {who} has:")
            lines += [f"  {nodeid_of(key)}" for key in keys[:_DIFFERENCES]]
            if len(keys) > _DIFFERENCES:
                lines.append(f"  … and {len(keys) - _DIFFERENCES} more")
    return "\n".join(lines)
