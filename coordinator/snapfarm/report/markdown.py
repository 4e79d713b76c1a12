"""Markdown for a pull request or a job's summary; what a test says can't break out of its place."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from snapfarm.report import summary, terminal
from snapfarm.report.model import ItemLine, RunReport, VerdictLine, replay_command
from snapfarm_worker.anomaly import Anomaly
from snapfarm_worker.evidence import Cell, DatabaseDiff
from snapfarm_worker.texts import readable

#: Bytes of a job's summary that GitHub shows; a step that writes more shows none of it.
LIMIT = 1_000_000
_FAILURES = 50
_FLAKY = 20
_ROWS = 10
_TEXT = 4_000

#: Where Markdown would begin something.
_ACTIVE = re.compile(r"([\\`*_{}\[\]()+!|~])")


def markdown(report: RunReport, limit: int = LIMIT) -> str:
    """Return the report as Markdown of at most `limit` bytes: the worst first, the rest counted."""
    text, size, left_out = [], 0, 0
    for block in _blocks(report):
        length = len(readable(block).encode()) + 1
        if size + length > limit - 200:
            left_out += 1
            continue
        size += length
        text.append(block)
    if left_out:
        text.append(f"\n{left_out} more sections did not fit; the other reports have them.\n")
    return readable("\n".join(text)) + "\n"


def _blocks(report: RunReport) -> Iterator[str]:
    if report.tasks is not None:
        yield f"### Worker pool: {report.tasks.done} of {report.tasks.submitted} tasks done\n"
        yield "\n".join(_fence("\n".join(terminal.pool_lines(report)), ""))
        return
    yield f"### Test run: {summary.count_line(report)}\n"
    yield _figures(report)
    anomalies, verdicts = summary.anomalies_of(report), summary.verdicts_of(report)
    bad = summary.failed(report)
    if bad:
        yield "#### Failed\n"
    for item in bad[:_FAILURES]:
        yield _item(report, item, anomalies.get(item.nodeid, []), verdicts.get(item.nodeid))
    if len(bad) > _FAILURES:
        yield f"… and {len(bad) - _FAILURES} more\n"
    flaked = summary.flaky(report)
    if flaked:
        yield "#### Flaky: passed after a failure\n"
    for item in flaked[:_FLAKY]:
        yield _item(report, item, anomalies.get(item.nodeid, []), verdicts.get(item.nodeid))
    if len(flaked) > _FLAKY:
        yield f"… and {len(flaked) - _FLAKY} more\n"
    if report.unrun:
        yield f"#### Not run: {len(report.unrun)}\n\n{_plain(report.unrun_reason)}\n"
    if report.anomalies:
        yield "\n".join(_anomaly_table(report.anomalies))


def _figures(report: RunReport) -> str:
    wall = [summary.duration(report.seconds)]
    if report.planned_workers:
        plural = "s" if report.planned_workers != 1 else ""
        wall.append(f"{report.planned_workers} worker{plural}")
    wall += [
        f"golden {_code(golden.name)} {golden.size / 1e6:.1f} MB {_code(golden.digest[:12])}"
        for golden in report.golden
    ]
    return " · ".join(wall) + "\n"


def _item(
    report: RunReport, item: ItemLine, anomalies: list[Anomaly], verdict: VerdictLine | None
) -> str:
    tries = f" · {len(item.attempts)} attempts" if len(item.attempts) > 1 else ""
    lines = [
        f"<details><summary><code>{_html(item.nodeid)}</code> · {summary.state(item)}"
        f" · {_html(summary.first_line(item))}</summary>",
        "",
        f"{item.worker} · {summary.duration(item.seconds)}{tries}",
        "",
    ]
    explained = summary.explanation(anomalies)
    if explained is not None:
        lines += [f"**{explained.kind}**: {_plain(explained.message)}", ""]
        if explained.polluter:
            lines += [f"Left by {_code(explained.polluter)}", ""]
        lines += [f"→ {_plain(explained.remedy)}", ""]
    if verdict is not None:
        lines += [f"Why: **{_plain(summary.why(verdict))}**", ""]
        lines += [f"* {_code(' with '.join(culprits))}" for culprits in verdict.culprits]
        lines += ["", f"→ {_plain(verdict.advice)}", ""]
    for failure in summary.failures(item):
        lines += [*_fence(failure.text[-_TEXT:], ""), ""]
        break
    for attempt in summary.bad_attempts(item)[-1:]:
        for evidence in attempt.evidence:
            if evidence.diff is not None and evidence.diff:
                lines += [f"Database {_code(evidence.database)}, against its baseline:", ""]
                lines += [*_diff(evidence.diff), ""]
    lines += [*_fence(replay_command(report, item.nodeid), "sh"), "", "</details>", ""]
    return "\n".join(lines)


def _diff(diff: DatabaseDiff) -> Iterator[str]:
    for table in diff.tables:
        yield (
            f"{_code(table.table)}: {table.added} added, {table.removed} removed, "
            f"{table.changed} changed{' · ' + _plain(table.error) if table.error else ''}"
        )
        if not table.rows:
            continue
        yield ""
        yield f"| | {' | '.join(_plain(column) for column in table.columns)} |"
        yield "|" + " --- |" * (len(table.columns) + 1)
        for row in table.rows[:_ROWS]:
            for sign, values in (("-", row.before), ("+", row.after)):
                if values is not None:
                    yield f"| {sign} | {' | '.join(_cell(value) for value in values)} |"
        yield ""


def _cell(value: Cell) -> str:
    if value is None:
        return "NULL"
    text = str(value)
    return _code(text if len(text) <= 80 else text[:79] + "…")


def _anomaly_table(anomalies: list[Anomaly]) -> Iterator[str]:
    by_kind: dict[str, list[Anomaly]] = {}
    for anomaly in anomalies:
        by_kind.setdefault(anomaly.kind, []).append(anomaly)
    yield "#### Database anomalies\n"
    yield "| kind | count | first seen in | what to do |"
    yield "| --- | ---: | --- | --- |"
    for kind, found in sorted(by_kind.items(), key=lambda pair: pair[1][0].severity):
        yield (
            f"| {kind} ({found[0].severity}) | {sum(each.count for each in found)} "
            f"| {_code(found[0].test)} | {_plain(found[0].remedy)} |"
        )
    yield ""


def _html(text: str) -> str:
    """Return text for inside of an HTML tag in Markdown: nothing in it is HTML or Markdown."""
    escaped = html.escape(" ".join(text.split())[:_TEXT])
    return _silent(re.sub(r"[`*_\[\]|~\\]", lambda found: f"&#{ord(found[0])};", escaped))


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is, in one line."""
    escaped = _ACTIVE.sub(r"\\\1", " ".join(text.split())[:_TEXT])
    return _silent(escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def _silent(text: str) -> str:
    """Return text that calls nobody and links to no issue: forges look for both once it is shown.

    A word joiner, which nobody sees, stands after the character that they look for.
    """
    return re.sub(r"(?<!&)([@#])(?=\w)", "\\1\N{WORD JOINER}", text)


def _code(text: str) -> str:
    """Return text as inline code that stays in one table cell."""
    return f"<code>{_html(text)}</code>"


def _fence(text: str, language: str) -> list[str]:
    """Return a fenced block whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence + language, text, fence]
