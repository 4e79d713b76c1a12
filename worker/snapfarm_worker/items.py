"""Runs the pytest items that the coordinator hands out, in a pytest session of its own.

The worker's session is an ordinary one: it configures, collects and tears down as pytest does.
Only its run loop takes the items from the coordinator, and its reports go there instead of to a
terminal.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Protocol

import pytest

from snapfarm_worker import junit, plain, terminal, wire
from snapfarm_worker.anomaly import Anomaly
from snapfarm_worker.blackbox import BlackBox, Phase
from snapfarm_worker.evidence import DatabaseEvidence
from snapfarm_worker.itemqueue import ItemQueue
from snapfarm_worker.keys import unique_keys
from snapfarm_worker.marks import layer_key
from snapfarm_worker.originals import monotonic
from snapfarm_worker.trim import trimmed
from snapfarm_worker.turns import turn_of
from snapfarm_worker.wire import CollectedItem, ItemStarted, Message, RingReset, ToWorker

if TYPE_CHECKING:
    import zmq

    from snapfarm_worker.link import Link

#: Bytes of an item's reports beyond which the middle of its output is left out.
LONGEST_REPORTS = wire.MESSAGE_LIMIT // 2

_WHEN = {"setup": Phase.SETUP, "call": Phase.CALL, "teardown": Phase.TEARDOWN}


class ItemDatabases(Protocol):
    """The pytest plugin that looks after databases; asked once an item has ended."""

    def take(self, nodeid: str) -> tuple[tuple[Anomaly, ...], tuple[RingReset, ...]]:
        """Return, and forget, the anomalies and resets of one item."""

    def take_evidence(self, nodeid: str) -> tuple[DatabaseEvidence, ...]:
        """Return, and forget, what was kept of the failures of one item."""

    def take_written(self, nodeid: str) -> tuple[str, ...]:
        """Return, and forget, the tables that one item wrote to."""


class ItemRunner:
    """The worker's pytest plugin: collects, runs what it is told, sends what happened."""

    def __init__(
        self, config: pytest.Config, link: Link, box: BlackBox, databases: ItemDatabases
    ) -> None:
        self._config = config
        self._link = link
        self._box = box
        self._databases = databases
        #: Reports that have not been sent.
        self._reports: list[object] = []
        self._deselected: list[str] = []
        self._collect_errors = 0
        #: Node ids that the run before this has left as failed, collectors among them.
        self._last_failed: frozenset[str] = frozenset()
        self._items: dict[str, pytest.Item] = {}
        self._queue = ItemQueue(())
        self._started = monotonic()
        self._notes: junit.JunitNotes | None = None
        #: The item that runs.
        self._running: str | None = None
        #: Whether a report of it has failed.
        self._failed = False
        #: Whether the coordinator was told that this session stops.
        self._stopping = False
        #: Why the session ended before it was told to.
        self._interrupted = ""

    # ------------------------------------------------------------ configuration

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Silence the terminal before anybody keeps a reference to its reporter."""
        terminal.silence(config)
        self._notes = junit.take_notes(config)
        if (cache := getattr(config, "cache", None)) is not None:
            self._last_failed = frozenset(cache.get("cache/lastfailed", {}))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Let live logs through."""
        self._session = session
        terminal.release_live_logs(self._config)

    @pytest.hookimpl(tryfirst=True)
    def pytest_internalerror(self, excrepr: object) -> None:
        """Tell the coordinator that pytest itself, or a plugin, failed in this worker."""
        # It may have failed before the terminal was silenced, and would be shown twice.
        terminal.silence_at_once(self._config)
        self._box.write(Phase.ENDING, "")
        self._link.send(wire.WorkerFailed("pytest", str(excrepr)))

    def pytest_warning_recorded(
        self,
        warning_message: warnings.WarningMessage,
        when: str,
        nodeid: str,
        location: tuple[str, int, str] | None,
    ) -> None:
        """Send a warning, with its class by name: the class may not exist elsewhere."""
        category, message = warning_message.category, warning_message.message
        data: dict[str, object] = {
            "message": str(message),
            "args": message.args if isinstance(message, Warning) else (),
            "category": (category.__module__, category.__qualname__, _built_in_base(category)),
            "filename": warning_message.filename,
            "lineno": warning_message.lineno,
            "line": warning_message.line,
        }
        self._link.send(
            wire.WarningRecorded(plain.encode(data, plain.describe), when, nodeid, location)
        )

    # ------------------------------------------------------------ collection

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self, session: pytest.Session) -> Generator[None, object, object]:
        """Send the collection once it is complete; one that ends the session is not sent."""
        self._started = monotonic()
        result = yield
        self._collected(session)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Note in the black box what is being collected: imports may kill the process."""
        self._box.write(Phase.COLLECTING, collector.nodeid)
        return (yield)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Send what did not pass; a passed collector shows in the list of items.

        One that failed in the run before is sent too, for the coordinator's cache to forget it.
        """
        if report.passed and report.nodeid not in self._last_failed:
            return
        self._collect_errors += report.failed
        self._link.send(wire.CollectReported(self._encoded([self._serialized(report)])))

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """Remember what -k, -m or a plugin deselected, for the coordinator's summary."""
        self._deselected += [item.nodeid for item in items]

    def _collected(self, session: pytest.Session) -> None:
        """Name the items and send the collection; from now on orders are taken."""
        keys = unique_keys(item.nodeid for item in session.items)
        self._items = dict(zip(keys, session.items, strict=True))
        self._queue = ItemQueue(self._items)
        self._link.take_orders(self._handle)
        if (capturing := self._capture_files()) is not None:
            self._link.send(capturing)
        self._link.send(
            wire.Collected(
                tuple(
                    CollectedItem(key, _group(item), layer_key(item), turn_of(item))
                    for key, item in self._items.items()
                ),
                tuple(self._deselected),
                self._collect_errors,
                monotonic() - self._started,
            )
        )

    def _capture_files(self) -> wire.Capturing | None:
        """Return descriptors of the files that pytest captures into, if it captures into files."""
        manager = self._config.pluginmanager.get_plugin("capturemanager")
        if manager is None or self._config.getoption("capture") != "fd":
            return None
        manager.resume_global_capture()
        try:
            return wire.Capturing(os.dup(1), os.dup(2))
        finally:
            manager.suspend_global_capture()

    def _handle(self, order: ToWorker, payload: Sequence[zmq.Frame]) -> Message | None:
        del payload  # orders about items have none
        return self._queue.handle(order)

    # ------------------------------------------------------------ running

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run items until the coordinator ends the session or pytest stops it."""
        self._box.write(Phase.IDLE, "")
        announced: str | None = None
        while (step := self._queue.next()) is not None:
            key, successor = step
            if announced != key:
                self._link.send(self._started_message(key))
            announced = self._run(key, successor)
            if session.shouldfail or session.shouldstop:
                self._tell_stop(session)
                self._queue.wait_for_end()
                break
        self._box.write(Phase.ENDING, "")
        return True

    def _run(self, key: str, successor: str | None) -> str | None:
        """Run one item; return the item that was announced to begin next."""
        item = self._items[key]
        nextitem = None if successor is None else self._items[successor]
        self._send_loose_reports()
        self._box.write(Phase.SETUP, key)
        self._running = key
        self._failed = False
        began = monotonic()
        try:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=nextitem)
            self._link.end_if_forked()
            reports = self._encoded(self._reports)
        finally:
            # What ends the session here leaves the item without an outcome.
            self._reports.clear()
            self._running = None
        seconds = monotonic() - began
        anomalies, resets = self._databases.take(item.nodeid)
        stopping = item.session.shouldfail or item.session.shouldstop
        then = None if stopping else self._queue.ready()
        self._box.item_finished()
        self._link.send(
            wire.ItemFinished(
                key,
                reports,
                seconds,
                None if then is None else self._started_message(then),
                anomalies,
                resets,
                self._failed,
                self._databases.take_evidence(item.nodeid),
                self._databases.take_written(item.nodeid),
            )
        )
        return then

    def _started_message(self, key: str) -> ItemStarted:
        path, line, name = self._items[key].location
        return ItemStarted(key, (path, line, name))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        """Note the phase; a plugin that runs an item again comes here again."""
        self._box.phase(Phase.SETUP)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self) -> None:
        """Note the phase."""
        self._box.phase(Phase.CALL)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self) -> None:
        """Note the phase."""
        self._box.phase(Phase.TEARDOWN)

    # Inside of all wrappers, so that this part of the teardown is captured as the rest is.
    @pytest.hookimpl(specname="pytest_runtest_teardown", wrapper=True, trylast=True)
    def pytest_teardown_for_nobody(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """Tear everything down where the successor, for which fixtures were kept, was dropped.

        In the session's end, where it would happen otherwise, a failure belongs to no item.
        """
        try:
            return (yield)
        finally:
            self._link.end_if_forked()
            if nextitem is not None and not self._queue.keep_successor():
                item.session._setupstate.teardown_exact(None)  # noqa: SLF001  # as pytest does

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep a report until its item has ended; tell of the one with which the session stops."""
        if self._notes is not None:
            self._notes.attach(report)
        self._reports.append(self._serialized(report))
        self._failed = self._failed or report.failed
        if report.failed and self._session.shouldfail and self._running is not None:
            # Its teardown, with all fixtures now, may take long: meanwhile others would go on.
            self._tell_stop(self._session, self._running, self._encoded(self._reports))

    def _tell_stop(self, session: pytest.Session, key: str = "", reports: bytes = b"") -> None:
        """Tell once that the session stops, with what is known of the item that still runs."""
        self._link.end_if_forked()
        if not self._stopping:
            self._stopping = True
            stop, failed = session.shouldfail or session.shouldstop, bool(session.shouldfail)
            self._link.send(wire.Stopping(str(stop), failed, self._queue.drop(), key, reports))

    def _send_loose_reports(self) -> None:
        """Send reports that a plugin has logged outside of any item."""
        if self._reports:
            self._link.send(wire.ReportsLogged(self._encoded(self._reports)))
            self._reports.clear()

    def _serialized(self, report: pytest.TestReport | pytest.CollectReport) -> object:
        hook = self._config.hook
        data: object = hook.pytest_report_to_serializable(config=self._config, report=report)
        return data

    def _encoded(self, reports: list[object]) -> bytes:
        """Encode reports; what can't travel in them travels as its repr, a property as its str."""
        data = plain.encode(reports, _described)
        if len(data) > LONGEST_REPORTS:
            data = plain.encode(trimmed(reports), _described)
        return data

    # ------------------------------------------------------------ the end

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Tell at once why pytest ends before its time: pytest.exit(), or a KeyboardInterrupt.

        That is the run's end, and the item has no outcome: it is no longer the one that runs.
        """
        if isinstance(excinfo.value, pytest.Session.Interrupted):
            return
        self._box.write(Phase.ENDING, "")
        error = excinfo.value
        where = "" if isinstance(error, pytest.exit.Exception) else f" at {_crash_place(excinfo)}"
        self._interrupted = f"{getattr(error, 'msg', '') or type(error).__name__}{where}"
        self._link.send(wire.Stopping(self._interrupted, False, self._queue.drop()))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(
        self, session: pytest.Session, exitstatus: int
    ) -> Generator[None, object, object]:
        """Send what plugins left in `workeroutput`, after all of them have finished."""
        result = yield
        self._send_loose_reports()
        output: dict[str, object] = dict(self._config.workeroutput)  # type: ignore[attr-defined]  # as with pytest-xdist
        if self._notes is not None:
            output[junit.SUITE_PROPERTIES] = self._notes.suite_properties
        output.setdefault("exitstatus", int(exitstatus))
        output.setdefault("shouldfail", session.shouldfail)
        output.setdefault("shouldstop", session.shouldstop)
        self._link.send(
            wire.SessionEnded(
                int(exitstatus),
                plain.encode(output, plain.describe),
                self._interrupted,
            )
        )
        return result


def _described(value: object, path: str) -> object:
    if "['user_properties']" not in path:
        return plain.describe(value, path)
    try:
        # As pytest's own JUnit writer shows it.
        return str(value)
    except Exception:
        return plain.describe(value, path)


def _built_in_base(category: type[Warning]) -> str:
    """Return the name of the nearest built-in class that a warning's class is derived from."""
    return next(base.__name__ for base in category.__mro__ if base.__module__ == "builtins")


def _crash_place(excinfo: pytest.ExceptionInfo[BaseException]) -> str:
    entry = excinfo.traceback[-1]
    return f"{entry.path}:{entry.lineno + 1}"


def _group(item: pytest.Item) -> str:
    """Return the names of an item's `xdist_group` marks, joined, or ""."""
    names = {
        str(mark.args[0] if mark.args else mark.kwargs.get("name", "default"))
        for mark in item.iter_markers("xdist_group")
    }
    return "_".join(sorted(names))
