"""A pytest plugin that writes down what became of every test, phase by phase.

It is loaded with `-p real_outcomes --real-outcomes=FILE` into the run of a foreign suite, plain or
distributed: in a distributed run only the process that replays the reports writes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TextIO

import pytest


class OutcomeWriter:
    """Writes a line of JSON for each report: node id, phase, outcome."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write a phase of a test; an expected failure, or a surprising success, is one."""
        outcome: str = report.outcome
        if hasattr(report, "wasxfail"):
            outcome = "xfailed" if report.skipped else "xpassed"
        self._write(report.nodeid, str(report.when), outcome)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Write a collector that failed or was skipped; a passed one shows in its tests."""
        if not report.passed:
            self._write(report.nodeid, "collect", report.outcome)

    def _write(self, *words: str) -> None:
        self._file.write(json.dumps(words) + "\n")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names the file."""
    parser.addoption("--real-outcomes", metavar="FILE", help="write the outcomes of all tests here")


def pytest_configure(config: pytest.Config) -> None:
    """Begin to write, unless this session is a worker's."""
    path = config.getoption("--real-outcomes")
    if path is None or hasattr(config, "workerinput"):
        return
    # pytest closes the file when the session is unconfigured; what was written then is whole.
    file = Path(path).open("w", encoding="utf-8")  # noqa: SIM115  # open as long as the session
    config.add_cleanup(file.close)
    config.pluginmanager.register(OutcomeWriter(file), "real-outcomes")
