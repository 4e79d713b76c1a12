"""What a run of a comparison is told, and what it writes down.

The order is a file of JSON that the option `--farm-compare` names. The record is a file of JSON
lines: one of the session, then one for each report, in the order in which pytest saw them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

#: Who runs the tests.
Runner: TypeAlias = Literal["plain", "xdist", "farm"]
RUNNERS: tuple[Runner, ...] = ("plain", "xdist", "farm")

#: Files of a run's folder.
RECORD, REPORT = "record", "report"

#: The phase of a collector's report, which is no test's.
COLLECT = "collect"
#: How often a test was run again differs from run to run; that it was is what counts.
_ONCE = frozenset({"rerun"})


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of the suite is told. The runner is None where the suite is only collected."""

    runner: Runner | None
    workers: int
    #: `--dist`; the suite's own where it is None.
    dist: str | None = None
    #: The seed by which tests are shuffled, if they are.
    shuffle: str | None = None
    #: The run's own folder: there go the record, the farm's report, pytest's cache and `tmp_path`.
    folder: str


class SessionLine(msgspec.Struct, frozen=True, tag="session"):
    """The session of a run: pytest's rootdir, and after how many failures it stops (0: never)."""

    rootdir: str
    maxfail: int


class ReportLine(msgspec.Struct, frozen=True, tag="report"):
    """One report: pytest's outcome, and the category that it counts in.

    A setup or teardown that passes counts in none. `reason` is the first line of what it says.
    """

    nodeid: str
    when: str
    outcome: str
    category: str
    reason: str = ""


class ItemOutcome(msgspec.Struct, frozen=True):
    """What became of one test in one run, all its phases folded, and the first reason for it."""

    outcome: str
    reason: str = ""


#: Tests by node id; collectors that failed or were skipped are among them.
Tests: TypeAlias = dict[str, ItemOutcome]

_decoder = msgspec.json.Decoder(SessionLine | ReportLine)
_encoder = msgspec.json.Encoder()


def encode(line: SessionLine | ReportLine) -> bytes:
    """Return a line of a record."""
    return _encoder.encode(line) + b"\n"


def read(path: Path) -> tuple[SessionLine | None, list[ReportLine]]:
    """Return what a run has written; no session where it did not get so far.

    The last line of a run that was killed may be torn: it is left out.
    """
    session, reports = None, []
    whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
    for text in whole.splitlines():
        line = _decoder.decode(text)
        if isinstance(line, SessionLine):
            session = line
        else:
            reports.append(line)
    return session, reports


def folded(reports: Iterable[ReportLine]) -> Tests:
    """Return the outcome of each test: the categories of its reports, as pytest counts them.

    Such as "passed", "failed", "error, passed" for an error in teardown. One that occurs several
    times, because the test was collected twice say, has its number before it.
    """
    counts: dict[str, Counter[str]] = {}
    reasons: dict[str, str] = {}
    for report in reports:
        found = counts.setdefault(report.nodeid, Counter())
        if report.category:
            found[report.category] += 1
            if report.reason:
                reasons.setdefault(report.nodeid, report.reason)
        if report.when == COLLECT:
            # Each worker may report it.
            found[report.category] = 1
    return {
        nodeid: ItemOutcome(_outcome(found), reasons.get(nodeid, ""))
        for nodeid, found in counts.items()
        if found
    }


def _outcome(found: Counter[str]) -> str:
    return ", ".join(
        category if count == 1 or category in _ONCE else f"{count} {category}"
        for category, count in sorted(found.items())
    )
