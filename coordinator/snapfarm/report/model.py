"""The model of one run, from which every report is made; also the format of `--farm-report`.

Fields are only ever added, with defaults; a change of meaning is a new `FORMAT_VERSION`.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from snapfarm.report.timeline import WallTimes, WorkerTimes
from snapfarm_worker.anomaly import Anomaly
from snapfarm_worker.texts import readable, readable_data

#: 1  first version
FORMAT_VERSION = 1


class GoldenLine(msgspec.Struct, frozen=True, kw_only=True):
    """A golden database of the run. `build_seconds` also where it came from the cache."""

    name: str
    digest: str
    size: int
    tables: int
    fingerprint: str
    cached: bool
    build_seconds: float
    notes: tuple[str, ...] = ()


class WorkerLine(msgspec.Struct, kw_only=True):
    """One incarnation of a worker. Times in seconds, measured by the worker."""

    worker: str
    pid: int = 0
    #: By database.
    receive_seconds: dict[str, float] = msgspec.field(default_factory=dict)
    restore_seconds: dict[str, float] = msgspec.field(default_factory=dict)
    repaired_chunks: int = 0
    collect_seconds: float = 0.0
    items: int = 0
    busy_seconds: float = 0.0
    #: What its items took by phase, as their reports have it; `teardown` has the resets in it.
    setup_seconds: float = 0.0
    call_seconds: float = 0.0
    teardown_seconds: float = 0.0
    #: What it did when it was not busy with items; of a run of tests only.
    times: WorkerTimes | None = None
    #: Share of its threads' time that was spent in items, 0 to 1; of a pool only.
    busy: float | None = None
    #: In bytes; 0 where it is not known.
    peak_memory: int = 0
    #: How often rings were reset, by tier.
    resets: dict[str, int] = msgspec.field(default_factory=dict)
    reset_seconds: float = 0.0
    #: How its process ended where that was not in order.
    death: str = ""


class ItemLine(msgspec.Struct, frozen=True, kw_only=True):
    """The one outcome of an item, with the worker that ran it and its wall time in seconds."""

    nodeid: str
    outcome: str
    worker: str
    seconds: float
    crashed: bool = False


class FlakeLine(msgspec.Struct, frozen=True, kw_only=True):
    """A test that has failed and passed in this run, or failed in quarantine."""

    nodeid: str
    failures: int
    attempts: int
    #: What its last failure looked like.
    signature: str
    quarantined: bool = False


class VerdictLine(msgspec.Struct, frozen=True, kw_only=True):
    """Why a test failed; `culprits` are groups of tests, each of which has the effect by itself."""

    nodeid: str
    cause: str
    confidence: str
    role: str
    signature: str
    culprits: tuple[tuple[str, ...], ...]
    evidence: tuple[str, ...]
    advice: str
    #: Further tests that failed with the same signature.
    same: tuple[str, ...] = ()


class TaskCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of a worker pool. Queue times in seconds, from submission to begin."""

    submitted: int
    done: int
    failed: int
    crashed: int
    cancelled: int
    retried: int
    threads: int
    isolation: str
    queue_median: float = 0.0
    queue_max: float = 0.0


class RunReport(msgspec.Struct, kw_only=True):
    """Everything that is known of a run."""

    format_version: int = FORMAT_VERSION
    snapfarm: str
    python: str
    sqlite: str
    #: Seconds since the epoch.
    started: float
    seconds: float = 0.0
    #: How `seconds` divide; None without workers, and for a pool.
    wall: WallTimes | None = None
    #: CPU seconds of the coordinator's own process.
    coordinator_cpu: float = 0.0
    exit_status: int = 0
    dist: str = ""
    planned_workers: int = 0
    golden: list[GoldenLine] = msgspec.field(default_factory=list)
    workers: dict[str, WorkerLine] = msgspec.field(default_factory=dict)
    #: The calls of a worker pool; None for a run of tests.
    tasks: TaskCounts | None = None
    items: list[ItemLine] = msgspec.field(default_factory=list)
    anomalies: list[Anomaly] = msgspec.field(default_factory=list)
    flakes: list[FlakeLine] = msgspec.field(default_factory=list)
    verdicts: list[VerdictLine] = msgspec.field(default_factory=list)
    #: Node ids that were collected and have no outcome, with the reason.
    unrun: list[str] = msgspec.field(default_factory=list)
    unrun_reason: str = ""
    #: What the farm noticed and nobody need act upon.
    notices: list[str] = msgspec.field(default_factory=list)

    def worker(self, name: str) -> WorkerLine:
        """Return the line of a worker, made on first use."""
        return self.workers.setdefault(name, WorkerLine(worker=name))


def write_json(report: RunReport, path: Path) -> None:
    """Write a report as JSON, whole or not at all."""
    try:
        data = msgspec.json.encode(report)
    except UnicodeEncodeError:
        data = msgspec.json.encode(readable_data(msgspec.to_builtins(report)))
    write_text(msgspec.json.format(data, indent=2).decode() + "\n", path)


def write_text(text: str, path: Path) -> None:
    """Write a text file, whole or not at all; a lone surrogate is written as its escape."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(readable(text), encoding="utf-8")
    partial.replace(path)
