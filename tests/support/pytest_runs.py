"""Runs one suite in several ways (plain pytest, pytest-xdist, a farm) and tells what each showed.

    runs = Runs(tmp_path, {"test_a.py": "def test_a(): pass"})
    plain, farm = runs.compare("-q")           # both at the same time
    assert farm.shown == plain.shown

Two things that pytest shows differ for good and are evened out here: the order of results, and
times.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import cast
from xml.etree import ElementTree as ET

import msgspec

from support.suite import LIMIT, clean_environment

_PYTEST = (sys.executable, "-m", "pytest")

#: The ways to run a suite. Without xdist unless it is named: most users of a farm have none.
WAYS: dict[str, tuple[str, ...]] = {
    "plain": (*_PYTEST, "-p", "no:xdist"),
    "xdist": (*_PYTEST, "-n", "2"),
    "farm": (*_PYTEST, "-p", "no:xdist", "--farm", "2"),
    "farm beside xdist": (*_PYTEST, "--farm", "2"),
    "command": (sys.executable, "-m", "snapfarm.cli", "run", "-n", "2", "-p", "no:xdist"),
}

#: From Python 3.12 on a fork beside threads is worth a warning, and what is printed is compared.
_FORKS = sys.version_info < (3, 12)

_SUMMARY = re.compile(r"^=* ?((?:\d+ [a-z ]+(?:, |(?= in )))+|no tests ran)(?: in .*)?=*$")
_SHORT = re.compile(r"(FAILED|ERROR|SKIPPED|XFAIL|XPASS|PASSED|SUB[A-Z]+)(\[| |\()")


class Case(msgspec.Struct, frozen=True):
    """A test case as JUnit XML has it: its outcomes with their messages, and its properties."""

    name: str
    results: tuple[tuple[str, str], ...]
    properties: tuple[tuple[str, str], ...]


class PytestRun(msgspec.Struct, frozen=True, kw_only=True):
    """What a finished run showed."""

    exit_code: int
    stdout: str
    stderr: str
    cases: Counter[Case]
    suite_properties: tuple[tuple[str, str], ...]
    report: dict[str, object] | None
    #: Lines that tests wrote to the file named by the variable TRACE.
    trace: tuple[str, ...]

    @property
    def text(self) -> str:
        """All output."""
        return self.stdout + self.stderr

    @property
    def counts(self) -> str:
        """The counts in pytest's last line, as "1 failed, 2 passed"."""
        for line in reversed(self.stdout.splitlines()):
            if found := _SUMMARY.match(line):
                return found[1].strip()
        return ""

    @property
    def short(self) -> Counter[str]:
        """The lines of the short test summary."""
        _, _, summary = self.stdout.partition(" short test summary info ")
        return Counter(line for line in summary.splitlines() if _SHORT.match(line))

    @property
    def shown(self) -> dict[str, object]:
        """All in which two runs of a suite must be equal, however it was run."""
        return {
            "exit code": self.exit_code,
            "counts": self.counts,
            "short summary": self.short,
            "cases": self.cases,
            "suite properties": self.suite_properties,
        }

    @property
    def outcomes(self) -> dict[str, str]:
        """Outcomes by node id, from the JSON report."""
        assert self.report is not None, self.text
        items = cast("list[dict[str, str]]", self.report["items"])
        assert len({item["nodeid"] for item in items}) == len(items), items
        return {item["nodeid"]: item["outcome"] for item in items}


class Runs:
    """A suite's folder, and runs of it."""

    def __init__(self, root: Path, files: Mapping[str, str] | None = None) -> None:
        self.root = root
        self._count = 0
        self.write({"pytest.ini": "[pytest]\n"} | dict(files or {}))

    def write(self, files: Mapping[str, str]) -> None:
        """Write files by their path relative to the suite's folder."""
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")

    def run(
        self,
        *args: str,
        way: str = "farm",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> PytestRun:
        """Run the suite in one way, and wait for its end."""
        return self._finish(*self._start(way, args, env, cwd))

    def compare(
        self, *args: str, ways: tuple[str, ...] = ("plain", "farm"), env: Mapping[str, str] = {}
    ) -> tuple[PytestRun, ...]:
        """Run the suite in several ways at the same time."""
        started = [self._start(way, args, env, None) for way in ways]
        return tuple(self._finish(*run) for run in started)

    def _start(
        self, way: str, args: tuple[str, ...], env: Mapping[str, str] | None, cwd: Path | None
    ) -> tuple[subprocess.Popen[bytes], Path]:
        self._count += 1
        results = self.root.parent / f"{self.root.name}-results-{self._count}"
        results.mkdir()
        command = [
            *WAYS[way],
            # A cache for each way; what is to be remembered uses one run after another of one way.
            f"--override-ini=cache_dir={self.root.parent / ('cache-' + way.replace(' ', '-'))}",
            f"--junitxml={results / 'junit.xml'}",
            f"--farm-report={results / 'report.json'}",
            *args,
        ]
        with (results / "stdout").open("wb") as stdout, (results / "stderr").open("wb") as stderr:
            process = subprocess.Popen(
                command,
                cwd=cwd or self.root,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env={
                    **clean_environment(),
                    "TRACE": str(results / "trace"),
                    # As in `support.suite`: half the price. The command's workers are spawned.
                    **({} if way == "command" or not _FORKS else {"FARM_START_METHOD": "fork"}),
                    **(env or {}),
                },
            )
        return process, results

    def _finish(self, process: subprocess.Popen[bytes], results: Path) -> PytestRun:
        try:
            exit_code = process.wait(LIMIT)
        finally:
            process.kill()
            process.wait()
        cases, properties = _junit(results / "junit.xml")
        report = results / "report.json"
        trace = results / "trace"
        return PytestRun(
            exit_code=exit_code,
            stdout=(results / "stdout").read_text("utf-8", "replace"),
            stderr=(results / "stderr").read_text("utf-8", "replace"),
            cases=cases,
            suite_properties=properties,
            report=json.loads(report.read_bytes()) if report.exists() else None,
            trace=tuple(trace.read_text().splitlines()) if trace.exists() else (),
        )


def _junit(path: Path) -> tuple[Counter[Case], tuple[tuple[str, str], ...]]:
    if not path.exists():
        return Counter(), ()
    root = ET.parse(path).getroot()
    cases: Counter[Case] = Counter()
    for case in root.iter("testcase"):
        assert float(case.get("time", "-1")) >= 0
        cases[
            Case(
                name=f"{case.get('classname')}::{case.get('name')}",
                results=tuple(
                    (child.tag, child.get("message", ""))
                    for child in case
                    if child.tag in {"failure", "error", "skipped"}
                ),
                properties=_properties(case),
            )
        ] += 1
    suite = root.find("testsuite")
    return cases, () if suite is None else _properties(suite)


def _properties(element: ET.Element) -> tuple[tuple[str, str], ...]:
    return tuple(
        (found.get("name", ""), found.get("value", ""))
        for found in element.iterfind("./properties/property")
    )


def trace(line: str) -> str:
    """Return code of a statement that writes a line to the run's trace, with the worker's id."""
    return (
        "print(__import__('os').environ.get('PYTEST_XDIST_WORKER', 'master'), "
        f"{line}, file=open(__import__('os').environ['TRACE'], 'a'))"
    )
