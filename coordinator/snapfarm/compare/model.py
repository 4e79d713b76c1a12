"""The model of one comparison, from which its text is made; also the format of `--json`.

Fields are only ever added, with defaults; a change of meaning is a new `FORMAT_VERSION`.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import msgspec

from snapfarm.compare.runs import SuiteRun
from snapfarm.compare.verdict import Verdict
from snapfarm.report.model import RunReport

#: 1  first version
FORMAT_VERSION = 1


class RunnerLine(msgspec.Struct, frozen=True, kw_only=True):
    """What one runner showed, of each round a value: seconds, and bytes."""

    wall: tuple[float, ...]
    #: User and system time of all its processes.
    cpu: tuple[float, ...]
    #: The largest sum of the PSS of its processes; 0 where it could not be measured.
    memory: tuple[int, ...]
    exit_statuses: tuple[int, ...]
    #: Of the first round: how many tests had each outcome.
    outcomes: dict[str, int]


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time of one farm run went, in seconds, by the names of docs/compare.md."""

    #: The wall time that is divided, of the round with the median.
    seconds: float
    #: Consecutive spans of the coordinator, which make up the wall time.
    wall: dict[str, float]
    #: The workers' time, theirs added up.
    workers: dict[str, float]
    #: CPU seconds of the coordinator's process.
    coordinator_cpu: float


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is known of a comparison."""

    format_version: int = FORMAT_VERSION
    snapfarm: str
    python: str
    arguments: tuple[str, ...]
    workers: int
    dist: str | None
    shuffle: str | None
    rounds: int
    #: By the names of the runners, in the order in which they are shown.
    runners: dict[str, RunnerLine]
    farm: Spent | None
    verdict: Verdict
    #: What the reader should know, such as that pytest-xdist is not installed.
    notes: tuple[str, ...] = ()


def runner_line(runs: Sequence[SuiteRun]) -> RunnerLine:
    """Return what the rounds of one runner showed."""
    return RunnerLine(
        wall=tuple(run.wall for run in runs),
        cpu=tuple(run.cpu for run in runs),
        memory=tuple(run.memory for run in runs),
        exit_statuses=tuple(run.outcome.exit_status for run in runs),
        outcomes=dict(Counter(test.outcome for test in runs[0].outcome.tests.values())),
    )


def spent(runs: Sequence[SuiteRun]) -> Spent | None:
    """Return where the time of a farm went, in the round whose wall time is the median."""
    known = [run for run in runs if run.farm is not None and run.farm.wall is not None]
    if not known:
        return None
    median = statistics.median_low(run.wall for run in known)
    run = next(run for run in known if run.wall == median)
    report = run.farm
    if report is None:
        raise AssertionError("runs without a report were left out")
    return Spent(
        seconds=run.wall,
        wall=_wall(report, run),
        workers=_of_workers(report),
        coordinator_cpu=report.coordinator_cpu,
    )


def _wall(report: RunReport, run: SuiteRun) -> dict[str, float]:
    """Divide the wall time: the report knows nothing of what was before it began and after."""
    spans = report.wall
    if spans is None:
        return {}
    before = max(0.0, report.started - run.began)
    after = max(0.0, run.wall - before - report.seconds)
    return {
        "start": before + spans.start,
        "databases": spans.databases,
        "collection": spans.collection,
        "tests": spans.tests,
        "end": spans.end + after,
    }


def _of_workers(report: RunReport) -> dict[str, float]:
    total: defaultdict[str, float] = defaultdict(float)
    for line in report.workers.values():
        times: Mapping[str, float] = (
            {} if line.times is None else msgspec.structs.asdict(line.times)
        )
        for name in ("start", "databases", "collection"):
            total[name] += times.get(name, 0.0)
        phases = line.setup_seconds + line.call_seconds + line.teardown_seconds
        total["set-up"] += line.setup_seconds
        total["tests"] += line.call_seconds
        # Rings are reset in the teardown of a test, outside of all its finalizers.
        total["tear-down"] += max(0.0, line.teardown_seconds - line.reset_seconds)
        total["reset"] += line.reset_seconds
        total["reporting"] += max(0.0, line.busy_seconds - phases)
        total["waiting"] += times.get("waiting", 0.0)
        total["end"] += times.get("end", 0.0)
    return dict(total)
