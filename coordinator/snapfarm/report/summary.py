"""What every report says first: counts, what is worst, what flaked, what was slow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from snapfarm.report.model import Attempt, Failure, ItemLine, RunReport, VerdictLine
from snapfarm_worker.anomaly import Anomaly, Severity

#: How items are named in counts, the worst first.
STATES = ("crashed", "failed", "flaky", "skipped", "passed")

#: How histories write them.
LETTERS = {"passed": "p", "failed": "f", "crashed": "c", "flaky": "k", "skipped": "s"}


def state(item: ItemLine) -> str:
    """Return what became of an item, as one of `STATES`."""
    if item.crashed:
        return "crashed"
    return "flaky" if item.flaky else item.outcome


def counts(report: RunReport) -> Counter[str]:
    """Return how many items are in each of `STATES`."""
    return Counter(map(state, report.items))


def count_line(report: RunReport) -> str:
    """Return the counts in words, the worst first."""
    found = counts(report)
    said = [f"{found[name]} {name}" for name in STATES if found[name]]
    if report.unrun:
        said.append(f"{len(report.unrun)} not run")
    return ", ".join(said) or "no tests ran"


def failed(report: RunReport) -> list[ItemLine]:
    """Return the items that failed: crashes, what an anomaly explains, others; as they ran."""
    bad = [item for item in report.items if item.outcome == "failed"]
    found = anomalies_of(report)
    return sorted(
        bad,
        key=lambda item: (not item.crashed, explanation(found.get(item.nodeid, [])) is None),
    )


def flaky(report: RunReport) -> list[ItemLine]:
    """Return the items that passed only after they had failed."""
    return [item for item in report.items if item.flaky]


def slowest(report: RunReport, count: int) -> list[ItemLine]:
    """Return the items that took longest, the longest first."""
    return sorted(report.items, key=lambda item: -item.seconds)[:count]


def anomalies_of(report: RunReport) -> dict[str, list[Anomaly]]:
    """Return the anomalies by node id, errors first."""
    found: dict[str, list[Anomaly]] = {}
    for anomaly in sorted(report.anomalies, key=lambda each: each.severity != Severity.ERROR):
        found.setdefault(anomaly.test, []).append(anomaly)
    return found


def explanation(anomalies: list[Anomaly]) -> Anomaly | None:
    """Return the anomaly that may explain a failure: an error, since warnings only may cause."""
    return next((each for each in anomalies if each.severity == Severity.ERROR), None)


def verdicts_of(report: RunReport) -> dict[str, VerdictLine]:
    """Return why tests failed, by node id; a verdict holds for all tests that failed alike."""
    found = {}
    for verdict in report.verdicts:
        for nodeid in (verdict.nodeid, *verdict.same):
            found[nodeid] = verdict
    return found


def why(verdict: VerdictLine) -> str:
    """Return a verdict in one line, as "order-dependent, victim (confidence: high)"."""
    role = f", {verdict.role}" if verdict.role else ""
    return f"{verdict.cause}{role} (confidence: {verdict.confidence})"


def bad_attempts(item: ItemLine) -> list[Attempt]:
    """Return the attempts that failed."""
    return [attempt for attempt in item.attempts if attempt.bad]


def failures(item: ItemLine) -> Iterator[Failure]:
    """Yield how an item failed, the last attempt that failed first."""
    for attempt in reversed(bad_attempts(item)):
        yield from attempt.failures


def first_line(item: ItemLine) -> str:
    """Return in one line how an item failed."""
    for failure in failures(item):
        return ": ".join(part for part in (failure.kind, failure.message) if part)
    return "it killed its worker" if item.crashed else ""


def duration(seconds: float) -> str:
    """Return a time for people: 12 ms, 3.4 s, 2 min 05 s."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"
