"""Runs a project's suite once, by one runner.

Each run has a folder of its own, with a copy of pytest's cache, the temporary files of tests and
the farm's report. So no run sees what another one did, and the project's own cache stays as it was.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import msgspec

from snapfarm.compare.processes import measure
from snapfarm.compare.record import (
    RECORD,
    REPORT,
    Order,
    ReportLine,
    Runner,
    SessionLine,
    folded,
    read,
)
from snapfarm.compare.verdict import RunOutcome
from snapfarm.report.model import RunReport

#: Variables that a pytest run or a farm around us has set, and ours would take for their own.
_FOREIGN = ("PYTEST_XDIST_", "PYTEST_CURRENT_TEST", "PYTEST_VERSION", "FARM_URI", "FARM_SQLALCHEMY")


class Suite(msgspec.Struct, frozen=True, kw_only=True):
    """What is run: pytest's arguments, in a folder, and how the runs of it are to be."""

    folder: Path
    arguments: tuple[str, ...]
    workers: int
    dist: str | None = None
    shuffle: str | None = None


class SuiteRun(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one run."""

    outcome: RunOutcome
    session: SessionLine | None
    reports: tuple[ReportLine, ...]
    output: str
    #: Seconds; memory in bytes, 0 where it could not be measured.
    wall: float
    cpu: float
    memory: int
    #: When it was started, in seconds since the epoch.
    began: float
    #: Of the farm only.
    farm: RunReport | None = None


def has_xdist() -> bool:
    """Whether pytest-xdist is installed beside us."""
    return importlib.util.find_spec("xdist") is not None


def command(runner: Runner | None, workers: int) -> list[str]:
    """Return the words that start pytest, as the project's own command would."""
    script = Path(sysconfig.get_path("scripts"), "pytest")
    # `python -m pytest` has the working directory on its path, `pytest` and `farm run` have not.
    start = [str(script)] if script.is_file() else ["-m", "pytest"]
    words = [sys.executable, *start]
    if runner == "farm":
        words += ["-p", "snapfarm", f"--farm={workers}"]
    elif runner == "xdist":
        words += ["-p", "xdist"]
    return words


def collect(suite: Suite, scratch: Path) -> SuiteRun:
    """Let pytest collect the suite, and run nothing: what it imports is compiled then."""
    return _run(suite, None, scratch, ["--collect-only", "-q"], memory=False)


def run(suite: Suite, runner: Runner, scratch: Path, *, memory: bool = True) -> SuiteRun:
    """Run the suite once, in a new folder `scratch`, which is removed."""
    return _run(suite, runner, scratch, [], memory=memory)


def _run(
    suite: Suite, runner: Runner | None, scratch: Path, more: Sequence[str], *, memory: bool
) -> SuiteRun:
    scratch.mkdir()
    order = scratch / "order"
    told = Order(
        runner=runner,
        workers=suite.workers,
        dist=suite.dist,
        shuffle=suite.shuffle,
        folder=str(scratch),
    )
    order.write_bytes(msgspec.json.encode(told))
    words = [
        *command(runner, suite.workers),
        *("-p", "snapfarm.compare.plugin", f"--farm-compare={order}"),
        *suite.arguments,
        *more,
    ]
    if runner == "farm" and suite.dist is not None:
        words.append(f"--farm-dist={suite.dist}")
    measured = measure(
        words,
        suite.folder,
        _environment(),
        memory=memory,
        output=scratch / "output",
    )
    session, reports = read(scratch / RECORD)
    found = SuiteRun(
        outcome=RunOutcome(exit_status=measured.status, tests=folded(reports)),
        session=session,
        reports=tuple(reports),
        output=measured.output,
        wall=measured.wall,
        cpu=measured.cpu,
        memory=measured.memory,
        began=measured.began,
        farm=_farm_report(scratch / REPORT) if runner == "farm" else None,
    )
    shutil.rmtree(scratch, ignore_errors=True)
    return found


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}


def _farm_report(path: Path) -> RunReport | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=RunReport)
    except (OSError, msgspec.DecodeError):
        return None  # it got no so far as to write one
