"""What workers send becomes calls of pytest's hooks; what all of them send is told once."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Literal, cast

import pytest
from _pytest import reports as reports_plugin
from _pytest import subtests as subtests_plugin

from snapfarm import hookspecs, replay
from snapfarm.crashes import CrashScheduler, crash_report
from snapfarm.happenings import Died, KillReason
from snapfarm.node import NodeManager, WorkerNode
from snapfarm.report import terminal
from snapfarm_worker import plain, wire
from snapfarm_worker.blackbox import Phase, Record


class Seen:
    """A plugin that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, object]] = []
        self.warnings: list[tuple[warnings.WarningMessage, str]] = []
        self.reports: list[pytest.TestReport] = []
        self.internal: list[str] = []
        #: Whether it has what killed a worker run again.
        self.reruns = False

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.events.append(("collected", report.nodeid))

    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage, when: str) -> None:
        self.warnings.append((warning_message, when))

    def pytest_runtest_logstart(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        self.events.append(("start", (nodeid, location)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.reports.append(report)
        self.events.append(("report", report.when))

    def pytest_runtest_logfinish(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        self.events.append(("finish", (nodeid, location)))

    def pytest_handlecrashitem(
        self, crashitem: str, report: pytest.TestReport, sched: CrashScheduler
    ) -> None:
        self.events.append(("crash", crashitem))
        assert sched.config.hook
        self.scheduler = sched
        if self.reruns:
            try:
                sched.mark_test_pending(crashitem)
            except NotImplementedError:
                return
            report.outcome = "rerun"  # type: ignore[assignment]  # as pytest-rerunfailures does

    def pytest_internalerror(self, excrepr: object) -> bool:
        self.internal.append(str(excrepr))
        return True


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def config(seen: Seen) -> pytest.Config:
    manager = pytest.PytestPluginManager()
    manager.add_hookspecs(hookspecs)
    for plugin in (reports_plugin, subtests_plugin, seen):
        manager.register(plugin)
    found = SimpleNamespace(
        hook=manager.hook,
        stash=pytest.Stash(),
        pluginmanager=manager,
        getoption=lambda _, default=None: default,
    )
    return cast("pytest.Config", found)


@pytest.fixture
def node(config: pytest.Config) -> WorkerNode:
    return WorkerNode("gw1", config, {}, NodeManager(config, "the-run"))


@pytest.fixture
def replayed(config: pytest.Config, node: WorkerNode) -> replay.Replay:
    found = replay.Replay(config, "the-run")
    found.collected(node, ["a.py::test_a", "a.py::test_b", "a.py::test_b\x002"])
    return found


def _report(nodeid: str, when: str = "call", **more: object) -> pytest.TestReport:
    report = pytest.TestReport(
        nodeid,
        ("a.py", 3, "test"),
        {},
        "passed",
        None,
        cast("Literal['call']", when),
        start=0.0,
        stop=1.0,
    )
    vars(report).update(more)
    return report


def _encoded(config: pytest.Config, *found: pytest.TestReport | pytest.CollectReport) -> bytes:
    hook = config.hook
    return plain.encode(
        [hook.pytest_report_to_serializable(config=config, report=report) for report in found],
        plain.describe,
    )


def test_reports_have_what_plugins_know_from_xdist(
    config: pytest.Config, replayed: replay.Replay, node: WorkerNode, seen: Seen
) -> None:
    key = "a.py::test_b\x002"
    replayed.started(key, ("a.py", 3, "test_b"))
    data = _encoded(config, *(_report("a.py::test_b", when) for when in ("setup", "call")))
    phases = replayed.finished(node, key, data)
    found = [(phase.when, phase.outcome) for phase in phases]
    assert found == [("setup", "passed"), ("call", "passed")]
    place = ("a.py::test_b", ("a.py", 3, "test_b"))
    assert seen.events == [
        ("start", place),
        ("report", "setup"),
        ("report", "call"),
        ("finish", place),
    ]
    for report in seen.reports:
        known = vars(report)
        assert known["node"] is node
        assert (known["worker_id"], known["testrun_uid"]) == ("gw1", "the-run")
        assert known["item_index"] == 2


def test_collect_reports_of_all_workers_are_replayed_once(
    config: pytest.Config, replayed: replay.Replay, seen: Seen
) -> None:
    for text in ("one", "one", "two"):
        report = pytest.CollectReport("a.py", "failed", text, [])
        replayed.collect_reported(_encoded(config, report))
    assert seen.events == [("collected", "a.py")] * 2


class OwnWarning(DeprecationWarning):
    """Takes more than a text."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def _warning(category: tuple[str, str, str], text: str, when: str, *args: object) -> wire.Message:
    data = {
        "message": text,
        "args": args,
        "category": category,
        "filename": "a.py",
        "lineno": 3,
        "line": None,
    }
    return wire.WarningRecorded(plain.encode(data), when, "a.py", None)


@pytest.mark.parametrize(
    ("category", "args", "expected"),
    [
        (("builtins", "RuntimeWarning", "RuntimeWarning"), ("text",), RuntimeWarning),
        (("pytest", "PytestWarning", "UserWarning"), ("text",), pytest.PytestWarning),
        # Found here, but it can't be made again from what arrived: a class of the same name.
        ((__name__, "OwnWarning", "DeprecationWarning"), (1,), None),
        (("no.such.module", "Outer.Inner", "SyntaxWarning"), ("text",), None),
        # Never import or call what is no warning.
        (("os", "system", "Warning"), ("text",), None),
        (("builtins", "print", "Warning"), ("text",), None),
    ],
)
def test_warnings_keep_their_class_by_name(
    category: tuple[str, str, str],
    args: tuple[object, ...],
    expected: type[Warning] | None,
    replayed: replay.Replay,
    seen: Seen,
) -> None:
    replayed.warned(cast("wire.WarningRecorded", _warning(category, "text", "runtest", *args)))
    ((message, _when),) = seen.warnings
    assert str(message.message) == "text"
    assert message.category is type(message.message)
    assert message.category.__module__ == category[0] or expected is pytest.PytestWarning
    assert message.category.__qualname__ == category[1]
    assert [base.__name__ for base in message.category.__mro__].count(category[2]) == 1
    if expected is not None:
        assert message.category is expected


def test_only_warnings_of_tests_are_replayed_each_time(replayed: replay.Replay, seen: Seen) -> None:
    category = ("builtins", "UserWarning", "UserWarning")
    for when in ("config", "config", "collect", "runtest", "runtest"):
        replayed.warned(cast("wire.WarningRecorded", _warning(category, "x", when, "x")))
    assert [when for _message, when in seen.warnings] == ["config", "runtest", "runtest"]


def test_one_internal_error_of_many_workers_is_shown(replayed: replay.Replay, seen: Seen) -> None:
    for worker in ("gw0", "gw1"):
        replayed.internal_error(worker, "Traceback\nValueError")
    assert seen.internal == ["[gw0] Traceback\n[gw0] ValueError"]


def test_values_of_subtests_arrive_as_they_were(
    config: pytest.Config, replayed: replay.Replay, node: WorkerNode, seen: Seen
) -> None:
    context = subtests_plugin.SubtestContext(msg="m", kwargs={"i": 1, "s": "x"})
    report = subtests_plugin.SubtestReport._new(_report("a.py::test_a"), context, None, None)
    replayed.finished(node, "a.py::test_a", _encoded(config, report))
    (found,) = seen.reports
    assert isinstance(found, subtests_plugin.SubtestReport)
    assert found._sub_test_description() == report._sub_test_description() == "[m] (i=1, s='x')"


def _died(**more: object) -> Died:
    fields: dict[str, object] = {
        "worker": "gw1",
        "record": Record(Phase.CALL, "a.py::test_a", 4),
        "exit_code": -9,
        "killed": KillReason.NONE,
        "captured_output": "last words",
        "captured_errors": "",
        "printed": "",
        "stacks": "",
        "missing": 0,
    }
    return Died(**fields | more)  # type: ignore[arg-type]  # the fields of a Died


def test_a_crash_is_the_items_outcome(
    replayed: replay.Replay, node: WorkerNode, seen: Seen
) -> None:
    assert replayed.crashed(node, "a.py::test_b", _died(), 2.5)[0]
    (report,) = seen.reports
    assert (report.outcome, report.when, report.duration) == ("failed", "call", 2.5)
    assert "worker 'gw1' crashed while running 'a.py::test_b'" in report.longreprtext
    assert "in its call phase its process ended with signal SIGKILL" in report.longreprtext
    assert ("Captured stdout of the last moments", "last words") in report.sections
    # It never said that it began: the place is what can be known from its name.
    assert seen.events[-1] == ("finish", ("a.py::test_b", ("a.py", None, "a.py::test_b")))
    assert ("crash", "a.py::test_b") in seen.events


def test_a_plugin_may_have_a_crashed_item_run_again(
    replayed: replay.Replay, node: WorkerNode, seen: Seen
) -> None:
    seen.reruns = True
    assert replayed.is_rerun(node, "a.py::test_b", _died(), 1.0)
    assert not seen.reports
    assert not replayed.crashed(node, "a.py::test_b", _died(), 1.0)[0]
    # Unasked, as while the run is being stopped: it can't run again.
    assert replayed.crashed(node, "a.py::test_b", _died(), 1.0)[0]
    assert [report.outcome for report in seen.reports] == ["rerun", "failed"]
    assert [event for event, _ in seen.events].count("crash") == 2
    with pytest.raises(NotImplementedError, match="only an item that has just killed"):
        seen.scheduler.mark_test_pending("a.py::test_b")


def test_a_crash_is_asked_about_before_it_is_reported_and_reported_once(
    replayed: replay.Replay, node: WorkerNode, seen: Seen
) -> None:
    assert not replayed.is_rerun(node, "a.py::test_b", _died(), 1.0)
    assert replayed.crashed(node, "a.py::test_b", _died(), 1.0)[0]
    assert [report.outcome for report in seen.reports] == ["failed"]
    assert [event for event, _ in seen.events].count("crash") == 1


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"record": Record(Phase.ENDING, "", 4)}, "ended the session without a word"),
        ({"killed": KillReason.TIMEOUT}, "it wrote no stacks"),
        ({"killed": KillReason.TIMEOUT, "stacks": "Thread 1"}, "passed the time limit of 3 s"),
        ({"killed": KillReason.STOPPED}, "was stopped (SIGSTOP?)"),
        ({"exit_code": 3}, "ended with exit status 3"),
        ({"exit_code": None}, "ended with unknown exit status"),
    ],
)
def test_how_a_worker_died_is_told(more: dict[str, object], told: str) -> None:
    report = crash_report("a.py::test_a", ("a.py", 1, "test_a"), _died(**more), 1.0, 3.0)
    assert told in report.longreprtext


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((4, 4, 0.94, 4, 2000),
         "4 workers ready in 0.9 s   snapshot verified by 4 of 4   2000 items"),
        ((1, 1, 2.0, None, 1), "1 worker ready in 2.0 s   1 item"),
        ((1, 2, 2.0, 1, 0),
         "1 of 2 workers ready in 2.0 s   snapshot verified by 1 of 2   0 items"),
    ],
)  # fmt: skip
def test_the_line_of_ready_workers(
    arguments: tuple[int, int, float, int | None, int], line: str
) -> None:
    assert terminal.ready_line(*arguments) == f"farm    {line}"


def test_the_end_of_a_worker_in_words() -> None:
    assert terminal.end_of(_died()) == "signal SIGKILL in the call of a.py::test_a"
    assert terminal.end_of(
        _died(killed=KillReason.START, record=Record(Phase.IMPORTING, "", 0))
    ) == ("signal SIGKILL (killed by the farm: start) while importing")


def test_a_node_answers_as_xdist_does(node: WorkerNode, tmp_path: Path) -> None:
    assert (node.gateway.id, node.gateway.spec.id, node.gateway.spec.popen) == ("gw1", "gw1", True)
    assert node.gateway._rinfo().version_info[0] == 3
    assert list(node.nodemanager.roots) == []
    assert not hasattr(node, "workeroutput")
    node.connected(wire.Hello("gw1", 1, 1, "3.x", "3.40", "/bin/python", "linux", str(tmp_path)))
    assert node.workerinfo["id"] == "gw1"
    assert node.workerinfo["cwd"] == str(tmp_path)
