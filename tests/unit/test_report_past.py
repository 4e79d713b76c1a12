"""A report's history, as the history of attempts knows it."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from snapfarm.flakes.history import Attempt, History, Run
from snapfarm.report import past, runs
from snapfarm.report.model import Attempt as Try
from snapfarm.report.model import ItemLine, RunReport

OWN = "ffff0000"


def item(name: str, outcome: str = "passed", *tries: str) -> ItemLine:
    attempts = tuple(Try(outcome=each, worker="gw0") for each in tries)
    return ItemLine(nodeid=name, outcome=outcome, worker="gw0", seconds=0.5, attempts=attempts)


def report(*items: ItemLine) -> RunReport:
    made = RunReport(snapfarm="0", python="3", sqlite="3", started=500.0, seconds=7.0)
    made.history_run, made.items = OWN, list(items)
    return made


class Writer:
    """Writes runs into a history; what a test did is a word for each attempt."""

    def __init__(self, path: Path) -> None:
        self._kept = History(path)

    def run(self, name: str, started: float, *, source: str = "farm", **tests: str) -> None:
        kept = self._kept
        kept.begin(
            Run(
                id=name.ljust(32, "0"),
                source=source,
                started=started,
                finished=started + 10.0,
                commit_id="c" * 40,
            )
        )
        attempts = []
        for test, words in tests.items():
            for number, word in enumerate(words.split()):
                attempts.append(
                    Attempt(
                        id=f"{name.ljust(32, '0')}-{test}-{number}",
                        run=name.ljust(32, "0"),
                        test=test,
                        attempt=number + 1,
                        worker="gw0",
                        position=number,
                        ended=started + number,
                        seconds=float(number + 1),
                        outcome="failed" if word == "crashed" else word,
                        exception="crash" if word == "crashed" else "",
                        tables=f"default.{test}" if number else "default.log",
                    )
                )
        kept.add(attempts)

    def close(self) -> None:
        self._kept.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "history.sqlite"
    writer = Writer(path)
    writer.run("aa", 100.0, a="passed", b="failed passed", c="skipped", e="passed")
    writer.run("bb", 200.0, source="hunt", a="failed", b="failed")
    writer.run("cc", 300.0, source="junit", a="failed failed", b="passed", gone="failed")
    writer.run("dd", 400.0, a="crashed", b="passed", c="passed", e="passed")
    writer.run(OWN, 500.0, a="failed", b="passed")
    writer.run("ee", 600.0, a="failed")  # later than the report: no part of its history
    writer.close()
    return path


def test_a_history_is_made_of_attempts(path: Path) -> None:
    found = past.history(
        path, report(item("a", "failed", "failed"), item("b"), item("new")), longest=200
    )
    assert found is not None
    assert [(line.run[:2], line.tests, line.failed, line.flaky) for line in found.runs] == [
        ("aa", 4, 0, 1),
        ("cc", 3, 2, 0),
        ("dd", 4, 1, 0),
        ("ff", 3, 1, 0),
    ]
    assert [line.seconds for line in found.runs] == [10.0, 10.0, 10.0, 7.0]
    assert [line.commit for line in found.runs] == ["c" * 10] * 3 + [""]
    # This run counts as its report has it; tests that are not in it are left out.
    assert found.outcomes == {"a": "pfcf", "b": "kppp", "new": "---p"}
    assert found.only_troubled
    a, b = found.tests["a"], found.tests["b"]
    assert (a.failures, a.attempts, a.seconds) == (4, 5, (1.0, 1.5, 1.0, 0.5))
    assert a.tables == ("default.a", "default.log")
    assert (b.failures, b.attempts, b.seconds) == (1, 5, (1.5, 1.0, 1.0, 0.5))


def test_of_tests_that_never_failed_only_slow_ones_are_looked_up(path: Path) -> None:
    others = [item(f"t{n}") for n in range(40)]
    found = past.history(path, report(item("a", "failed", "failed"), *others), longest=200)
    assert found is not None
    assert len(found.outcomes) == past.SLOWEST
    assert "a" in found.outcomes


def test_a_history_that_knows_no_tables_is_read(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as conn:
        conn.execute("ALTER TABLE attempt DROP COLUMN tables")
        conn.execute("PRAGMA user_version = 1")
    found = past.history(path, report(item("a", "failed", "failed")), longest=200)
    assert found is not None
    assert (found.outcomes["a"], found.tests["a"].tables) == ("pfcf", ())


def test_only_the_latest_runs_count(path: Path) -> None:
    found = past.history(path, report(item("a", "failed", "failed")), longest=2)
    assert found is not None
    assert [line.run[:2] for line in found.runs] == ["dd", "ff"]
    assert found.outcomes["a"] == "cf"


def test_without_a_history_kept_runs_stand_in(path: Path, tmp_path: Path) -> None:
    unknown = report(item("a"))
    unknown.history_run = "12345678"
    nameless = report(item("a"))
    nameless.history_run = ""
    damaged = tmp_path / "damaged.sqlite"
    damaged.write_bytes(b"no database" * 1000)
    for attempts, made in (
        (path, unknown),
        (path, nameless),
        (damaged, report(item("a"))),
        (tmp_path / "none.sqlite", report(item("a"))),
    ):
        assert past.history(attempts, made, 200) is None
        found = runs.with_history(made, tmp_path, attempts).history
        assert (found.outcomes, found.only_troubled) == ({"a": "p"}, False)
    known = runs.with_history(report(item("a")), tmp_path, path).history
    assert known.only_troubled
