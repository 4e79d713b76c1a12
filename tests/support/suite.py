"""Runs suites as a user would: files in a folder, a real process, a time limit, nothing left over.

    suite = Suite(tmp_path)
    suite.write({"test_a.py": "def test_a(): pass"})
    run = suite.run()                  # python -m pytest --farm 2
    assert run.outcomes == {"test_a.py::test_a": "passed"}

Every run has a temporary directory of its own and a mark in its environment, which all processes
that it starts inherit: so what it leaves behind, files or processes, is known and is an error.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar, cast
from xml.etree import ElementTree as ET

import msgspec

#: Seconds after which a run is taken for stuck. Only a hang ever gets so far.
LIMIT = 90.0
#: Seconds within which everything must be gone once a coordinator is.
GONE_WITHIN = 5.0

_MARK = "SUITE_RUN_MARK"

_T = TypeVar("_T")


def wait_for(what: str, state: Callable[[], _T], limit: float = LIMIT) -> _T:
    """Return what `state` returns once that is true; fail after `limit` seconds."""
    deadline = time.monotonic() + limit
    while not (found := state()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {limit:g} s")
        time.sleep(0.01)
    return found


#: What `tempfile` writes to see whether it may; who is killed just then leaves it.
_PROBE = re.compile(r"[a-z0-9_]{8}")


class SuiteRun(msgspec.Struct, frozen=True, kw_only=True):
    """What a finished run showed: to its user, to pytest's JUnit writer, and in the JSON report."""

    exit_code: int
    output: str
    report: dict[str, object] | None
    #: `(test, outcome)` as pytest's own JUnit writer saw them; the test is named `file::name`.
    junit: tuple[tuple[str, str], ...]

    @property
    def items(self) -> list[dict[str, object]]:
        """The items of the JSON report."""
        assert self.report is not None, f"no JSON report was written:\n{self.output}"
        return cast("list[dict[str, object]]", self.report["items"])

    @property
    def outcomes(self) -> dict[str, str]:
        """The outcome of each item by node id, "crashed" if it killed its worker.

        No item may have more than one, and JUnit must have seen as many.
        """
        found = [
            (str(item["nodeid"]), "crashed" if item["crashed"] else str(item["outcome"]))
            for item in self.items
        ]
        twice = [node for node, count in Counter(node for node, _ in found).items() if count > 1]
        assert not twice, f"more than one outcome: {twice}\n{self.output}"
        # A collector that failed is in JUnit too, without a class, and so is an internal error.
        others = ("::", "pytest::internal")
        items = [case for case in self.junit if not case[0].startswith(others)]
        assert len(items) == len(found), f"JUnit: {self.junit}\nreport: {found}"
        return dict(found)

    @property
    def counts(self) -> dict[str, int]:
        """How many items had each outcome."""
        return dict(Counter(self.outcomes.values()))

    @property
    def unrun(self) -> list[str]:
        """Node ids that the report names as not run."""
        assert self.report is not None
        return cast("list[str]", self.report["unrun"])

    def text_of(self, title: str) -> str:
        """Return the output between the section line with this title and the next one."""
        lines = self.output.splitlines()
        for start, line in enumerate(lines):
            if title in line and line.startswith(("=", "_", "-")):
                rest = lines[start + 1 :]
                end = next((i for i, text in enumerate(rest) if text.startswith("===")), len(rest))
                return "\n".join(rest[:end])
        raise AssertionError(f"no section {title!r} in:\n{self.output}")


class RunningSuite:
    """A run that has been started; `finish()` ends it, also when a test fails meanwhile."""

    def __init__(self, command: Sequence[str], root: Path, env: Mapping[str, str]) -> None:
        self.root = root
        self._mark = uuid.uuid4().hex
        # Short, since the path of a socket has a limit; the farm's own limit is tested elsewhere.
        self.tmp = Path(env.get("TMPDIR") or tempfile.mkdtemp(prefix="st-", dir="/tmp"))
        self._results = root / f".results-{self._mark[:8]}"
        self._results.mkdir()
        self._output = self._results / "output"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [part.replace("{results}", str(self._results)) for part in command],
                cwd=root,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={"TMPDIR": str(self.tmp), **env, _MARK: self._mark},
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._output.read_text("utf-8", "replace")

    def processes(self) -> dict[int, str]:
        """Every living process of this run, also one that left its session: pid to command."""
        found = {}
        wanted = f"{_MARK}={self._mark}".encode()
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal():
                with contextlib.suppress(OSError):
                    if wanted in (folder / "environ").read_bytes().split(b"\0"):
                        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                        found[int(folder.name)] = command.decode("utf-8", "replace")
        return found

    def run_folders(self) -> list[Path]:
        """The private folders that farms have made in this run's temporary directory."""
        return [
            path
            for path in self.tmp.iterdir()
            if not path.name.startswith("pytest-of-") and not _PROBE.fullmatch(path.name)
        ]

    def wait(self, limit: float = LIMIT) -> SuiteRun:
        """Wait for its end, require that nothing is left of it, and return what it showed."""
        try:
            exit_code = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"the run did not end within {limit:g} s: {self.processes()}\n{self.output}"
            ) from None
        self.assert_gone()
        report = self._results / "report.json"
        return SuiteRun(
            exit_code=exit_code,
            output=self.output,
            report=json.loads(report.read_bytes()) if report.exists() else None,
            junit=tuple(_junit(self._results / "junit.xml")),
        )

    def assert_gone(self, within: float = GONE_WITHIN) -> None:
        """Require that no process and no file of the run is left after so many seconds."""
        deadline = time.monotonic() + within
        while (processes := self.processes()) or (folders := self.run_folders()):
            assert time.monotonic() < deadline, (
                f"left over after {within:g} s: {processes} "
                f"{'' if processes else folders}\n{self.output}"
            )
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the coordinator alone."""
        self.process.send_signal(number)

    def wait_for_file(self, name: str, count: int = 1) -> list[str]:
        """Wait until a test has written so many lines to a file of the suite; return them."""

        def lines() -> list[str] | None:
            if self.process.poll() is not None:
                raise AssertionError(f"the run ended without {name}:\n{self.output}")
            path = self.root / name
            found = path.read_text().splitlines() if path.exists() else []
            return found if len(found) >= count else None

        return cast("list[str]", wait_for(f"{count} lines in {name}", lines))

    def finish(self) -> None:
        """Kill what is left, and remove the temporary directory."""
        for pid in [self.process.pid, *self.processes()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.tmp, ignore_errors=True)


class Suite:
    """A folder with tests, and the ways to run it.

    `start` is the start method of workers. Users get spawn; fork costs half as much, and most of
    what workers do and suffer is the same.
    """

    def __init__(
        self,
        root: Path,
        files: Mapping[str, str] | None = None,
        *,
        start: str = "fork",
        settings: Mapping[str, str] = {"pytest.ini": "[pytest]\n"},
    ) -> None:
        """`settings` are files that are written first: they keep the settings around it out."""
        self.root = root
        self._start = start
        self.write({**settings, **(files or {})})

    def write(self, files: Mapping[str, str]) -> None:
        """Write files by their path relative to the suite's folder."""
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")

    def run(
        self,
        *args: str,
        workers: int | None = 2,
        env: Mapping[str, str] | None = None,
        python_path: Path | None = None,
        limit: float = LIMIT,
    ) -> SuiteRun:
        """Run pytest with a farm of so many workers (None: plain pytest); wait for its end.

        `python_path` is put before all others: modules that the interpreter imports by itself.
        """
        env = dict(env or {})
        if python_path is not None:
            others = os.environ.get("PYTHONPATH")
            env["PYTHONPATH"] = os.pathsep.join([str(python_path), *([others] if others else [])])
        with self.started(*args, workers=workers, env=env) as running:
            return running.wait(limit)

    def run_farm_command(self, *args: str, workers: int = 2) -> SuiteRun:
        """Run `farm run`; wait for its end."""
        command = [sys.executable, "-m", "snapfarm.cli", "run", "-n", str(workers)]
        command += ["--farm-report", "{results}/report.json", "--junitxml={results}/junit.xml"]
        with self.started_command([*command, "-p", "no:cacheprovider", *args]) as running:
            return running.wait()

    @contextlib.contextmanager
    def started(
        self, *args: str, workers: int | None = 2, env: Mapping[str, str] | None = None
    ) -> Iterator[RunningSuite]:
        """Start pytest with a farm, to do something to it while it runs."""
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
        if workers is not None:
            command += ["--farm", str(workers), "--farm-report={results}/report.json"]
        command += ["--junitxml={results}/junit.xml", *args]
        with self.started_command(command, env=env) as running:
            yield running

    @contextlib.contextmanager
    def started_command(
        self, command: Sequence[str], *, env: Mapping[str, str] | None = None
    ) -> Iterator[RunningSuite]:
        """Start any command in the suite's folder."""
        env = {"FARM_START_METHOD": self._start, **(env or {})}
        running = RunningSuite(command, self.root, clean_environment() | env)
        try:
            yield running
        finally:
            running.finish()


def clean_environment(*more: str) -> dict[str, str]:
    """Return this process's environment without what changes what a run does or shows.

    That is what pytest, a farm or a cache switch put there, and the marks of a CI job, in which
    pytest does not shorten its lines; also variables that begin with one of `more`.
    """
    foreign = ("PYTEST", "FARM_", "SUITE_RUN", "TMPDIR", "PYTHONDONTWRITEBYTECODE", "COLUMNS")
    ci = {"CI", "BUILD_NUMBER"}
    return {
        name: value
        for name, value in os.environ.items()
        if name not in ci and not name.startswith((*foreign, *more))
    }


def _junit(path: Path) -> Iterator[tuple[str, str]]:
    if not path.exists():
        return
    for case in ET.parse(path).getroot().iter("testcase"):
        outcome = "passed"
        for kind, name in (("skipped", "skipped"), ("failure", "failed"), ("error", "error")):
            if case.find(kind) is not None:
                outcome = name
        yield f"{case.get('classname')}::{case.get('name')}", outcome
