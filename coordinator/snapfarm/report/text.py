"""The report as plain text: short, the worst first, and what to run next."""

from __future__ import annotations

from collections.abc import Iterator

from snapfarm.report import summary, terminal
from snapfarm.report.model import ItemLine, RunReport, VerdictLine, bisect_command, replay_command
from snapfarm_worker.anomaly import Anomaly
from snapfarm_worker.evidence import DatabaseEvidence, TableDiff
from snapfarm_worker.texts import readable

_LISTED = 20
_SLOWEST = 5
_WIDTH = 100


def text(report: RunReport, width: int = _WIDTH) -> str:
    """Return the report as lines of at most `width` characters, but for names and commands."""
    lines = terminal.pool_lines(report) if report.tasks is not None else _lines(report, width)
    return readable("\n".join(lines)) + "\n"


def _lines(report: RunReport, width: int) -> Iterator[str]:
    if summary.failed(report):
        yield f"failed: {len(summary.failed(report))}"
        yield from failed_lines(report, width, _LISTED)
        yield ""
    if summary.flaky(report):
        yield f"flaky: {len(summary.flaky(report))}"
        yield from flaky_lines(report, width, _LISTED)
        yield ""
    if report.unrun:
        yield from terminal.not_run_lines(report)
        yield ""
    if report.anomalies:
        yield f"database anomalies: {len(report.anomalies)}"
        yield from (f"  {line}" for line in terminal.anomaly_lines(report.anomalies, width - 2))
        yield ""
    deaths = [worker for worker in report.workers.values() if worker.death]
    for worker in deaths:
        yield f"{worker.worker} died: {worker.death}"
    if report.wall is not None:
        yield from terminal.wrapped(f"wall    {_spans(report)}", width)
    if (resets := terminal.reset_line(report.workers.values())) is not None:
        yield from terminal.wrapped(resets, width)
    slow = summary.slowest(report, _SLOWEST)
    if slow and slow[0].seconds > 0.5:
        yield "slow    " + _cut(f"{summary.duration(slow[0].seconds)} {slow[0].nodeid}", width - 8)
        for item in slow[1:]:
            yield "        " + _cut(f"{summary.duration(item.seconds)} {item.nodeid}", width - 8)
    yield f"{summary.count_line(report)} in {summary.duration(report.seconds)}"


def failed_lines(report: RunReport, width: int, most: int) -> Iterator[str]:
    """Yield what failed, the worst first: how, which anomaly explains it, what to run next."""
    anomalies, verdicts = summary.anomalies_of(report), summary.verdicts_of(report)
    items = summary.failed(report)
    for item in items[:most]:
        yield from _item(item, anomalies.get(item.nodeid, []), verdicts.get(item.nodeid), width)
        yield f"    -> {replay_command(report, item.nodeid)}"
    if len(items) > most:
        yield f"  … and {len(items) - most} more: farm report shows them"


def flaky_lines(report: RunReport, width: int, most: int) -> Iterator[str]:
    """Yield what passed only after it had failed."""
    anomalies, verdicts = summary.anomalies_of(report), summary.verdicts_of(report)
    items = summary.flaky(report)
    for item in items[:most]:
        verdict = verdicts.get(item.nodeid)
        yield from _item(item, anomalies.get(item.nodeid, []), verdict, width)
        if verdict is None:
            yield f"    -> {bisect_command(item.nodeid)}"
    if len(items) > most:
        yield f"  … and {len(items) - most} more: farm report shows them"


def _item(
    item: ItemLine, anomalies: list[Anomaly], verdict: VerdictLine | None, width: int
) -> Iterator[str]:
    mark = "crash " if item.crashed else ""
    yield f"  {mark}{item.nodeid}"
    if line := summary.first_line(item):
        yield "    " + _cut(line, width - 4)
    if (explained := summary.explanation(anomalies)) is not None:
        yield "    " + _cut(f"{explained.kind}: {explained.message}", width - 4)
        if explained.polluter:
            yield f"    left by {explained.polluter}"
    if verdict is not None:
        yield f"    why: {summary.why(verdict)}"
        for culprits in verdict.culprits:
            yield f"    {'setter' if verdict.role == 'brittle' else 'polluter'}: " + " with ".join(
                culprits
            )
        yield from (f"    {line}" for line in terminal.wrapped(f"-> {verdict.advice}", width - 4))
    for attempt in summary.bad_attempts(item)[-1:]:
        for evidence in attempt.evidence:
            yield from _evidence(evidence)


def _evidence(evidence: DatabaseEvidence) -> Iterator[str]:
    if evidence.diff is not None and evidence.diff:
        said = [f"{table.table} {_counts(table)}" for table in evidence.diff.tables]
        said += [f"{each.kind} {each.name}" for each in evidence.diff.schema]
        yield f"    rows of {evidence.database}: {'; '.join(said)}"
    if evidence.file:
        yield f"    database as it was: {evidence.file}"


def _counts(table: TableDiff) -> str:
    if table.error:
        return "can't be compared"
    counts = ((table.added, "added"), (table.removed, "removed"), (table.changed, "changed"))
    return ", ".join(f"{count} {what}" for count, what in counts if count)


def _spans(report: RunReport) -> str:
    wall = report.wall
    if wall is None:
        return ""
    parts = {
        "start": wall.start,
        "databases": wall.databases,
        "collection": wall.collection,
        "tests": wall.tests,
        "end": wall.end,
    }
    return ", ".join(f"{name} {summary.duration(spent)}" for name, spent in parts.items())


def _cut(line: str, width: int) -> str:
    line = " ".join(line.split())
    return line if len(line) <= width else line[: width - 1] + "…"
