"""Replays in pytest what workers report: their messages become calls of pytest's own hooks."""

from __future__ import annotations

import builtins
import functools
import importlib
import sys
import warnings
from typing import TYPE_CHECKING, Protocol, cast

import pytest

from snapfarm.crashes import CrashScheduler, crash_report
from snapfarm.report.reading import phase_of
from snapfarm_worker import junit, plain
from snapfarm_worker.keys import nodeid_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from snapfarm.happenings import Died
    from snapfarm.node import WorkerNode
    from snapfarm.report.timeline import Phase
    from snapfarm_worker import wire
    from snapfarm_worker.wire import Location


class ReportWatch(Protocol):
    """Who sees the reports of tests before pytest does."""

    def reported(self, report: pytest.TestReport, *, again: bool) -> None:
        """Take a report, and change it if need be; `again` if its item is about to run again."""

    def ended(self, key: str) -> None:
        """An item has ended: all its reports were there."""


class Replay:
    """Calls pytest's hooks for what workers report; what every worker reports, only once.

    A hook that raises is pytest's business: the exception goes through to the caller.
    """

    def __init__(
        self,
        config: pytest.Config,
        testrun: str,
        limit: float = 0.0,
        watch: ReportWatch | None = None,
    ) -> None:
        """`watch` sees each report of a test before pytest does, and may change it."""
        self._config = config
        self._watch = watch
        self._testrun = testrun
        #: Seconds that an item may take.
        self._limit = limit
        #: Place of each item's key in the collection.
        self.indexes: dict[str, int] = {}
        #: Where each item is, from its start message.
        self._locations: dict[str, Location] = {}
        self._collect_reports: set[tuple[str, str, str]] = set()
        #: How many collectors failed.
        self.collect_errors = 0
        self._warnings: set[tuple[str, str, int]] = set()
        self._failures: set[str] = set()
        #: Reports of items that killed a worker, by both, and whether they are to run again.
        self._crashes: dict[tuple[str, str], tuple[pytest.TestReport, bool]] = {}

    def collect_reported(self, data: bytes) -> None:
        """Replay a collector's report, though every worker sends it."""
        for report in reports(self._config, data):
            identity = (report.nodeid, report.outcome, str(report.longrepr))
            if identity not in self._collect_reports:
                self._collect_reports.add(identity)
                self.collect_errors += report.failed
                self._config.hook.pytest_collectreport(report=report)

    def heard(self, warning: warnings.WarningMessage) -> bool:
        """Remember a warning of configuration or collection; return whether it is a new one."""
        identity = (str(warning.message), warning.filename, warning.lineno)
        known = identity in self._warnings
        self._warnings.add(identity)
        return not known

    def warned(self, message: wire.WarningRecorded) -> None:
        """Replay a warning; one of configuration or collection once for all workers and us."""
        warning = warning_message(message.warning)
        if message.when == "runtest" or self.heard(warning):
            self._config.hook.pytest_warning_recorded.call_historic(
                kwargs={
                    "warning_message": warning,
                    "when": message.when,
                    "nodeid": message.nodeid,
                    "location": message.location,
                }
            )

    def internal_error(self, worker: str, text: str) -> None:
        """Replay that pytest itself, or a plugin, failed in a worker."""
        if text in self._failures:
            return
        self._failures.add(text)
        lines = "\n".join(f"[{worker}] {line}" for line in text.splitlines())
        try:
            raise RuntimeError(f"pytest failed in worker {worker}\n{text}")
        except RuntimeError:
            shown = pytest.ExceptionInfo.from_current()
        handled = self._config.hook.pytest_internalerror(excrepr=lines, excinfo=shown)
        if not any(handled):
            sys.stderr.writelines(f"INTERNALERROR> {line}\n" for line in lines.splitlines())

    def collected(self, node: WorkerNode, keys: Sequence[str]) -> None:
        """Replay that a worker has collected, and learn the order of the items from the first."""
        if not self.indexes:
            self.indexes = {key: index for index, key in enumerate(keys)}
        self._config.hook.pytest_xdist_node_collection_finished(
            node=node, ids=[nodeid_of(key) for key in keys]
        )

    def remember_nodeids(self) -> None:
        """Let `--nf` know the items next time; pytest remembers what it has collected itself."""
        cache: pytest.Cache | None = getattr(self._config, "cache", None)
        if cache is not None and self.indexes:
            known = set(cast("list[str]", cache.get("cache/nodeids", [])))
            if not known.issuperset(seen := set(map(nodeid_of, self.indexes))):
                cache.set("cache/nodeids", sorted(known | seen))

    def started(self, key: str, location: Location) -> None:
        """Replay an item's start."""
        self._locations[key] = location
        self._config.hook.pytest_runtest_logstart(nodeid=nodeid_of(key), location=location)

    def finished(
        self, node: WorkerNode, key: str, data: bytes, *, again: bool = False
    ) -> list[Phase]:
        """Replay an item's reports; return what they say of its phases.

        With `again`, the item has failed and is about to run once more. What follows on the failure
        is not replayed then, as pytest-rerunfailures does it: a teardown would end the test case.
        """
        hook = self._config.hook
        phases: list[Phase] = []
        over = False
        for report in reports(self._config, data):
            self._mark(report, node, key)
            if self._watch is not None:
                self._watch.reported(cast("pytest.TestReport", report), again=again)
            if over:
                continue
            junit.hand_over_attributes(self._config, cast("pytest.TestReport", report))
            hook.pytest_runtest_logreport(report=report)
            over = again and report.outcome not in {"passed", "skipped"}
            if over:
                passed = any((one.when, one.outcome) == ("call", "passed") for one in phases)
                junit.forget_attempt(self._config, cast("pytest.TestReport", report), passed=passed)
            phases.append(phase_of(report))
        if self._watch is not None:
            self._watch.ended(key)
        hook.pytest_runtest_logfinish(nodeid=nodeid_of(key), location=self._location(key))
        return phases

    def logged(self, node: WorkerNode, data: bytes) -> None:
        """Replay reports that a plugin has logged in a worker outside of any item."""
        for report in reports(self._config, data):
            self._mark(report, node, report.nodeid)
            self._config.hook.pytest_runtest_logreport(report=report)

    def is_rerun(
        self,
        node: WorkerNode,
        key: str,
        died: Died,
        seconds: float,
        ours: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Ask plugins what becomes of an item that killed its worker, before that is reported.

        Returns whether one of them wants it to run again, or, as none does, `ours`.
        """
        report = self._crash_report(node, key, died, seconds)
        again = self._handle_crash(report, may_rerun=True) or ours()
        self._crashes[node.gateway.id, key] = report, again
        return again

    def crashed(self, node: WorkerNode, key: str, died: Died, seconds: float) -> tuple[bool, Phase]:
        """Report an item that killed its worker; return whether this is its outcome, and what."""
        report, again = self._crashes.pop((node.gateway.id, key), (None, False))
        if report is None:
            report = self._crash_report(node, key, died, seconds)
            self._handle_crash(report, may_rerun=False)
        hook = self._config.hook
        if self._watch is not None:
            self._watch.reported(report, again=again)
            self._watch.ended(key)
        hook.pytest_runtest_logreport(report=report)
        if again:
            junit.forget_attempt(self._config, report, passed=False)
        hook.pytest_runtest_logfinish(nodeid=report.nodeid, location=report.location)
        return not again, phase_of(report)

    def _handle_crash(self, report: pytest.TestReport, *, may_rerun: bool) -> bool:
        with CrashScheduler(self._config, report.nodeid if may_rerun else None) as scheduler:
            self._config.hook.pytest_handlecrashitem(
                crashitem=report.nodeid, report=report, sched=scheduler
            )
        return scheduler.pending

    def _crash_report(
        self, node: WorkerNode, key: str, died: Died, seconds: float
    ) -> pytest.TestReport:
        report = crash_report(
            nodeid_of(key),
            self._location(key),
            died,
            seconds,
            self._limit,
            full_trace=bool(self._config.getoption("fulltrace", False)),
        )
        self._mark(report, node, key)
        vars(report).update(farm_crash=True)
        return report

    def _mark(
        self, report: pytest.TestReport | pytest.CollectReport, node: WorkerNode, key: str
    ) -> None:
        """Give a report the attributes that plugins know from xdist."""
        vars(report).update(
            node=node,
            worker_id=node.gateway.id,
            testrun_uid=self._testrun,
            item_index=self.indexes.get(key, 0),
        )

    def _location(self, key: str) -> Location:
        nodeid = nodeid_of(key)
        return self._locations.get(key) or (nodeid.partition("::")[0], None, nodeid)


def reports(config: pytest.Config, data: bytes) -> list[pytest.TestReport | pytest.CollectReport]:
    """Return the reports in an encoded list, made by pytest's own hook."""
    found = []
    for serialized in cast("list[dict[str, object]]", plain.decode(data)):
        context = serialized.get("_subtest.context")
        report = config.hook.pytest_report_from_serializable(config=config, data=serialized)
        if context is not None:
            # pytest puts these values, which are texts by now, into quotes on every journey.
            kwargs = cast("dict[str, object]", context)["kwargs"]
            object.__setattr__(report.context, "kwargs", kwargs)
        found.append(report)
    return found


def warning_message(data: bytes) -> warnings.WarningMessage:
    """Return a warning as pytest records it.

    Its category is the class that the worker saw if it can be found here, else a class of the
    same name.
    """
    fields = cast("dict[str, object]", plain.decode(data))
    module, name, base = cast("tuple[str, str, str]", fields["category"])
    category = _warning_class(module, name) or _stand_in(module, name, base)
    text = str(fields["message"])
    message: Warning
    try:
        message = category(*cast("tuple[object, ...]", fields["args"]))
        if str(message) != text:
            message = category(text)
    except Exception:
        category = _stand_in(module, name, base)
        message = category(text)
    return warnings.WarningMessage(
        message,
        category,
        str(fields["filename"]),
        cast("int", fields["lineno"]),
        line=cast("str | None", fields["line"]),
    )


def _warning_class(module: str, name: str) -> type[Warning] | None:
    """Find a warning class without importing anything new but what is in pytest or built in."""
    if module.partition(".")[0] in {"pytest", "_pytest"}:
        importlib.import_module(module)
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, Warning) else None


@functools.cache
def _stand_in(module: str, name: str, base: str) -> type[Warning]:
    """Return a class that is named like one which can't be found here.

    `base` is the nearest built-in class that it was derived from.
    """
    parent = getattr(builtins, base, UserWarning)
    return type(name.rpartition(".")[2], (parent,), {"__module__": module, "__qualname__": name})
