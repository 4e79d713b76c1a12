"""The reports of the last runs, kept on disk, and the history that they make.

    <cache folder>/runs/<run>/report.json

A run's name begins with the time, so names sort as runs do. Farms that run at the same time need no
lock: each writes a folder of its own, and whoever removes an old one may find it gone.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from snapfarm.errors import ReportError
from snapfarm.report import past, summary
from snapfarm.report.model import History, RunLine, RunReport, encoded, read_json, write_text

#: Runs that a history has at most.
LONGEST_HISTORY = 200


class _Attempt(msgspec.Struct):
    outcome: str = "passed"


class _Item(msgspec.Struct):
    """As much of an item as a history needs."""

    nodeid: str
    outcome: str
    crashed: bool = False
    attempts: list[_Attempt] = []

    @property
    def letter(self) -> str:
        if self.crashed:
            return "c"
        if self.outcome == "passed" and any(
            each.outcome in {"failed", "error", "crashed"} for each in self.attempts
        ):
            return "k"
        return summary.LETTERS.get(self.outcome, "p")


class _Run(msgspec.Struct):
    run: str = ""
    started: float = 0.0
    seconds: float = 0.0
    items: list[_Item] = []


def prepare(cache: Path, *parts: str) -> Path:
    """Return a folder of the cache, made and kept out of version control."""
    folder = cache.joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    ignore = cache / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", "ascii")
    return folder


def save(report: RunReport, cache: Path, keep: int) -> Path:
    """Keep a report, and remove the oldest ones beyond `keep`. Returns its file; raises OSError."""
    file = prepare(cache, "runs", report.run) / "report.json"
    write_text(encoded(report).decode(), file)
    for old in sorted(_folders(cache), reverse=True)[keep:]:
        shutil.rmtree(old, ignore_errors=True)
    return file


def names(cache: Path) -> list[str]:
    """Return the names of the runs that are kept, the newest first."""
    return sorted((folder.name for folder in _folders(cache)), reverse=True)


def load(cache: Path, run: str | None) -> RunReport:
    """Return a kept report: the last one, or that of the run whose name begins so.

    Raises ReportError.
    """
    known = names(cache)
    if not known:
        raise ReportError(f"{cache / 'runs'}: no run is kept there: run the suite with farm run")
    found = [name for name in known if name.startswith(run or "")]
    if not found:
        raise ReportError(f"no run {run!r} is kept; the last ones are: {', '.join(known[:5])}")
    if run and len(found) > 1 and run not in found:
        raise ReportError(f"several runs begin with {run!r}: {', '.join(found[:5])}")
    file = cache / "runs" / found[0] / "report.json"
    return read_file(file)


def read_file(file: Path) -> RunReport:
    """Return the report in a JSON file. Raises ReportError."""
    try:
        return read_json(file.read_bytes(), str(file))
    except OSError as error:
        raise ReportError(f"{file}: can't be read: {error.strerror or error}") from None


def with_history(report: RunReport, cache: Path, attempts: Path | None = None) -> RunReport:
    """Return a report with its history; one that has a history keeps it.

    It is made from the history of attempts, or, where that does not know the run, from the runs
    that are kept.
    """
    if report.history.runs or report.tasks is not None:
        return report
    if attempts is not None and (known := past.history(attempts, report, LONGEST_HISTORY)):
        return msgspec.structs.replace(report, history=known)
    earlier = []
    for name in names(cache)[:LONGEST_HISTORY]:
        if name >= report.run:
            continue
        try:
            data = (cache / "runs" / name / "report.json").read_bytes()
            earlier.append(msgspec.json.decode(data, type=_Run))
        except (OSError, msgspec.MsgspecError):
            continue  # removed, or damaged: it is no part of this report
    return msgspec.structs.replace(report, history=history_of(earlier[::-1], report))


def history_of(earlier: Sequence[_Run], report: RunReport) -> History:
    """Return the history that runs make, the oldest first, the report's own as the last."""
    own = _Run(
        report.run,
        report.started,
        report.seconds,
        [
            _Item(
                item.nodeid,
                item.outcome,
                item.crashed,
                [_Attempt(attempt.outcome) for attempt in item.attempts],
            )
            for item in report.items
        ],
    )
    runs = [*earlier, own]
    outcomes: dict[str, list[str]] = {}
    for number, run in enumerate(runs):
        for item in run.items:
            row = outcomes.setdefault(item.nodeid, ["-"] * len(runs))
            row[number] = item.letter
    return History(
        runs=tuple(_line(run) for run in runs),
        outcomes={nodeid: "".join(row) for nodeid, row in outcomes.items()},
    )


def _line(run: _Run) -> RunLine:
    letters = [item.letter for item in run.items]
    return RunLine(
        run=run.run,
        started=run.started,
        seconds=run.seconds,
        tests=len(letters),
        failed=letters.count("f") + letters.count("c"),
        flaky=letters.count("k"),
    )


def _folders(cache: Path) -> Iterable[Path]:
    try:
        return [each for each in (cache / "runs").iterdir() if (each / "report.json").exists()]
    except OSError:
        return []
