"""A pytest run with the plugin of the fixtures, in this process."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from snapfarm_worker.anomaly import AnomalyKind, AnomalyPolicy
from snapfarm_worker.databases import Databases
from snapfarm_worker.fixtures import DatabasePlugin
from snapfarm_worker.ring import ResetPolicy, Ring
from support.golden import golden

if TYPE_CHECKING:
    from typing import Self


class FixtureRun:
    """A pytest run of one file, in this process."""

    def __init__(self, folder: Path, anomalies: AnomalyPolicy | None = None) -> None:
        self.folder = folder
        self.databases = Databases(policy=ResetPolicy.TEST, sensors=True)
        self.plugin = DatabasePlugin(self.databases, anomalies or AnomalyPolicy())
        self.reports: list[pytest.TestReport] = []
        self._modules = set(sys.modules)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.databases.close()
        for name in set(sys.modules) - self._modules:
            if name.startswith("test_it"):
                del sys.modules[name]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the reports."""
        self.reports.append(report)

    def __call__(self, source: str, *, databases: tuple[str, ...] = ("default",)) -> Self:
        for name in databases:
            self.databases.add(Ring.restore(golden(name)))
        head = "import contextlib, gc, sqlite3, threading\nimport pytest\n"
        (self.folder / "test_it.py").write_text(head + textwrap.dedent(source), encoding="utf-8")
        (self.folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        arguments = [
            str(self.folder), "-q", "-p", "no:cacheprovider", "-p", "no:snapfarm", "-c",
            str(self.folder / "pytest.ini"), "--strict-markers", "--import-mode=importlib",
        ]  # fmt: skip
        pytest.main(arguments, plugins=[self.plugin, self])
        return self

    @property
    def outcomes(self) -> dict[str, str]:
        """Outcome by name of each test; an error in setup or teardown is "error"."""
        found: dict[str, str] = {}
        for report in self.reports:
            name = report.nodeid.rpartition("::")[2]
            if report.failed and report.when != "call":
                found[name] = "error"
            elif report.when == "call" or report.skipped:
                found.setdefault(name, report.outcome)
        return found

    @property
    def failed(self) -> list[str]:
        """Names of what did not pass."""
        return [name for name, outcome in self.outcomes.items() if outcome != "passed"]

    @property
    def found(self) -> list[tuple[str, AnomalyKind]]:
        """Test and kind of each anomaly."""
        return [(each.test.rpartition("::")[2], each.kind) for each in self.plugin.anomalies]

    def text(self, name: str) -> str:
        """Return all that the reports of one test say."""
        reports = [r for r in self.reports if r.nodeid.endswith(f"::{name}")]
        sections = "".join(f"{title}\n{text}\n" for r in reports for title, text in r.sections)
        return sections + "".join(r.longreprtext for r in reports)
