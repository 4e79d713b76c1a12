"""Reads pytest's reports into what the model keeps of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import cast

import pytest

from snapfarm.report.model import Attempt, Failure, Output
from snapfarm.report.timeline import Phase
from snapfarm_worker.evidence import DatabaseEvidence
from snapfarm_worker.trim import trimmed

#: Characters that are kept at either end of a captured text, or of what pytest shows of a failure.
_KEPT = 10_000
_MESSAGE = 500

_EXCEPTION = re.compile(r"((?:[A-Za-z_]\w*\.)*[A-Z]\w*)(?::\s?|$)")


def phase_of(report: pytest.TestReport | pytest.CollectReport) -> Phase:
    """Return what a report says of a phase; texts only where it did not simply pass."""
    # A subtest's time is in its test's too.
    seconds = 0.0 if hasattr(report, "context") else getattr(report, "duration", 0.0)
    path, line, _ = report.location or ("", None, "")
    place = (path, 0 if line is None else line + 1)
    when = str(report.when)
    expected_failure = hasattr(report, "wasxfail")
    if report.outcome == "passed":
        return Phase(when, "passed", seconds, place, "xpassed" if expected_failure else "")
    if report.outcome == "skipped":
        detail = "xfailed" if expected_failure else _reason(report.longrepr)
        return Phase(when, "skipped", seconds, place, detail)
    return Phase(when, report.outcome, seconds, place, "", _failure(report, when), _output(report))


def _reason(longrepr: object) -> str:
    if isinstance(longrepr, tuple) and len(longrepr) == 3:
        return str(longrepr[2]).removeprefix("Skipped: ")[:_MESSAGE]
    return ""


def _failure(report: pytest.TestReport | pytest.CollectReport, when: str) -> Failure:
    text = cast("str", trimmed(report.longreprtext, _KEPT))
    crash = getattr(report.longrepr, "reprcrash", None)
    message = str(getattr(crash, "message", "") or _last_line(text))
    first = message.strip().split("\n", 1)[0]
    found = _EXCEPTION.match(first)
    kind = found[1] if found else ""
    if found:
        first = first[len(found[0]) :]
    elif first.startswith("assert "):
        kind = "AssertionError"  # pytest leaves the name out of what it has rewritten
    if getattr(report, "farm_crash", False):
        when = "crash"
    path, line = str(getattr(crash, "path", "")), int(getattr(crash, "lineno", 0))
    return Failure(phase=when, kind=kind, message=first[:_MESSAGE], text=text, path=path, line=line)


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("E   ").strip() if lines else ""


def _output(report: pytest.TestReport | pytest.CollectReport) -> tuple[Output, ...]:
    return tuple(
        Output(title=title, text=cast("str", trimmed(text, _KEPT)))
        for title, text in report.sections
        if text
    )


def relative(path: str, root: str) -> str:
    """Return a path relative to the root, if it lies there."""
    if root and PurePath(path).is_relative_to(root):
        return str(PurePath(path).relative_to(root))
    return path


def attempts(
    phases: Iterable[Phase],
    worker: str,
    began: float,
    evidence: Sequence[DatabaseEvidence] = (),
) -> tuple[Attempt, ...]:
    """Return the attempts that the phases of one item make; each has its setup first."""
    groups: list[list[Phase]] = []
    for phase in phases:
        if phase.when == "setup" or not groups:
            groups.append([])
        groups[-1].append(phase)
    found = []
    for number, group in enumerate(groups):
        seconds = sum(phase.seconds for phase in group)
        found.append(
            Attempt(
                outcome=_outcome(group),
                worker=worker,
                began=began,
                seconds=seconds,
                failures=tuple(phase.failure for phase in group if phase.failure is not None),
                output=_distinct(group),
                evidence=tuple(each for each in evidence if each.attempt == number),
            )
        )
        began += seconds
    return tuple(found)


def _distinct(group: Iterable[Phase]) -> tuple[Output, ...]:
    """Return the captured sections; the reports of later phases have those of earlier ones too."""
    return tuple(dict.fromkeys(each for phase in group for each in phase.output))


def _outcome(group: Iterable[Phase]) -> str:
    outcome = "passed"
    for phase in group:
        if phase.failure is not None:
            # pytest-rerunfailures calls a failure that is run again "rerun".
            if phase.failure.phase == "crash":
                return "crashed"
            if outcome != "failed":
                outcome = "failed" if phase.when == "call" else "error"
        elif phase.outcome == "skipped" and outcome == "passed":
            outcome = "skipped"
    return outcome
