"""The model of one run, from which every report is made; also the format of its JSON report.

Within a `FORMAT_VERSION` fields are only ever added, with defaults: whoever reads a field goes on
reading it, and an older report is read by newer code. A field that is dropped, renamed or changed
in its meaning makes a new version. `report.schema.json` beside this file is the JSON schema.
"""

from __future__ import annotations

import inspect
import shlex
from pathlib import Path
from typing import cast

import msgspec

from snapfarm.errors import ReportError
from snapfarm.report.timeline import WallTimes, WorkerTimes
from snapfarm_worker.anomaly import Anomaly
from snapfarm_worker.evidence import DatabaseEvidence
from snapfarm_worker.texts import readable, readable_data

#: 1  first version; since then added: wall times, attempts, evidence, history, places, the name in
#:    the history of attempts
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
    #: When its process was launched, in seconds since the run began.
    launched: float = 0.0
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


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """How one phase of an attempt failed, as pytest has shown it."""

    #: setup, call or teardown; crash where it killed its worker.
    phase: str
    #: The exception's name, where it is known.
    kind: str = ""
    #: Its message, in one line.
    message: str = ""
    #: What pytest shows of it.
    text: str = ""
    #: Where it was raised: a file of the project, and a line from 1 on; empty and 0 if not known.
    path: str = ""
    line: int = 0


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """A captured section, such as "Captured stdout call"; the middle of a long one is left out."""

    title: str
    text: str


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of an item. Seconds are wall time; `began` since the run began."""

    #: passed, failed, error (of setup or teardown), skipped or crashed.
    outcome: str
    worker: str
    began: float = 0.0
    seconds: float = 0.0
    failures: tuple[Failure, ...] = ()
    output: tuple[Output, ...] = ()
    evidence: tuple[DatabaseEvidence, ...] = ()

    @property
    def bad(self) -> bool:
        """Whether it counts against its item."""
        return self.outcome in {"failed", "error", "crashed"}


class ItemLine(msgspec.Struct, frozen=True, kw_only=True):
    """The one outcome of an item, with the worker that ran it and its wall time in seconds."""

    nodeid: str
    outcome: str
    worker: str
    seconds: float
    crashed: bool = False
    #: When it began, in seconds since the run began.
    began: float = 0.0
    #: What its phases took; `teardown` has the reset in it, and `reset` alone.
    setup: float = 0.0
    call: float = 0.0
    teardown: float = 0.0
    reset: float = 0.0
    #: Where it is defined: a file relative to the root, and a line from 1 on; 0 if not known.
    path: str = ""
    line: int = 0
    #: "xfailed", "xpassed", or why it was skipped.
    detail: str = ""
    #: All attempts, in order; empty where there was one, and nothing more is known of it.
    attempts: tuple[Attempt, ...] = ()

    @property
    def flaky(self) -> bool:
        """Whether it passed, and had failed before."""
        return self.outcome == "passed" and any(each.bad for each in self.attempts)


class PastLine(msgspec.Struct, frozen=True, kw_only=True):
    """What the runs of a history say of one test beside its outcomes; skips do not count."""

    failures: int
    attempts: int
    #: Mean wall seconds of its attempts in each run; None where there was none.
    seconds: tuple[float | None, ...] = ()
    #: The tables that it has written to in any of the runs, as database.table.
    tables: tuple[str, ...] = ()


class RunLine(msgspec.Struct, frozen=True, kw_only=True):
    """An earlier run, or this one. `started` in seconds since the epoch."""

    run: str
    started: float
    seconds: float = 0.0
    tests: int = 0
    failed: int = 0
    flaky: int = 0
    #: The commit that was tested, where git has told.
    commit: str = ""


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What earlier runs and this one, the last, say of each test.

    `outcomes` has by node id one character for each run: p passed, f failed, c crashed, k flaky,
    s skipped, - not there.
    """

    runs: tuple[RunLine, ...] = ()
    outcomes: dict[str, str] = {}
    #: What more is known of tests that have failed in any of the runs, and of slow ones.
    tests: dict[str, PastLine] = {}
    #: Whether tests that are not in `outcomes` have never failed in any of the runs.
    only_troubled: bool = False


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
    #: Names the run: its folder under `.farm/runs`.
    run: str = ""
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
    #: What the run's random choices were seeded with, where a plugin tells.
    seed: str = ""
    #: How `farm replay` and the history of attempts call it; empty where that was not kept.
    history_run: str = ""
    #: Options that a command needs, beside a node id, to run an item again.
    replay: tuple[str, ...] = ()
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
    history: History = History()

    def worker(self, name: str) -> WorkerLine:
        """Return the line of a worker, made on first use."""
        return self.workers.setdefault(name, WorkerLine(worker=name))


def replay_command(report: RunReport, nodeid: str) -> str:
    """Return the shell command that brings a failure back.

    That is: after the tests that ran before it on its worker, with the seed of then; where the
    history does not know them, alone.
    """
    if report.history_run and not report.replay:
        return shlex.join(["farm", "replay", f"{report.history_run}:{nodeid}"])
    return alone_command(report, nodeid)


def alone_command(report: RunReport, nodeid: str) -> str:
    """Return the shell command that runs one item by itself, on a database of its own."""
    workers = "1" if report.planned_workers else "0"
    return shlex.join(["farm", "run", "-n", workers, *report.replay, nodeid])


def bisect_command(nodeid: str) -> str:
    """Return the shell command that finds out why an item flakes."""
    return shlex.join(["farm", "bisect", nodeid])


def read_json(data: bytes, where: str) -> RunReport:
    """Return a report from JSON. Raises ReportError, which names `where` it was read from."""
    try:
        version = msgspec.json.decode(data, type=_Version).format_version
        if version > FORMAT_VERSION:
            raise ReportError(
                f"{where}: its format version is {version}, this snapfarm reads up to "
                f"{FORMAT_VERSION}: use the version that wrote it"
            )
        return msgspec.json.decode(data, type=RunReport)
    except msgspec.MsgspecError as error:
        raise ReportError(f"{where}: is no report of snapfarm: {error}") from None


def schema() -> dict[str, object]:
    """Return the JSON schema of a report."""
    found = msgspec.json.schema(RunReport)
    for definition in cast("dict[str, dict[str, object]]", found["$defs"]).values():
        if isinstance(text := definition.get("description"), str):
            # From 3.13 on, Python itself takes the indentation out of docstrings.
            definition["description"] = inspect.cleandoc(text)
    return found


class _Version(msgspec.Struct):
    format_version: int


def encoded(report: RunReport) -> bytes:
    """Return a report as JSON, in one line."""
    try:
        return msgspec.json.encode(report)
    except UnicodeEncodeError:
        return msgspec.json.encode(readable_data(msgspec.to_builtins(report)))


def as_json(report: RunReport) -> str:
    """Return a report as JSON, indented."""
    return msgspec.json.format(encoded(report), indent=2).decode() + "\n"


def write_json(report: RunReport, path: Path) -> None:
    """Write a report as JSON, whole or not at all."""
    write_text(as_json(report), path)


def write_text(text: str, path: Path) -> None:
    """Write a text file, whole or not at all; a lone surrogate is written as its escape."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(readable(text), encoding="utf-8")
    partial.replace(path)
