"""What a run prints of its databases, workers and anomalies, as lines of text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from snapfarm.report import summary
from snapfarm_worker.anomaly import Anomaly, AnomalyKind
from snapfarm_worker.blackbox import RUNNING
from snapfarm_worker.keys import nodeid_of

if TYPE_CHECKING:
    from snapfarm.dispatch import CollectionsDiffer
    from snapfarm.happenings import Died
    from snapfarm.report.model import RunReport, WorkerLine

#: Anomalies of one kind that are listed; the JSON report has all.
_LISTED = 10
#: Characters of a statement that are shown.
_STATEMENT = 100


def ready_line(ready: int, planned: int, seconds: float, verified: int | None, items: int) -> str:
    """Return the line that says that workers are ready; `verified` is None without databases."""
    workers = f"{ready} workers" if ready != 1 else "1 worker"
    if ready < planned:
        workers = f"{ready} of {planned} workers"
    parts = [f"farm    {workers} ready in {seconds:.1f} s"]
    if verified is not None:
        parts.append(f"snapshot verified by {verified} of {planned}")
    parts.append("1 item" if items == 1 else f"{items} items")
    return "   ".join(parts)


def anomaly_lines(anomalies: Iterable[Anomaly], width: int | None = None) -> Iterator[str]:
    """Yield the summary of anomalies, grouped by kind, each kind with its remedy.

    Lines are wrapped to a width, if one is given.
    """
    for line in _anomaly_lines(anomalies):
        yield from wrapped(line, width)


def wrapped(line: str, width: int | None) -> list[str]:
    """Return a line cut between its words; what follows stands below its text, a little deeper."""
    if width is None or len(line) <= width:
        return [line]
    text = line.lstrip()
    indent = line[: len(line) - len(text)]
    return textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=f"{indent}    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _anomaly_lines(anomalies: Iterable[Anomaly]) -> Iterator[str]:
    by_kind: dict[AnomalyKind, list[Anomaly]] = {}
    for anomaly in anomalies:
        by_kind.setdefault(anomaly.kind, []).append(anomaly)
    for kind in sorted(by_kind, key=lambda kind: (by_kind[kind][0].severity, kind)):
        found = by_kind[kind]
        total = sum(anomaly.count for anomaly in found)
        yield f"{kind} ({found[0].severity}): {total} in {_tests(found)}"
        causes = _by_cause(found)
        for same in causes[:_LISTED]:
            more = len({anomaly.test for anomaly in same}) - 1
            others = f" and {more} more test{'s' if more > 1 else ''}" if more else ""
            yield f"  {same[0].test}{others}: {same[0].message}{_where(same[0])}"
        if len(causes) > _LISTED:
            yield f"  … and {len(causes) - _LISTED} more causes; the JSON report has all of them"
        yield f"  -> {found[0].remedy}"


def _by_cause(found: Iterable[Anomaly]) -> list[list[Anomaly]]:
    """Return anomalies of one kind in groups that one change would mend, the largest first.

    That is: the same table, emptied by the same test; or the same place of the project's code.
    """
    groups: dict[tuple[str, ...], list[Anomaly]] = {}
    for anomaly in found:
        place = "" if anomaly.polluter else anomaly.stack[0] if anomaly.stack else anomaly.test
        key = (anomaly.database, anomaly.table, anomaly.polluter, place)
        groups.setdefault(key, []).append(anomaly)
    return sorted(groups.values(), key=len, reverse=True)


def _tests(found: list[Anomaly]) -> str:
    tests = len({anomaly.test for anomaly in found})
    return "1 test" if tests == 1 else f"{tests} tests"


def _where(anomaly: Anomaly) -> str:
    parts = [] if anomaly.database in {"", "default"} else [f"database {anomaly.database}"]
    if anomaly.thread and anomaly.thread != "MainThread":
        parts.append(f"thread {anomaly.thread}")
    if anomaly.sql:
        statement = " ".join(anomaly.sql.split())
        if len(statement) > _STATEMENT:
            statement = statement[: _STATEMENT - 1] + "…"
        parts.append(statement)
    if anomaly.count > 1:
        parts.append(f"{anomaly.count} times")
    return f"  [{'; '.join(parts)}]" if parts else ""


def reset_line(workers: Iterable[WorkerLine]) -> str | None:
    """Return how often rings were reset, and what that cost; None if there was nothing to reset."""
    counts: dict[str, int] = {}
    seconds = 0.0
    for worker in workers:
        seconds += worker.reset_seconds
        for tier, count in worker.resets.items():
            counts[tier] = counts.get(tier, 0) + count
    total = sum(counts.values())
    if not total:
        return None
    tiers = ", ".join(f"{count} {tier}" for tier, count in sorted(counts.items()))
    spent = seconds * 1000
    return f"resets  {total} ({tiers}) in {spent:.0f} ms, {spent / total:.2f} ms each"


def not_run_lines(report: RunReport) -> Iterator[str]:
    """Yield the items that never ran, and why."""
    count = len(report.unrun)
    yield f"{count} item{'s' if count != 1 else ''} did not run: {report.unrun_reason}"
    for nodeid in report.unrun[: _LISTED * 2]:
        yield f"  {nodeid}"
    if count > _LISTED * 2:
        yield f"  … and {count - _LISTED * 2} more; --farm-report FILE has all of them"


def pool_lines(report: RunReport) -> Iterator[str]:
    """Yield what there is to tell of a worker pool."""
    tasks = report.tasks
    if tasks is None:
        raise ValueError("this is no report of a worker pool")
    counts = {
        "done": tasks.done,
        "failed": tasks.failed,
        "crashed": tasks.crashed,
        "cancelled": tasks.cancelled,
        "retried": tasks.retried,
    }
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    yield f"tasks   {tasks.submitted} in {report.seconds:.1f} s: {said or 'none ended'}"
    yield (
        f"queue   {tasks.queue_median * 1000:.1f} ms (median) until a task began, "
        f"{tasks.queue_max * 1000:.1f} ms at most"
    )
    bad = sorted(report.items, key=lambda item: not item.crashed)
    for item in bad[: _LISTED // 2]:
        what = "crashed" if item.crashed else "failed"
        yield f"{what:7} {item.nodeid}: {summary.first_line(item)}"
    if len(bad) > _LISTED // 2:
        yield f"        … and {len(bad) - _LISTED // 2} more; the other formats have them"
    for golden in report.golden:
        yield f"golden  {golden.name}   {golden.size / 1e6:.1f} MB   {golden.tables} tables"
    for worker in report.workers.values():
        busy = "" if worker.busy is None else f"   busy {worker.busy:.0%}"
        death = f"   died: {worker.death}" if worker.death else ""
        yield (
            f"{worker.worker:7} {worker.items} tasks{busy}   "
            f"peak {worker.peak_memory / 1e6:.0f} MB{death}"
        )
    if (resets := reset_line(report.workers.values())) is not None:
        yield resets
    yield from anomaly_lines(report.anomalies)
    yield from report.notices


def end_of(died: Died) -> str:
    """Return how a worker's process ended, and what it was doing."""
    phase = died.record.phase
    doing = phase.name.lower()
    subject = f" {died.record.subject}" if died.record.subject else ""
    killed = f" (killed by the farm: {died.killed})" if died.killed else ""
    when = f"in the {doing} of" if phase in RUNNING and subject else f"while {doing}"
    return f"{died.cause}{killed} {when}{subject}"


def difference(found: CollectionsDiffer) -> str:
    """Return the text of a usage error that shows where two workers' collections differ."""
    first, other = found.first_worker, found.other_worker
    lines = [f"workers {first} and {other} collected different tests, so they can't share them"]
    if found.reordered:
        lines.append(
            f"the same tests in another order, from number {found.first_difference + 1} on: "
            "parametrize with a list (or sorted(...)) rather than a set, and keep random values "
            "and object addresses out of test ids"
        )
    for keys, who in ((found.missing, first), (found.extra, other)):
        if keys:
            lines.append(f"only {who} has:")
            lines += [f"  {nodeid_of(key)}" for key in keys[:_LISTED]]
            if len(keys) > _LISTED:
                lines.append(f"  … and {len(keys) - _LISTED} more")
    return "\n".join(lines)
