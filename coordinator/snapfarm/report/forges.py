"""What forges show beside the code: annotations of GitHub, the code quality report of GitLab."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec

from snapfarm.report import summary
from snapfarm.report.model import ItemLine, RunReport
from snapfarm_worker.texts import readable, readable_data

#: GitHub shows ten annotations of each level for a step.
_ANNOTATIONS = 10
_MESSAGE = 1_000


def annotation_lines(report: RunReport) -> Iterator[str]:
    """Yield the lines that make GitHub annotate failed and flaky tests."""
    for level, items in (("error", summary.failed(report)), ("warning", summary.flaky(report))):
        for item in items[:_ANNOTATIONS]:
            path, line = _place(item)
            title = f"{summary.state(item)}: {item.nodeid}"
            text = summary.first_line(item) or summary.state(item)
            place = f"file={_value(path)},line={line}," if path else ""
            yield f"::{level} {place}title={_value(title)}::{_data(text)}"


def code_quality(report: RunReport) -> str:
    """Return GitLab's code quality report: failed tests, flaky ones, and database anomalies."""
    found: list[dict[str, object]] = []
    for severity, items in (("major", summary.failed(report)), ("minor", summary.flaky(report))):
        for item in items:
            state = summary.state(item)
            text = f"{state}: {item.nodeid}: {summary.first_line(item)}"
            found.append(
                _entry(item, text, f"test-{state}", "blocker" if item.crashed else severity)
            )
    items_by_id = {item.nodeid: item for item in report.items}
    for anomaly in report.anomalies:
        if (owner := items_by_id.get(anomaly.test)) is not None:
            text = f"{anomaly.kind}: {anomaly.message} ({anomaly.remedy})"
            severity = "major" if anomaly.severity == "error" else "minor"
            found.append(_entry(owner, text, anomaly.kind, severity))
    distinct = {str(entry["fingerprint"]): entry for entry in found}
    data = msgspec.json.encode(readable_data(list(distinct.values())))
    return msgspec.json.format(data, indent=2).decode() + "\n"


def _entry(item: ItemLine, text: str, check: str, severity: str) -> dict[str, object]:
    path, line = _place(item)
    identity = readable(f"{check}\0{item.nodeid}\0{text if check in text else ''}")
    return {
        "description": text[:_MESSAGE],
        "check_name": check,
        "fingerprint": hashlib.sha256(identity.encode()).hexdigest(),
        "severity": severity,
        "location": {"path": path or item.nodeid.partition("::")[0], "lines": {"begin": line}},
    }


def _place(item: ItemLine) -> tuple[str, int]:
    """Return where a test failed if that is in the project, else where it is defined."""
    for failure in summary.failures(item):
        if failure.path and not failure.path.startswith("/") and failure.line:
            return failure.path, failure.line
    return item.path, max(item.line, 1)


def _data(text: str) -> str:
    text = readable(text[:_MESSAGE])
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _value(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
