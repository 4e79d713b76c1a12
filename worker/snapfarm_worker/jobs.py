"""What a worker process is started with: where its files lie, whom it talks to, what its job is.

Imported by both sides, so it imports nothing that only one of the jobs needs.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TypeAlias

import msgspec

from snapfarm_worker.anomaly import AnomalyPolicy, Level
from snapfarm_worker.evidence import EvidenceOrder

#: Makes a worker write its stacks; no test framework that we know of uses it.
STACKS_SIGNAL = signal.SIGRTMIN + 7 if hasattr(signal, "SIGRTMIN") else signal.SIGUSR2

#: Exit status of a worker that has told why it can't go on.
EXIT_FAILED = 77


class WorkerFiles(msgspec.Struct, frozen=True):
    """Where a worker's files lie in the run's private folder."""

    folder: str
    worker: str

    def _path(self, suffix: str) -> Path:
        return Path(self.folder, f"{self.worker}.{suffix}")

    @property
    def box(self) -> Path:
        """The black box of its first lane, which is the only one of a worker that runs tests."""
        return self._path("box")

    def lane_box(self, lane: int) -> Path:
        """Return the black box of a lane, counted from 0."""
        return self._path(f"{lane}.box") if lane else self.box

    @property
    def output(self) -> Path:
        """The named pipe that takes the worker's output and errors."""
        return self._path("output")

    @property
    def stacks(self) -> Path:
        """What the worker writes on `STACKS_SIGNAL`."""
        return self._path("stacks")

    @property
    def words(self) -> Path:
        """The last statements of a test that has been running for a while."""
        return self._path("words")

    @property
    def pid(self) -> Path:
        """The worker's process id, for whoever has to end it when the coordinator is gone."""
        return self._path("pid")


class PytestJob(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker's pytest session is made from.

    `worker_input` is any picklable dict: what `config.workerinput` holds. `sys_path` is the
    coordinator's, as it was before pytest changed it. `directory` is where pytest was called: the
    arguments are relative to it. `plugins` are those that `pytest.main` was given by name.
    `environment` is the coordinator's as the worker was started; a forkserver's is older.
    `counts_failures`: whether `-x` and `--maxfail` stop the worker by itself; not so where failures
    may run again, or be forgiven, which only the coordinator knows.
    `anomalies` says what becomes of anomalies.
    """

    args: tuple[str, ...]
    plugins: tuple[str, ...]
    directory: str
    worker_input: dict[str, object]
    base_temp: str | None
    sys_path: tuple[str, ...]
    prog: str
    environment: dict[str, str]
    counts_failures: bool = True
    anomalies: AnomalyPolicy = AnomalyPolicy()
    #: What is kept of failures; None keeps nothing.
    evidence: EvidenceOrder | None = None
    #: Columns of which no text is shown: table.column in lower case.
    redact: tuple[str, ...] = ()


class TaskJob(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker runs a pool's tasks.

    `threads` run tasks at once; `isolation` is "worker", "thread" or "task". A task gets a mapping
    of connections with `mapping`, else the one connection. `names` are import paths by task name:
    with them, code and pickles do not travel. `initializer` is the parcel of a function and its
    arguments. A result of more than `result_limit` bytes is an error. `environment` is the
    coordinator's as the pool was made; a forkserver's is older.
    """

    threads: int
    isolation: str
    mapping: bool
    names: dict[str, str] | None
    initializer: tuple[bytes, ...] | None
    result_limit: int
    directory: str
    environment: dict[str, str]
    sys_path: tuple[str, ...]


Job: TypeAlias = PytestJob | TaskJob


def enter(job: Job) -> None:
    """Make this process's import path, folder and environment those of the coordinator."""
    sys.path[:] = job.sys_path
    os.chdir(job.directory)
    os.environ.clear()
    os.environ.update(job.environment)
    # A copy of the fork server has begun with another time zone, maybe.
    time.tzset()


class WorkerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """All that a worker process is started with. `pulse` in seconds.

    It travels through the pipe to the new process that nobody else can read, so `token` proves
    to each side that the other one is who it should be.
    """

    worker: str
    files: WorkerFiles
    control: str
    broadcast: str
    coordinator: int
    pulse: float
    sensors: Level
    job: Job
    token: str = ""
    #: How many things the worker does at once; each has a black box of its own.
    lanes: int = 1
