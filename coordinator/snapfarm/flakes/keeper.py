"""Stores the attempts of a farm's run as they end: what stands between reports and history.

A history that can't be written is a warning, and never more.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sqlite3
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from snapfarm.flakes import history, signature
from snapfarm.flakes.history import Attempt, History, HistoryError, Run
from snapfarm_worker import wire

#: Seconds between two transactions while tests run: at least, and at most,
_INTERVAL, _LONGEST_INTERVAL = 0.1, 0.25
#: and in between so many times what the last one took.
_REST = 100
#: Seconds that git may take at the end of a run, if it has not answered by then.
_GIT_LIMIT = 2.0


class Commit:
    """What git says of the project; asked beside the run, since it may take its time."""

    def __init__(self, root: Path) -> None:
        self._process: subprocess.Popen[str] | None = None
        command = ("status", "--porcelain=v2", "--branch", "--untracked-files=no")
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                ["git", "--no-optional-locks", "-C", str(root), *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                errors="replace",
            )

    @property
    def ready(self) -> bool:
        """Whether reading will not wait."""
        return self._process is None or self._process.poll() is not None

    def read(self) -> tuple[str, str, int | None]:
        """Return commit, branch, and whether the tree is dirty (None: not known)."""
        process, self._process = self._process, None
        if process is None:
            return "", "", None
        try:
            output, _ = process.communicate(timeout=_GIT_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return "", "", None
        if process.returncode:
            return "", "", None
        lines = output.splitlines()
        told = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# branch."))
        # In brackets is what git says of a commit or branch that is none.
        commit, branch = (
            "" if text.startswith("(") else text
            for text in (told.get("branch.oid", "("), told.get("branch.head", "("))
        )
        return commit, branch, int(any(not line.startswith("#") for line in lines))


_NOTHING = signature.Signature("")


class _Going(msgspec.Struct):
    """An attempt whose reports are coming in."""

    worker: str
    outcome: str = "passed"
    seconds: float = 0.0
    #: The first of its reports that has failed.
    failed: pytest.TestReport | None = None
    ended: float = 0.0

    def take(self, report: pytest.TestReport) -> None:
        """Take one of its reports."""
        self.seconds += report.duration
        if report.outcome == "passed":
            return
        # "rerun" is what a plugin calls a failure that is followed by another attempt.
        if report.outcome != "skipped":
            self.outcome = "failed"
            self.failed = self.failed or report
        elif self.outcome == "passed":
            self.outcome = "skipped"


class AttemptKeeper:
    """Writes a run's attempts, and remembers them for verdicts."""

    def __init__(
        self,
        path: Path | None,
        run: Run,
        root: Path,
        *,
        warn: Callable[[str], None],
    ) -> None:
        """Write to the history at `path`; None keeps attempts for this run only."""
        self.run = run
        self._path = path
        self._root = root
        self._warn = warn
        self._history: History | None = None
        self._commit: Commit | None = None
        self._attempts: list[Attempt] = []
        #: Attempts that have ended, and are not among those yet.
        self._waiting: list[tuple[str, _Going, str, str, str]] = []
        self._written = 0
        #: On the clock `monotonic`.
        self._next_write = 0.0
        #: Attempts of items that have not ended.
        self._open: dict[str, list[_Going]] = {}
        self._anomalies: dict[str, str] = {}
        self._changed: dict[str, str] = {}
        self._tables: dict[str, str] = {}
        self._positions: Counter[str] = Counter()
        self._tries: dict[str, int] = {}

    @property
    def pending(self) -> bool:
        """Whether there is something to write."""
        return self._path is not None and (
            bool(self._waiting) or self._written < len(self._attempts)
        )

    @property
    def known_as(self) -> str:
        """How `farm replay` finds this run; empty where its attempts are not kept."""
        return "" if self._path is None else self.run.id[:8]

    def observed(self, nodeid: str, message: wire.ItemFinished) -> None:
        """Keep what a message says beside its reports, which come next."""
        if message.anomalies:
            kinds = dict.fromkeys(str(anomaly.kind) for anomaly in message.anomalies)
            self._anomalies[nodeid] = " ".join(kinds)
        written = [reset.database for reset in message.resets if reset.tier != "clean"]
        if written:
            self._changed[nodeid] = " ".join(dict.fromkeys(written))
        if message.written:
            self._tables[nodeid] = "\n".join(message.written)

    def reported(self, report: pytest.TestReport) -> None:
        """Take a report, as it came from its worker; it may be changed afterwards."""
        nodeid = report.nodeid
        seen = self._open.get(nodeid)
        if seen is None:
            seen = self._open[nodeid] = []
        if not seen or report.when == "setup":
            # A plugin may run an item several times.
            seen.append(_Going(str(vars(report).get("worker_id", "master"))))
        seen[-1].take(report)

    def ended(self, nodeid: str) -> None:
        """Make attempts of an item's reports."""
        anomalies = self._anomalies.pop(nodeid, "")
        changed = self._changed.pop(nodeid, "")
        tables = self._tables.pop(nodeid, "")
        for one in self._open.pop(nodeid, ()):
            one.ended = time.time()
            self._waiting.append((nodeid, one, anomalies, changed, tables))

    @property
    def attempts(self) -> list[Attempt]:
        """Attempts of this run, in the order in which they ended."""
        # Not as they end: whoever stops the run for a failure must not wait for its signature.
        for waiting in self._waiting:
            self._add(*waiting)
        self._waiting.clear()
        return self._attempts

    def _add(self, nodeid: str, one: _Going, anomalies: str, changed: str, tables: str) -> None:
        worker, found = one.worker, _NOTHING
        if one.failed is not None:
            found = signature.of_report(one.failed, self._root)
        attempt = self._tries[nodeid] = self._tries.get(nodeid, 0) + 1
        self._attempts.append(
            Attempt(
                id=f"{self.run.id}-{len(self._attempts)}",
                run=self.run.id,
                test=nodeid,
                attempt=attempt,
                worker=worker,
                position=self._positions[worker],
                ended=one.ended,
                seconds=one.seconds,
                outcome=one.outcome,
                exception=found.exception,
                message=found.message,
                frame=found.frame,
                anomalies=anomalies,
                written=changed,
                tables=tables,
            )
        )
        self._positions[worker] += 1

    def predecessors(self, attempt: Attempt) -> tuple[str, ...]:
        """Return what ran before an attempt on its worker, in order."""
        return tuple(
            one.test
            for one in self.attempts
            if one.worker == attempt.worker and one.position < attempt.position
        )

    def earlier(self, nodeid: str) -> list[Attempt]:
        """Return all attempts at a test that the history has; raises HistoryError."""
        if self._path is None:
            return [one for one in self.attempts if one.test == nodeid]
        self.write(now=True)
        return [] if self._history is None else list(self._history.attempts(test=nodeid))

    # ------------------------------------------------------------ writing

    def write(self, *, now: bool = False) -> None:
        """Write what has ended since the last time, if it is due."""
        moment = time.monotonic()
        if not self.pending or (not now and moment < self._next_write):
            return
        if self._commit is not None and self._commit.ready:
            # Now, not only at the end: who kills the run will want to know as well.
            self._ask_commit()
            self._attempt(self._write_all)
        else:
            self._attempt(lambda kept: kept.add(self.attempts[self._written :]))
        done = time.monotonic()
        # Larger batches cost less for each of their rows, so where much ends writing has to wait.
        rest = max(_INTERVAL, min(_LONGEST_INTERVAL, _REST * (done - moment)))
        self._next_write = done + rest

    def begin(self, golden: dict[str, str], ring: str) -> None:
        """Store the run, and begin to ask git about it."""
        if self._path is not None:
            self._commit = Commit(self._root)
        self.run = msgspec.structs.replace(
            self.run, golden=json.dumps(golden, sort_keys=True), ring=ring
        )
        self._attempt(lambda kept: kept.begin(self.run))

    def close(self, exit_status: int) -> None:
        """Write all that is left, and how the run ended; later calls do nothing."""
        if self._path is None:
            return
        self._ask_commit()
        self.run = msgspec.structs.replace(self.run, finished=time.time(), exit_status=exit_status)
        self._attempt(self._write_all)
        if self._history is not None:
            self._history.close()
        self._path = None

    def _ask_commit(self) -> None:
        if self._commit is not None:
            commit, branch, dirty = self._commit.read()
            self._commit = None
            self.run = msgspec.structs.replace(
                self.run, commit_id=commit, branch=branch, dirty=dirty
            )

    def _write_all(self, kept: History) -> None:
        kept.begin(self.run)
        kept.add(self.attempts[self._written :])

    def _attempt(self, write: Callable[[History], None]) -> None:
        """Write something; on a failure, once more, to a new file if this one is damaged."""
        if self._path is None:
            return
        count = len(self.attempts)
        try:
            if self._history is None:
                self._open_history()
            if self._history is not None:
                write(self._history)
                self._written = count
        except HistoryError as error:
            if "locked" in str(error) or "busy" in str(error):
                return  # another run writes; what is pending is written with the next
            self._give_up(error)
        except Exception as error:  # whatever it is, it ends no run
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._warn(f"the history of attempts is not kept: {type(error).__name__}: {error}")
        self._path = None

    def _open_history(self) -> None:
        if self._path is None:
            return
        # Other files of this folder are no business of git either.
        ignore = self._path.parent / ".gitignore"
        self._history, warning = history.open_or_set_aside(self._path)
        if not ignore.exists():
            try:
                ignore.write_text("*\n", "ascii")
            except OSError as error:
                self._warn(f"{ignore} can't be written: {error}")
        if warning:
            self._warn(warning)


def new_run(config: pytest.Config, workers: int) -> Run:
    """Return what is known of a run as it begins."""
    return Run(
        id=uuid.uuid4().hex,
        source="farm",
        started=time.time(),
        host=platform.node(),
        python=sys.version.split()[0],
        sqlite=sqlite3.sqlite_version,
        seed=_seed(config),
        workers=workers,
        arguments=json.dumps([os.fspath(one) for one in config.invocation_params.args]),
        directory=str(config.invocation_params.dir),
    )


def _seed(config: pytest.Config) -> str:
    """Return what seeds the tests' randomness, as far as that is anybody's business."""
    given = config.getoption("randomly_seed", None)
    parts = [] if given is None else [f"randomly {given}"]
    if hashing := os.environ.get("PYTHONHASHSEED"):
        parts.append(f"hash {hashing}")
    return ", ".join(parts)
