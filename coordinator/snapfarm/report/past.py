"""What earlier runs say, read from the history of attempts without writing to it.

The history is optional: a file that is not there, or can't be read, has nothing to say.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import msgspec

from snapfarm.flakes.signature import CRASH
from snapfarm.report import summary
from snapfarm.report.model import History, ItemLine, PastLine, RunLine, RunReport

#: Runs whose durations are averaged.
_RECENT = 3

_DURATIONS = """
WITH recent AS (
    SELECT id FROM run WHERE source = 'farm' AND finished IS NOT NULL
    ORDER BY started DESC LIMIT ?
)
SELECT test, avg(seconds)
FROM recent JOIN attempt ON attempt.id >= recent.id || '-' AND attempt.id < recent.id || '.'
WHERE outcome = 'passed' GROUP BY test
"""

_OWN = "SELECT id, started FROM run WHERE id >= ? AND id < ?"
_RUNS = """
SELECT id, started, finished, commit_id FROM run
WHERE source IN ('farm', 'junit') AND started <= ? AND id <> ?
ORDER BY started DESC, id DESC LIMIT ?
"""
#: How many tests a run had, and those that failed, in one pass: its attempts lie side by side.
_RUN = """
SELECT count(*) FILTER (WHERE attempt = 1),
       group_concat(CASE WHEN outcome = 'failed' THEN test END, char(0))
FROM attempt WHERE id >= ? AND id < ?
"""
_ATTEMPTS = """
SELECT run, outcome, exception, seconds, {tables} FROM attempt
WHERE test = ? ORDER BY ended, attempt
"""
#: The first version of a history that knows which tables a test has written to.
_WITH_TABLES = 2

#: Slow tests of which the durations in earlier runs are wanted.
SLOWEST = 15
_TROUBLE = frozenset({"crashed", "failed", "flaky"})


def durations(history: Path) -> dict[str, float]:
    """Return how many seconds tests took on average in the last runs, by node id."""
    return {str(test): float(seconds) for test, seconds in _rows(history, _DURATIONS, (_RECENT,))}


def history(attempts: Path, report: RunReport, longest: int) -> History | None:
    """Return the history of a run's tests, this run as the last; None where it is not known.

    Of tests that have never failed there is only what the slowest took: all that passed, ten
    thousand tests in two hundred runs, would be read for nothing.
    """
    if not report.history_run or not attempts.exists():
        return None
    try:
        with contextlib.closing(_opened(attempts)) as conn:
            return _Reader(conn, report).history(longest)
    except sqlite3.Error:
        return None


class _Reader:
    """Reads what the history of attempts knows of a report's tests."""

    def __init__(self, conn: sqlite3.Connection, report: RunReport) -> None:
        self._conn = conn
        self._report = report
        #: This run's id.
        self._own = ""
        #: The earlier runs, the oldest first, and the place of each.
        self._runs: list[tuple[str, RunLine]] = []
        self._places: dict[str, int] = {}
        (version,) = conn.execute("PRAGMA user_version").fetchone()
        tables = "tables" if version >= _WITH_TABLES else "''"
        self._attempts = _ATTEMPTS.format(tables=tables)
        #: Tests that have failed in any of them.
        self._failed: set[str] = set()

    def history(self, longest: int) -> History | None:
        # The beginning of an id is as good as all of it, and "g" comes after all digits.
        name = self._report.history_run
        found = self._conn.execute(_OWN, (name, f"{name}g")).fetchone()
        if found is None:
            return None
        self._own, started = str(found[0]), float(found[1])
        self._read_runs(started, longest - 1)
        here = {item.nodeid: item for item in self._report.items}
        troubled = self._failed | {
            name for name, item in here.items() if summary.state(item) in _TROUBLE
        }
        slow = {item.nodeid for item in summary.slowest(self._report, SLOWEST)}
        outcomes, tests = {}, {}
        failed, flaky = [0] * len(self._runs), [0] * len(self._runs)
        for test in sorted(troubled | slow):
            letters, line = self._past(test, here.get(test))
            for place, letter in enumerate(letters[:-1]):
                failed[place] += letter in "fc"
                flaky[place] += letter == "k"
            if test in here:
                tests[test] = line
                outcomes[test] = letters
        runs = [
            msgspec.structs.replace(line, failed=failed[place], flaky=flaky[place])
            for place, (_, line) in enumerate(self._runs)
        ]
        return History(
            runs=(*runs, self._own_line()), outcomes=outcomes, tests=tests, only_troubled=True
        )

    def _read_runs(self, started: float, longest: int) -> None:
        rows = self._conn.execute(_RUNS, (started, self._own, longest)).fetchall()
        for run, began, finished, commit in reversed(rows):
            count, failed = self._conn.execute(_RUN, (f"{run}-", f"{run}.")).fetchone()
            self._failed.update(failed.split("\0") if failed else ())
            line = RunLine(
                run=str(run)[:8],
                started=began,
                seconds=0.0 if finished is None else finished - began,
                tests=count,
                commit=str(commit)[:10],
            )
            self._places[str(run)] = len(self._runs)
            self._runs.append((str(run), line))

    def _past(self, test: str, item: ItemLine | None) -> tuple[str, PastLine]:
        """Return the letters of a test, and what more is known of it."""
        count = len(self._runs)
        outcomes: list[list[tuple[str, str]]] = [[] for _ in range(count)]
        spent: list[list[float]] = [[] for _ in range(count)]
        tables: set[str] = set()
        for run, outcome, exception, seconds, wrote in self._conn.execute(self._attempts, (test,)):
            place = self._places.get(run)
            if place is not None or run == self._own:
                tables.update(wrote.splitlines())
            if place is not None:
                outcomes[place].append((outcome, exception))
                spent[place].append(seconds)
        letters = "".join(map(_letter, outcomes)) + (
            "-" if item is None else summary.LETTERS[summary.state(item)]
        )
        counted = [outcome for run in outcomes for outcome, _ in run if outcome != "skipped"]
        means = tuple(round(sum(one) / len(one), 4) if one else None for one in spent)
        now = () if item is None else item.attempts
        tried = len(now) or int(item is not None and item.outcome != "skipped")
        bad = sum(one.bad for one in now)
        return letters, PastLine(
            failures=counted.count("failed") + bad,
            attempts=len(counted) + tried,
            tables=tuple(sorted(tables)),
            seconds=(*means, None if item is None else round(item.seconds, 4)),
        )

    def _own_line(self) -> RunLine:
        report, counts = self._report, summary.counts(self._report)
        return RunLine(
            run=report.history_run,
            started=report.started,
            seconds=report.seconds,
            tests=len(report.items),
            failed=counts["failed"] + counts["crashed"],
            flaky=counts["flaky"],
        )


def _letter(attempts: list[tuple[str, str]]) -> str:
    """Return how a run of a test is written, from its attempts in order."""
    if not attempts:
        return "-"
    outcomes = [outcome for outcome, _ in attempts]
    if "failed" not in outcomes:
        return "s" if set(outcomes) == {"skipped"} else "p"
    last, exception = attempts[-1]
    if last == "passed":
        return "k"
    return "c" if exception == CRASH else "f"


def _opened(history: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{history.resolve().as_uri()}?mode=ro", uri=True, timeout=1.0)


def _rows(
    history: Path, query: str, parameters: tuple[str | int | float, ...]
) -> list[tuple[str | int | float, ...]]:
    """Return the rows of a query; none where the history can't be read."""
    try:
        with contextlib.closing(_opened(history)) as conn:
            return conn.execute(query, parameters).fetchall()
    except sqlite3.Error:
        return []
