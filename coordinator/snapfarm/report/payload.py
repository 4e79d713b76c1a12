"""The data of the HTML page: the model in columns, so that 10 000 tests and 200 runs stay small."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from snapfarm.report import summary
from snapfarm.report.model import Attempt, RunLine, RunReport, replay_command
from snapfarm_worker.anomaly import Anomaly

#: Items whose attempts, output and rows are in the page; the JSON report has all.
_DETAILED = 1_000


class ShownAnomaly(msgspec.Struct, frozen=True):
    """An anomaly, with what to do about it."""

    anomaly: Anomaly
    remedy: str


class Detail(msgspec.Struct, frozen=True):
    """All that the page shows of one item beside its columns."""

    attempts: tuple[Attempt, ...]
    anomalies: tuple[ShownAnomaly, ...]
    replay: str
    note: str = ""


class Lane(msgspec.Struct, frozen=True):
    """A worker on the timeline: spans as begin and end in seconds, by what it did."""

    worker: str
    spans: list[tuple[str, float, float]]
    death: str = ""


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
    #: A character for each run by item, in the order of the items.
    history: list[str]
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
    blank = "-" * len(history.runs)
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
        history=[history.outcomes.get(item.nodeid, blank) for item in found]
        if history.runs
        else [],
        wall=_wall(report),
        spent=_spent(report),
        seconds=report.seconds,
    )


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(value, 4) for value in values]


def _details(report: RunReport, anomalies: dict[str, list[Anomaly]]) -> dict[int, Detail]:
    """Return what there is beyond columns, of the worst items where there are too many."""
    wanted = [
        number
        for number, item in enumerate(report.items)
        if item.attempts or item.detail or item.nodeid in anomalies
    ]
    order = {name: place for place, name in enumerate(summary.STATES)}
    wanted.sort(key=lambda number: order[summary.state(report.items[number])])
    found = {}
    for number in wanted[:_DETAILED]:
        item = report.items[number]
        found[number] = Detail(
            attempts=item.attempts,
            anomalies=tuple(
                ShownAnomaly(each, each.remedy) for each in anomalies.get(item.nodeid, ())
            ),
            replay=replay_command(report, item.nodeid),
            note=item.detail,
        )
    return found


def _lane(report: RunReport, name: str) -> Lane:
    line = report.workers.get(name)
    if line is None or line.times is None:
        return Lane(name, [], "" if line is None else line.death)
    times, at = line.times, line.launched
    spans = []
    for what, seconds in (
        ("start", times.start),
        ("databases", times.databases),
        ("collection", times.collection),
    ):
        if seconds:
            spans.append((what, round(at, 4), round(at + seconds, 4)))
        at += seconds
    at += line.busy_seconds + times.waiting
    if times.end:
        spans.append(("end", round(at, 4), round(at + times.end, 4)))
    return Lane(name, spans, line.death)


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
            "databases": times.databases,
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
