"""The pytest plugin of `farm compare`: sets who runs the tests, and writes down what comes of them.

It is loaded with `-p snapfarm.compare.plugin --farm-compare FILE`, in workers too, where it writes
nothing. Options of pytest-xdist and of the farm that stand in a project's `addopts` are overruled
here rather than on the command line, where an option of a plugin that is not there is an error.
PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec
import pytest

from snapfarm.compare.record import (
    COLLECT,
    RECORD,
    REPORT,
    Order,
    ReportLine,
    SessionLine,
    encode,
)
from snapfarm_worker.texts import readable

if TYPE_CHECKING:
    import argparse

_order_key: pytest.StashKey[Order] = pytest.StashKey()

#: Characters of a reason that are kept.
_REASON = 300


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names the order."""
    parser.getgroup("farm").addoption(
        "--farm-compare", metavar="FILE", help="what this run of a comparison is told"
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    """Set who runs the tests before the plugins that act on it have a look."""
    known = early_config.known_args_namespace
    order = msgspec.json.decode(Path(known.farm_compare).read_bytes(), type=Order)
    early_config.stash[_order_key] = order
    _choose_runner(known, order)
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, object, object]:
    """Set it again in the options as they were parsed at last; keep the run's files apart."""
    order = config.stash[_order_key]
    _choose_runner(config.option, order)
    if not _is_worker() and config.option.basetemp is None:
        # pytest keeps the folders of three runs: those of the user's last ones shall stay.
        config.option.basetemp = str(Path(order.folder, "tmp"))
    _use_cache(config, Path(order.folder, "cache"))
    return (yield)


def _is_worker() -> bool:
    """Whether this is a worker, also while its session, being young, does not show it yet."""
    return "PYTEST_XDIST_WORKER" in os.environ


def _choose_runner(options: argparse.Namespace, order: Order) -> None:
    """Overrule what the project says of workers; only what is there is set."""
    given = vars(options)
    if order.runner != "farm" and "farm_workers" in given:
        # In workers of xdist too: each would be a farm, since they read the project's options.
        given["farm_workers"] = None
    if _is_worker():
        return
    if "farm_report" in given:
        given["farm_report"] = str(Path(order.folder, REPORT))
    if "numprocesses" in given:
        given["tx"] = []
        if order.runner == "xdist":
            given["numprocesses"] = order.workers
            given["dist"] = order.dist or given["dist"]
        else:
            # Zero, unlike None, is to xdist "in no case"; the farm refuses both in one run.
            given["numprocesses"] = None if order.runner == "farm" else 0


def _use_cache(config: pytest.Config, folder: Path) -> None:
    """Let pytest read and write a copy of its cache: all runs find the same, and leave it so."""
    if not config.pluginmanager.has_plugin("cacheprovider"):
        return
    original = config.rootpath / config.getini("cache_dir")
    if not folder.exists():
        if original.is_dir():
            shutil.copytree(original, folder)
        else:
            folder.mkdir()
    # An option `-o cache_dir=` would do it too, and hide where the original is.
    config._inicache["cache_dir"] = str(folder)  # noqa: SLF001  # see above


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Shuffle the tests, each time alike; pytest then brings together what its fixtures ask for."""
    seed = config.stash[_order_key].shuffle
    if seed is not None:
        items.sort(key=lambda item: hashlib.sha256(f"{seed}\0{item.nodeid}".encode()).digest())


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Begin to write, unless this session is a worker's."""
    if _is_worker():
        return
    path = Path(config.stash[_order_key].folder, RECORD)
    # pytest closes the file when the session is unconfigured.
    file = path.open("wb")
    config.add_cleanup(file.close)
    config.pluginmanager.register(Recorder(config, file), "farm-compare-recorder")


class Recorder:
    """Writes a line for each report that this session sees."""

    def __init__(self, config: pytest.Config, file: BinaryIO) -> None:
        self._config = config
        self._file = file
        maxfail: int = config.getoption("maxfail", None) or 0
        self._write(SessionLine(readable(str(config.rootpath)), maxfail))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write a phase of a test, in the category that pytest and its plugins count it in."""
        status = self._config.hook.pytest_report_teststatus(report=report, config=self._config)
        category = str(status[0]) if status else report.outcome
        outcome: str = report.outcome
        if hasattr(report, "wasxfail"):
            outcome = "xfailed" if report.skipped else "xpassed"
        nodeid = readable(report.nodeid)
        self._write(ReportLine(nodeid, str(report.when), outcome, category, _reason(report)))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Write a collector that failed or was skipped; a passed one shows in its tests."""
        if not report.passed:
            category = "error" if report.failed else "skipped"
            nodeid = readable(report.nodeid or ".")
            self._write(ReportLine(nodeid, COLLECT, report.outcome, category, _reason(report)))

    def _write(self, line: SessionLine | ReportLine) -> None:
        self._file.write(encode(line))


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return the first line of what a report says of a failure; of a skip, its reason."""
    if report.passed:
        return ""
    told = report.longrepr
    crash = getattr(told, "reprcrash", None)
    if crash is not None:
        text = str(crash.message)
    elif isinstance(told, tuple):
        text = str(told[2])
    else:
        # A usual traceback of text has its error at the end, pytest's own words at the beginning.
        lines = [line for line in str(told or "").splitlines() if line.startswith("E ")]
        text = lines[0].removeprefix("E ").strip() if lines else str(told or "")
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return readable(first[:_REASON])
