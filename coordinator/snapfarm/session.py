"""The coordinator as a pytest session: it collects nothing and replays what its workers report.

pytest, its terminal, junitxml and every reporting plugin see an ordinary session whose reports
happen to come from elsewhere. `RunRecorder` keeps what the farm's own reports need.
"""

from __future__ import annotations

import uuid
from collections import Counter
from typing import TYPE_CHECKING, cast

import pytest

from snapfarm import databases, overruns
from snapfarm.blueprint import Blueprint
from snapfarm.broadcast import Broadcast
from snapfarm.dispatch import CollectionsDiffer, Dispatcher, DistMode
from snapfarm.errors import UserError
from snapfarm.farm import Farm
from snapfarm.flakes.watch import FlakeWatch
from snapfarm.happenings import Died, KillReason, Overran
from snapfarm.hub import Hub
from snapfarm.interrupts import Interrupts
from snapfarm.launch.folder import RunFolder
from snapfarm.launch.launcher import Launcher
from snapfarm.live import Live
from snapfarm.recorder import RunRecorder
from snapfarm.replay import Replay
from snapfarm.report import terminal
from snapfarm.telling import Readiness, Teller
from snapfarm.timekeeper import Limits
from snapfarm_worker import junit, plain, wire
from snapfarm_worker.blackbox import RUNNING
from snapfarm_worker.keys import nodeid_of
from snapfarm_worker.snapshot import BASE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from warnings import WarningMessage

    import zmq

    from snapfarm.broadcast import Frames
    from snapfarm.config import FarmConfig
    from snapfarm.errors import LaunchError
    from snapfarm.golden import GoldenResult
    from snapfarm.node import WorkerNode
    from snapfarm_worker.jobs import WorkerSpec
    from snapfarm_worker.wire import FromWorker


class FarmSession:
    """The pytest plugin that is the coordinator; the owner of a `Farm`."""

    def __init__(
        self,
        config: pytest.Config,
        farm_config: FarmConfig,
        workers: int,
        sys_path: tuple[str, ...],
        launcher: Launcher,
    ) -> None:
        self._config = config
        self._launcher = launcher
        self._settings = farm_config
        self._workers = workers
        self._testrun = str(config.getoption("testrunuid", None) or uuid.uuid4().hex)
        self._recorder = RunRecorder(workers, farm_config.dist, root=str(config.rootpath))
        self._teller = Teller(config)
        try:
            self._watch = FlakeWatch(config, farm_config, workers, self._recorder, self._teller.say)
        except UserError as error:
            raise pytest.UsageError(str(error)) from error
        config.pluginmanager.register(self._watch, "farm-flakes")
        self._blueprint = Blueprint(
            config,
            farm_config,
            workers,
            self._testrun,
            sys_path,
            self._recorder.report.run,
            counts_failures=not self._watch.changes_outcomes,
        )
        self._nodes = self._blueprint.nodes
        self._readiness = Readiness(self._teller, workers)
        self._live = Live(config, workers, farm_config.history_path)
        self._replay = Replay(config, self._testrun, farm_config.test_timeout, self._watch)
        self._collected = False
        #: The last word of workers that stop, until the item that they still run has ended.
        self._unfinished: dict[str, wire.Stopping] = {}
        #: Workers whose pytest session came to an end of its own.
        self._ended: set[str] = set()
        #: What shall end the run once the workers have: raised from the run loop.
        self._verdict: BaseException | None = None
        #: Whether pytest itself, or a plugin, failed in a worker.
        self._failed = False
        #: Whether a hook of this process failed: then nothing is replayed any more.
        self._broken = False
        self._folder: RunFolder | None = None
        self._hub: Hub | None = None
        self._farm: Farm | None = None
        self._goldens: tuple[GoldenResult, ...] = ()
        #: By database, and by database/layer.
        self._digests: dict[str, str] = {}

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
            self._launcher.start,
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
        self._readiness = Readiness(self._teller, self._workers)
        self._farm = Farm(
            self._hub,
            dispatcher,
            self,
            limits,
            reruns=self._is_rerun,
            failures=self if self._settings.reruns else None,
            woke=self._live.hide,
        )
        self._config.hook.pytest_xdist_setupnodes(config=self._config, specs=[])
        self._farm.start(self._workers)
        self._serve_databases(self._hub)
        self._watch.keeper.begin(self._digests, self._settings.ring)

    def _serve_databases(self, hub: Hub) -> None:
        served = databases.served(
            self._config,
            self._settings,
            scratch=None if self._folder is None else self._folder.path,
            say=self._teller.say,
        )
        if served is None:
            hub.serve(Broadcast(self._settings.chunk_size), ())
            return
        self._goldens = served.goldens
        for manifest in (one.snapshot.manifest for one in (*served.goldens, *served.layer_results)):
            layer = "" if manifest.layer == BASE else f"/{manifest.layer}"
            self._digests[f"{manifest.database}{layer}"] = manifest.digest
        for result in (*served.goldens, *served.layer_results):
            self._recorder.golden(result)
        hub.serve(served.broadcast, served.orders, served.layers)

    def pytest_collection(self, session: pytest.Session) -> bool:
        """Collect nothing here: the workers do."""
        del session
        return True

    def pytest_warning_recorded(self, warning_message: WarningMessage, when: str) -> None:
        """Remember our own warnings: workers configure and collect what we do."""
        if when != "runtest":
            self._replay.heard(warning_message)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Replay what the workers report until all is done."""
        farm, hub = self._running_farm(), self._hub
        if hub is None:
            raise RuntimeError("the farm was used before the session started")
        with Interrupts(hub.wake) as interrupts:
            try:
                while not farm.done:
                    self._live.show()
                    # What was not due in the last step is written soon.
                    farm.step(0.05 if self._watch.keeper.pending else 0.5)
                    self._watch.keeper.write()
                    self._obey()
                    interrupts.check()
            except BaseException as error:
                self._live.hide()
                self._abort(farm, interrupts, isinstance(error, KeyboardInterrupt))
                raise
            if farm.unrun and not self._recorder.report.unrun:
                self._recorder.unrun(map(nodeid_of, farm.unrun), self._stop_reason())
        if self._verdict is not None:
            raise self._verdict
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        return True

    def _abort(self, farm: Farm, interrupts: Interrupts, interrupted: bool) -> None:
        """End the workers; whatever happens meanwhile, each item has an outcome or is named."""
        self._broken = not interrupted
        try:
            if interrupted:
                self._teller.say("interrupted: the workers are being ended")
            farm.abort(interrupts.taken)
        finally:
            self._recorder.unrun(self._without_outcome(), "the run was interrupted")

    def _without_outcome(self) -> Iterator[str]:
        """Yield the node id of each item that was collected and of which nothing was recorded."""
        recorded = Counter(item.nodeid for item in self._recorder.report.items)
        for nodeid in map(nodeid_of, self._replay.indexes):
            if not recorded[nodeid]:
                yield nodeid
            recorded[nodeid] -= 1

    def _obey(self) -> None:
        """Stop the farm when pytest, or a plugin, wants to stop.

        Not because of failures before any worker has collected: collecting, with `-x` too, ends in
        the workers by itself, and only they know whether anything was left to collect.
        """
        waits = not (self._collected or self._ended or self._verdict or self._session.shouldstop)
        if waits:
            return
        if reason := self._stop_reason():
            self._running_farm().stop(reason)

    def _stop_reason(self) -> str:
        return str(self._verdict or self._session.shouldfail or self._session.shouldstop or "")

    def _end(self, verdict: BaseException) -> None:
        """End the run as this exception says, with nothing more begun; the first one counts."""
        if self._verdict is None:
            self._verdict = verdict
        self._obey()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> object:
        """Leave no process and no file behind, whatever ended the session."""
        if self._failed:
            # Not by way of the run loop: after an internal error pytest shows no failures, which
            # is right only where the process that has them is the one that failed.
            session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
        self._watch.conclude(session)
        try:
            result = yield
            self._replay.remember_nodeids()
            return result
        finally:
            self._watch.keeper.close(int(session.exitstatus))
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
        self._recorder.launched(worker)
        return self._blueprint.specify(worker, folder.path, hub)

    def order(self, worker: str, keys: tuple[str, ...], flush: bool) -> tuple[wire.Message, Frames]:
        """Return the order to run items that the worker has collected."""
        del worker
        return wire.RunItems(keys, flush), []

    def arrived(self, worker: str, message: FromWorker, payload: Sequence[zmq.Frame] = ()) -> None:
        """Hand a worker's message to pytest."""
        del payload  # items have none
        if self._broken:
            return
        node = self._nodes[worker]
        self._recorder.arrived(worker, message)
        self._live.arrived(worker, message)
        if isinstance(message, wire.ItemFinished):
            self._watch.observed(message)
        match message:
            case wire.Hello():
                node.connected(message)
                if not self._goldens:
                    self._became_ready(worker)
                self._config.hook.pytest_testnodeready(node=node)
            case wire.SnapshotRestored():
                if self._recorder.restored(worker) >= len(self._goldens):
                    self._became_ready(worker)
            case wire.CollectReported(report=data):
                self._replay.collect_reported(data)
            case wire.WarningRecorded():
                self._replay.warned(message)
            case wire.Collected():
                self._worker_collected(node, message)
            case wire.ItemStarted(key=key, location=location):
                self._replay.started(key, location)
            case wire.ItemFinished(key=key):
                self._announce_ready(now=True)
                self._unfinished.pop(worker, None)
                self._item_finished(node, key, message.reports, message.seconds)
            case wire.ReportsLogged(reports=reports):
                self._replay.logged(node, reports)
                self._obey()
            case wire.Stopping(reason=reason, failed=failed):
                if message.key:
                    self._unfinished[worker] = message
                if failed:
                    self._session.shouldfail = self._session.shouldfail or reason
                else:
                    self._session.shouldstop = self._session.shouldstop or reason
            case wire.SessionEnded():
                self._session_ended(node, message)
            case wire.WorkerFailed():
                self._worker_failed(worker, message)
            case _:
                pass

    def _became_ready(self, worker: str) -> None:
        self._recorder.ready(worker)
        self._readiness.add(worker)
        self._announce_ready()

    def _worker_collected(self, node: WorkerNode, message: wire.Collected) -> None:
        keys = [item.key for item in message.items]
        if not self._collected:
            self._collected = True
            self._session.testscollected = len(keys)
            self._teller.deselected(message.deselected)
        self._replay.collected(node, keys)
        errors = self._replay.collect_errors
        if message.errors and not self._config.getoption("continue_on_collection_errors"):
            plural = "s" if errors != 1 else ""
            self._end(self._session.Interrupted(f"{errors} error{plural} during collection"))
        self._announce_ready()

    def _item_finished(self, node: WorkerNode, key: str, reports: bytes, seconds: float) -> None:
        phases = self._replay.finished(node, key, reports)
        self._recorder.finished(nodeid_of(key), node.gateway.id, seconds, phases)
        self._obey()

    def _session_ended(self, node: WorkerNode, message: wire.SessionEnded) -> None:
        self._ended.add(node.gateway.id)
        node.workeroutput = cast("dict[str, object]", plain.decode(message.output))
        junit.hand_over_properties(self._config, node.workeroutput)
        if message.reason:
            # pytest.exit() or a KeyboardInterrupt of the test's own: it ends the whole run.
            reason = f"{node.gateway.id}: {message.reason}"
            self._end(pytest.exit.Exception(reason, returncode=message.exit_status))
        self._obey()

    def _worker_failed(self, worker: str, message: wire.WorkerFailed) -> None:
        self._recorder.failed(worker, message)
        if message.usage:
            # What pytest says itself needs no worker's name: it would be the same without one.
            prefix = "" if worker in self._ended else f"worker {worker}: "
            self._end(pytest.UsageError(prefix + message.message))
        elif message.stage == "pytest":
            self._replay.internal_error(worker, message.message)
            self._failed = True
            self._end(pytest.exit.Exception(f"an internal error in worker {worker}"))

    def _is_rerun(self, key: str, died: Died, seconds: float) -> bool:
        """Return whether a plugin wants an item that killed its worker to run again."""
        node = self._nodes[died.worker]

        def ours() -> bool:
            return bool(self._settings.reruns) and self._watch.wanted(key)

        return not self._broken and self._replay.is_rerun(node, key, died, seconds, ours)

    def wanted(self, key: str) -> bool:
        """Return whether an item that has just failed runs again."""
        return not self._broken and self._watch.wanted(key)

    def failed_once(self, worker: str, message: wire.ItemFinished) -> None:
        """Replay a failure that is not the item's outcome."""
        if self._broken:
            return
        self._recorder.arrived(worker, message)
        self._watch.observed(message)
        self._announce_ready(now=True)
        self._replay.finished(self._nodes[worker], message.key, message.reports, again=True)

    def overran(
        self,
        worker: str,
        message: FromWorker,
        payload: Sequence[zmq.Frame],
        late: Sequence[Overran],
    ) -> None:
        """Replay an item that ended when its time was over: it has failed."""
        if isinstance(message, wire.ItemFinished):
            message = overruns.failed(message, self._settings.test_timeout, late)
        self.arrived(worker, message, payload)

    def crashed(self, key: str, died: Died, seconds: float) -> None:
        """Report an item that killed its worker: its outcome, unless it runs again."""
        if self._broken:
            return
        self._announce_ready(now=True)
        final, phase = self._replay.crashed(self._nodes[died.worker], key, died, seconds)
        self._recorder.crashed(nodeid_of(key), died, seconds, phase, final=final)
        if final:
            self._live.crashed(died.worker, key, seconds)
        if not final:
            self._recorder.notice(f"{died.worker}: {nodeid_of(key)} killed it, and runs again")

    def down(self, worker: str, died: Died, *, orderly: bool) -> None:
        """Tell plugins that a worker is gone, and keep what it said about its end."""
        self._recorder.gone(worker)
        self._live.gone(worker)
        self._teller.died(worker, blames_a_test=died.record.phase in RUNNING)
        # None: gevent, say, in a conftest that is ours too, has collected the process before us.
        expected = orderly and (died.exit_code in {0, None} or died.killed is KillReason.ENDING)
        error = None if expected else terminal.end_of(died)
        if error is not None and not self._running_farm().stopping:
            self._recorder.death(worker, error)
            if died.record.phase not in RUNNING:
                self._teller.tell(worker, f"its process ended: {error}")
        unfinished = self._unfinished.pop(worker, None)
        if not self._broken:
            node = self._nodes[worker]
            if unfinished is not None:
                # Killed in the teardown of the item that stops the run: its failure counts.
                self._running_farm().skip(worker, unfinished.key)
                self._item_finished(node, unfinished.key, unfinished.reports, 0.0)
            self._config.hook.pytest_testnodedown(node=node, error=error)

    def not_started(self, worker: str, error: LaunchError) -> None:
        """Keep why there is no such worker, and tell it."""
        self._recorder.not_started(worker, error)
        self.noticed(worker, str(error))

    def printed(self, worker: str, lines: tuple[str, ...]) -> None:
        """Show what a worker wrote past pytest's capture (all of it, with `-s`)."""
        self._teller.printed(worker, lines)

    def noticed(self, worker: str, what: str) -> None:
        """Keep what is odd for the report, and tell it."""
        self._recorder.notice(f"{worker}: {what}")
        self._teller.tell(worker, what)

    def differ(self, difference: CollectionsDiffer) -> None:
        """Stop with a usage error that shows where two collections differ."""
        self._verdict = self._verdict or pytest.UsageError(terminal.difference(difference))

    def gave_up(self, reason: str, unrun: tuple[str, ...]) -> None:
        """End the run: nobody is left to run these items."""
        self._recorder.unrun(map(nodeid_of, unrun), reason)
        if self._verdict is None:
            last_words = self._recorder.last_words()
            self._verdict = self._session.Interrupted(
                f"{reason}\n{last_words}" if last_words else reason
            )

    # ------------------------------------------------------------ telling

    def _announce_ready(self, *, now: bool = False) -> None:
        items = len(self._replay.indexes) if self._collected else None
        self._readiness.say(items, databases=bool(self._goldens), now=now)

    def _running_farm(self) -> Farm:
        if self._farm is None:
            raise RuntimeError("the farm was used before the session started")
        return self._farm
