"""Anomalies of several lanes: each has its own, and what is nobody's goes to the next who asks."""

from __future__ import annotations

import threading
from collections.abc import Callable

from snapfarm_worker.anomaly import AnomalyKind, Severity
from snapfarm_worker.findings import LaneFindings


def observe(findings: LaneFindings, what: str) -> None:
    findings.add(AnomalyKind.LOCK_ERROR, Severity.WARNING, "default", what, same=(what,))


def in_a_thread(function: Callable[[], object]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()


def test_each_lane_has_its_own_named_after_what_it_runs() -> None:
    findings = LaneFindings()
    names = iter(["one[0]", "one[1]"])
    findings.enter(lambda: next(names))
    other: list[str] = []

    def lane() -> None:
        findings.enter(lambda: "two[7]")
        observe(findings, "a lock")
        other.extend(anomaly.test for anomaly in findings.take())

    observe(findings, "a lock")
    observe(findings, "another lock")
    in_a_thread(lane)
    assert other == ["two[7]"]
    assert [(each.test, each.message) for each in findings.take()] == [
        ("one[0]", "a lock"),
        ("one[1]", "another lock"),
    ]
    assert findings.take() == ()


def test_the_same_observation_is_counted() -> None:
    findings = LaneFindings()
    findings.enter(lambda: "one[0]")
    for _ in range(3):
        observe(findings, "a lock")
    assert [each.count for each in findings.take()] == [3]
    observe(findings, "a lock")
    assert [each.count for each in findings.take()] == [1]


def test_what_no_lane_observed_is_taken_once_by_whoever_asks_next() -> None:
    findings = LaneFindings()
    in_a_thread(lambda: observe(findings, "in a thread of a task"))
    assert findings.test == ""
    findings.enter(lambda: "one[0]")
    observe(findings, "in the lane")
    assert [(each.test, each.message) for each in findings.take()] == [
        ("one[0]", "in the lane"),
        ("", "in a thread of a task"),
    ]
    assert findings.take() == ()
