"""The data of the HTML page: the model in columns, so that 10 000 tests and 200 runs stay small."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from snapfarm.flakes.rates import Rate
from snapfarm.report import summary
from snapfarm.report.model import (
    Attempt,
    PastLine,
    RunLine,
    RunReport,
    VerdictLine,
    WorkerLine,
    alone_command,
    replay_command,
)
from snapfarm_worker.anomaly import Anomaly

#: Items whose attempts, output and rows are in the page; the JSON report has all.
_DETAILED = 1_000
#: Tables of a test that are named.
_TABLES = 30


class ShownAnomaly(msgspec.Struct, frozen=True):
    """An anomaly, with what to do about it."""

    anomaly: Anomaly
    remedy: str


class Detail(msgspec.Struct, frozen=True):
    """All that the page shows of one item beside its columns."""

    attempts: tuple[Attempt, ...]
    anomalies: tuple[ShownAnomaly, ...]
    replay: str
    #: Runs it by itself; empty where that is what `replay` does.
    alone: str = ""
    note: str = ""
    #: Why it failed, where somebody has found out.
    verdict: VerdictLine | None = None
    why: str = ""


class Past(msgspec.Struct, frozen=True):
    """What the runs of the history say of an item: how often it failed, what it took."""

    failures: int
    attempts: int
    #: The ends of the 95 % interval of the rate, from 0 to 1.
    low: float
    high: float
    seconds: tuple[float | None, ...]
    tables: tuple[str, ...] = ()


class Lane(msgspec.Struct, frozen=True):
    """A worker on the timeline: spans as begin and end in seconds, by what it did."""

    worker: str
    spans: list[tuple[str, float, float]]
    death: str = ""
    #: When it was launched and when it was gone, in seconds since the run began.
    began: float = 0.0
    gone: float = 0.0


class Items(msgspec.Struct, frozen=True):
    """The items, a list for each column; `state` indexes `summary.STATES`."""

    nodeid: list[str]
    state: list[int]
    worker: list[int]
    began: list[float]
    seconds: list[float]
    setup: list[float]
    call: list[float]
    teardown: list[float]
    reset: list[float]
    attempts: list[int]
    anomalies: list[int]


class Payload(msgspec.Struct, frozen=True):
    """What the page's script reads."""

    states: tuple[str, ...]
    items: Items
    workers: list[Lane]
    details: dict[int, Detail]
    runs: tuple[RunLine, ...]
    #: A character for each run, by number of the item.
    history: dict[int, str]
    past: dict[int, Past]
    #: Whether items without a history have never failed in any of the runs.
    only_troubled: bool
    #: Where the wall time, and the workers' time, went: names and seconds.
    wall: list[tuple[str, float]]
    spent: list[tuple[str, float]]
    seconds: float


def payload(report: RunReport) -> Payload:
    """Return the data of a report's page."""
    anomalies = summary.anomalies_of(report)
    names = {name: number for number, name in enumerate(report.workers)}
    states = {name: number for number, name in enumerate(summary.STATES)}
    found = report.items
    for item in found:
        names.setdefault(item.worker, len(names))
    history = report.history
    return Payload(
        states=summary.STATES,
        items=Items(
            nodeid=[item.nodeid for item in found],
            state=[states.get(summary.state(item), len(states) - 1) for item in found],
            worker=[names[item.worker] for item in found],
            began=_rounded(item.began for item in found),
            seconds=_rounded(item.seconds for item in found),
            setup=_rounded(item.setup for item in found),
            call=_rounded(item.call for item in found),
            teardown=_rounded(item.teardown for item in found),
            reset=_rounded(item.reset for item in found),
            attempts=[max(1, len(item.attempts)) for item in found],
            anomalies=[len(anomalies.get(item.nodeid, ())) for item in found],
        ),
        workers=[_lane(report, name) for name in names],
        details=_details(report, anomalies),
        runs=history.runs,
        history={
            number: history.outcomes[item.nodeid]
            for number, item in enumerate(found)
            if item.nodeid in history.outcomes
        },
        past={
            number: _past(history.tests[item.nodeid])
            for number, item in enumerate(found)
            if item.nodeid in history.tests
        },
        only_troubled=history.only_troubled,
        wall=_wall(report),
        spent=_spent(report),
        seconds=report.seconds,
    )


def _past(line: PastLine) -> Past:
    low, high = Rate(line.failures, line.attempts).interval()
    return Past(
        line.failures,
        line.attempts,
        round(low, 4),
        round(high, 4),
        line.seconds,
        line.tables[:_TABLES],
    )


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(value, 4) for value in values]


def _details(report: RunReport, anomalies: dict[str, list[Anomaly]]) -> dict[int, Detail]:
    """Return what there is beyond columns, of the worst items where there are too many."""
    verdicts = summary.verdicts_of(report)
    wanted = [
        number
        for number, item in enumerate(report.items)
        if item.attempts or item.detail or item.nodeid in anomalies or item.nodeid in verdicts
    ]
    order = {name: place for place, name in enumerate(summary.STATES)}
    wanted.sort(key=lambda number: order[summary.state(report.items[number])])
    found = {}
    for number in wanted[:_DETAILED]:
        item = report.items[number]
        verdict = verdicts.get(item.nodeid)
        found[number] = Detail(
            attempts=item.attempts,
            anomalies=tuple(
                ShownAnomaly(each, each.remedy) for each in anomalies.get(item.nodeid, ())
            ),
            replay=replay_command(report, item.nodeid),
            alone=alone_command(report, item.nodeid) if report.history_run else "",
            note=item.detail,
            verdict=verdict,
            why="" if verdict is None else summary.why(verdict),
        )
    return found


def _lane(report: RunReport, name: str) -> Lane:
    line = report.workers.get(name)
    if line is None or line.times is None:
        return Lane(name, [], "" if line is None else line.death)
    times, at = line.times, line.launched
    spans = []
    restore = _restore(line)
    for what, seconds in (
        ("start", times.start),
        ("broadcast", times.databases - restore),
        ("restore", restore),
        ("collection", times.collection),
    ):
        if seconds:
            spans.append((what, round(at, 4), round(at + seconds, 4)))
        at += seconds
    at += line.busy_seconds + times.waiting
    if times.end:
        spans.append(("end", round(at, 4), round(at + times.end, 4)))
    return Lane(name, spans, line.death, round(line.launched, 4), round(at + times.end, 4))


def _restore(line: WorkerLine) -> float:
    """Return how long a worker copied databases into its rings, once it had received them."""
    spent = 0.0 if line.times is None else line.times.databases
    return min(spent, sum(line.restore_seconds.values()))


def _wall(report: RunReport) -> list[tuple[str, float]]:
    wall = report.wall
    if wall is None:
        return []
    return [
        ("start", wall.start),
        ("databases", wall.databases),
        ("collection", wall.collection),
        ("tests", wall.tests),
        ("end", wall.end),
    ]


def _spent(report: RunReport) -> list[tuple[str, float]]:
    """Return where the time of all workers together went."""
    totals: dict[str, float] = {}
    for line in report.workers.values():
        times = line.times
        if times is None:
            continue
        parts = {
            "start": times.start,
            "broadcast": times.databases - _restore(line),
            "restore": _restore(line),
            "collection": times.collection,
            "set-up": line.setup_seconds,
            "test": line.call_seconds,
            "reset": line.reset_seconds,
            "tear-down": max(0.0, line.teardown_seconds - line.reset_seconds),
            "idle": times.waiting,
            "end": times.end,
        }
        for name, seconds in parts.items():
            totals[name] = totals.get(name, 0.0) + seconds
    return list(totals.items())
