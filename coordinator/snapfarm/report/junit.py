"""JUnit XML as Surefire defines it, with attempts that failed and were run again.

    passed at once           nothing
    failed, once             failure, or error where it was not the call that failed
    failed, several times    that of the first attempt; rerunFailure or rerunError for each other
    failed, then passed      flakyFailure or flakyError for each that failed

The schema has properties for the suite only: those of a test stand in its system-out, as
`[[PROPERTY|name=value]]`, with `[[ATTACHMENT|path]]` for kept databases.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree as ET

from snapfarm.report import summary
from snapfarm.report.model import (
    Attempt,
    Failure,
    ItemLine,
    RunReport,
    VerdictLine,
    replay_command,
)
from snapfarm_worker.anomaly import Anomaly
from snapfarm_worker.texts import readable

#: What XML 1.0 can't hold, even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_NOTE = re.compile(r"\[\[(?=(?:PROPERTY|ATTACHMENT)\|)")

_LONGEST = 100_000


def xml(report: RunReport) -> str:
    """Return the report as JUnit XML: one suite with all tests."""
    anomalies, verdicts = summary.anomalies_of(report), summary.verdicts_of(report)
    suite = ET.Element("testsuite", name="snapfarm", time=_seconds(report.seconds))
    _properties(suite, report)
    totals = {"errors": 0, "failures": 0, "skipped": 0}
    for item in report.items:
        kind = _case(suite, report, item, anomalies.get(item.nodeid, []), verdicts.get(item.nodeid))
        if kind:
            totals[kind] += 1
    tasks = report.tasks
    if tasks is not None:
        # The calls that failed are listed one by one; all others stand in one line.
        case = _named(suite, f"pool::{tasks.done} of {tasks.submitted} tasks done", report.seconds)
        if tasks.cancelled:
            text = f"{tasks.cancelled} tasks were cancelled"
            ET.SubElement(case, "system-out").text = text
    for nodeid in report.unrun:
        case = _named(suite, nodeid, 0.0)
        ET.SubElement(case, "skipped", message=_text(f"not run: {report.unrun_reason}"))
        totals["skipped"] += 1
    suite.set("tests", str(len(suite.findall("testcase"))))
    for name, number in totals.items():
        suite.set(name, str(number))
    ET.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suite, "unicode") + "\n"


def _properties(suite: ET.Element, report: RunReport) -> None:
    values = {
        "farm.run": report.run,
        "farm.version": report.snapfarm,
        "farm.workers": str(report.planned_workers),
        "farm.dist": report.dist,
        "farm.python": report.python,
        "farm.sqlite": report.sqlite,
        "farm.seed": report.seed,
        "farm.anomalies": str(len(report.anomalies)),
    }
    values |= {f"farm.golden.{golden.name}": golden.digest for golden in report.golden}
    properties = ET.SubElement(suite, "properties")
    for name, value in values.items():
        if value:
            ET.SubElement(properties, "property", name=_text(name), value=_text(value))


def _case(
    suite: ET.Element,
    report: RunReport,
    item: ItemLine,
    anomalies: list[Anomaly],
    verdict: VerdictLine | None,
) -> str | None:
    """Add a test; return which of the suite's totals it counts in."""
    case = _named(suite, item.nodeid, item.seconds)
    bad = summary.bad_attempts(item)
    if item.outcome == "failed" and not bad:
        bad = [Attempt(outcome="crashed" if item.crashed else "failed", worker=item.worker)]
    total = None
    if item.outcome == "failed":
        first, *others = bad
        total = "failures" if first.outcome == "failed" else "errors"
        _first(case, first)
        _again(case, others, "rerun")
    elif item.outcome == "skipped":
        total = "skipped"
        _again(case, bad, "flaky", errors=False)
        ET.SubElement(case, "skipped", message=_text(item.detail))
        _again(case, bad, "flaky", failures=False)
    else:
        _again(case, bad, "flaky")
    notes = _notes(report, item, anomalies, verdict)
    ET.SubElement(case, "system-out").text = _text("\n".join(notes))
    return total


def _named(suite: ET.Element, nodeid: str, seconds: float) -> ET.Element:
    path, *names = nodeid.split("::")
    classname = ".".join([path.removesuffix(".py").replace("/", "."), *names[:-1]])
    name = names[-1] if names else path
    return ET.SubElement(
        suite, "testcase", classname=_text(classname), name=_text(name), time=_seconds(seconds)
    )


def _first(case: ET.Element, attempt: Attempt) -> None:
    tag = "failure" if attempt.outcome == "failed" else "error"
    failure = _worst(attempt)
    found = ET.SubElement(case, tag, message=_text(failure.message), type=_type(attempt, failure))
    found.text = _text(_shown(attempt))


def _again(
    case: ET.Element,
    attempts: list[Attempt],
    prefix: str,
    *,
    failures: bool = True,
    errors: bool = True,
) -> None:
    """Add attempts of which the outcome is not that of the test; failures stand before errors."""
    for suffix, wanted in (("Failure", failures), ("Error", errors)):
        for attempt in attempts if wanted else ():
            if (attempt.outcome == "failed") != (suffix == "Failure"):
                continue
            failure = _worst(attempt)
            found = ET.SubElement(
                case,
                prefix + suffix,
                message=_text(failure.message),
                type=_type(attempt, failure),
            )
            ET.SubElement(found, "stackTrace").text = _text(_shown(attempt))
            for tag, stream in (("system-out", "stdout"), ("system-err", "stderr")):
                if printed := _printed(attempt, stream):
                    ET.SubElement(found, tag).text = _text(printed)


def _worst(attempt: Attempt) -> Failure:
    """Return the failure that decided the outcome: a call's before another one's."""
    by_phase = sorted(attempt.failures, key=lambda failure: failure.phase != "call")
    return by_phase[0] if by_phase else Failure(phase="call", message="it killed its worker")


def _type(attempt: Attempt, failure: Failure) -> str:
    return _text(failure.kind or attempt.outcome)


def _shown(attempt: Attempt) -> str:
    return "\n\n".join(failure.text for failure in attempt.failures)


def _printed(attempt: Attempt, stream: str) -> str:
    return "\n".join(each.text for each in attempt.output if stream in each.title)


def _notes(
    report: RunReport, item: ItemLine, anomalies: list[Anomaly], verdict: VerdictLine | None
) -> Iterator[str]:
    yield f"[[PROPERTY|farm.worker={item.worker}]]"
    for anomaly in anomalies:
        yield f"[[PROPERTY|farm.anomaly={anomaly.kind}: {_one_line(anomaly.message)}]]"
    if verdict is not None:
        yield f"[[PROPERTY|farm.verdict={_one_line(summary.why(verdict))}]]"
    if (item.outcome == "failed" or item.flaky) and report.tasks is None:
        yield f"[[PROPERTY|farm.replay={_one_line(replay_command(report, item.nodeid))}]]"
    for attempt in item.attempts:
        for evidence in attempt.evidence:
            if evidence.file:
                yield f"[[ATTACHMENT|{evidence.file}]]"
    for attempt in item.attempts[-1:]:
        for each in attempt.output:
            # What a test prints can't pass for a note of ours.
            yield f"--- {each.title}\n{_NOTE.sub('[ [', each.text)}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _seconds(seconds: float) -> str:
    return f"{max(0.0, seconds):.3f}"


def _text(text: str) -> str:
    """Return text that XML can hold: what it forbids becomes its escape, as Python writes it."""
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}\n… {len(text) - _LONGEST} characters were left out"
    return _FORBIDDEN.sub(lambda found: ascii(found[0])[1:-1], readable(text))
