"""The history of attempts: writing, merging, several writers, foreign files, JUnit."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from snapfarm.flakes import junit_import
from snapfarm.flakes.history import (
    VERSION,
    Attempt,
    History,
    HistoryError,
    Run,
    line_of,
    open_or_set_aside,
)


def run(name: str, started: float = 1.0) -> Run:
    return Run(id=name, source="farm", started=started, commit_id="c0ffee", workers=2)


def attempt(run_id: str, number: int, *, test: str = "a", outcome: str = "passed",
            worker: str = "gw0", ended: float | None = None) -> Attempt:  # fmt: skip
    return Attempt(
        id=f"{run_id}-{number}",
        run=run_id,
        test=test,
        attempt=1,
        worker=worker,
        position=number,
        ended=float(number) if ended is None else ended,
        seconds=0.5,
        outcome=outcome,
        exception="KeyError" if outcome == "failed" else "",
    )


def test_what_was_written_is_read(tmp_path: Path) -> None:
    first, second = attempt("r1", 0), attempt("r1", 1, test="b", outcome="failed")
    with History(tmp_path / "deep" / "h.sqlite") as kept:
        kept.begin(run("r1"))
        kept.add([first, second])
        kept.add([first])
    with History(tmp_path / "deep" / "h.sqlite") as kept:
        assert list(kept.runs()) == [run("r1")]
        assert list(kept.attempts()) == [first, second]
        assert list(kept.attempts(test="b")) == [second]
        assert kept.predecessors(second) == ("a",)
        assert kept.predecessors(first) == ()


def test_merging_takes_nothing_twice(tmp_path: Path) -> None:
    one, two = tmp_path / "one.sqlite", tmp_path / "two.sqlite"
    with History(one) as kept:
        kept.begin(run("r1"))
        kept.add([attempt("r1", 0)])
    with History(two) as kept:
        kept.begin(Run(id="r1", source="farm", started=1.0, finished=9.0, exit_status=0))
        kept.add([attempt("r1", 0), attempt("r1", 1)])
        kept.begin(run("r2", 2.0))
        kept.add([attempt("r2", 0)])
        assert kept.merge(one) == (0, 0)
    with History(one) as kept:
        assert kept.merge(two) == (1, 2)
        assert kept.merge(two) == (0, 0)
        ended, other = kept.runs()
        assert (ended.finished, ended.exit_status, ended.commit_id) == (9.0, 0, "c0ffee")
        assert other.id == "r2"
        assert [one.id for one in kept.attempts()] == ["r1-0", "r2-0", "r1-1"]


def test_old_runs_are_pruned(tmp_path: Path) -> None:
    with History(tmp_path / "h.sqlite") as kept:
        for number in range(6):
            kept.begin(run(f"r{number}", float(number)))
            kept.add([attempt(f"r{number}", 0)])
        assert kept.prune(older_than=2.0) == 2
        assert kept.prune(keep_runs=3) == 1
        assert [one.id for one in kept.runs()] == ["r3", "r4", "r5"]
        assert {one.run for one in kept.attempts()} == {"r3", "r4", "r5"}


def test_a_line_tells_since_when_and_how_stable() -> None:
    attempts = [
        attempt("r1", 0, outcome="failed"),
        attempt("r1", 1),
        attempt("r2", 2, outcome="failed"),
        attempt("r3", 3, outcome="skipped"),
        attempt("r3", 4),
        attempt("r4", 5),
    ]
    line = line_of("a", attempts)
    assert (line.failures, line.runs, line.flaked, line.stable) == (2, 5, 1, 2)
    assert (line.first_failure, line.last_failure) == (0.0, 2.0)


def test_a_file_that_another_run_makes_just_now_is_none_of_somebody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another run makes the file between two looks of this one: it waits, or it is seen as a whole.
    path = tmp_path / "h.sqlite"
    original = History._pragma
    other = threading.Thread(target=lambda: History(path).close())

    def between(self: History, name: str) -> int:
        found = original(self, name)
        if name == "application_id" and other.ident is None:
            monkeypatch.setattr(History, "_pragma", original)
            other.start()
            other.join(0.3)
        return found

    monkeypatch.setattr(History, "_pragma", between)
    with History(path) as kept:
        other.join()
        kept.begin(Run(id="r", source="farm", started=1.0))
        assert [run.id for run in kept.runs()] == ["r"]


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    code = (
        "import sys; from pathlib import Path; from snapfarm.flakes.history import *\n"
        "name = sys.argv[2]\n"
        "with History(Path(sys.argv[1])) as kept:\n"
        "    kept.begin(Run(id=name, source='farm', started=1.0))\n"
        "    for n in range(50):\n"
        "        kept.add([Attempt(id=f'{name}-{n}', run=name, test='t', attempt=1, worker='gw0',"
        " position=n, ended=1.0, seconds=0.0, outcome='passed')])\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(path), f"r{number}"])
        for number in range(3)
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    with History(path) as kept:
        assert len(list(kept.attempts())) == 150


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\0 but broken"])
def test_a_broken_file_is_set_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "history.sqlite"
    path.write_bytes(content)
    kept, warning = open_or_set_aside(path)
    with kept:
        kept.begin(run("r1"))
    aside = next(tmp_path.glob("history.sqlite.set-aside-*"))
    assert aside.read_bytes() == content
    assert aside.name in warning


def test_a_file_of_something_else_is_set_aside_whole(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    conn = sqlite3.connect(path)
    conn.execute("CREATE TABLE precious (x)")
    conn.commit()
    conn.close()
    kept, warning = open_or_set_aside(path)
    kept.close()
    assert "something else" in warning
    conn = sqlite3.connect(next(tmp_path.glob("*.set-aside-*")))
    assert conn.execute("SELECT name FROM sqlite_schema").fetchall() == [("precious",)]
    conn.close()


def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    History(path).close()
    conn = sqlite3.connect(path)
    conn.execute(f"PRAGMA user_version = {VERSION + 1}")
    conn.close()
    with pytest.raises(HistoryError, match="newer snapfarm"):
        open_or_set_aside(path)
    assert list(tmp_path.glob("*set-aside*")) == []


def test_tables_of_an_older_version_are_brought_up(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    with History(path) as kept:
        kept.begin(run("r1"))
        kept.add([attempt("r1", 0)])
    conn = sqlite3.connect(path)
    conn.executescript(
        "ALTER TABLE attempt DROP COLUMN tables; PRAGMA user_version = 1;"
        "CREATE INDEX attempt_of_run ON attempt (run, worker, position);"
    )
    conn.close()
    with History(path) as first, History(path) as second:
        wrote = msgspec.structs.replace(attempt("r1", 1, test="b"), tables="default.bill\nlog.line")
        second.add([wrote])
        assert list(first.attempts(run="r1")) == [attempt("r1", 0), wrote]
        assert first.writers(["default.bill", "default.good"]) == {"b"}
        assert first.writers(["bill"]) == first.writers([]) == frozenset()


def test_a_name_that_is_no_text_is_kept_readable(tmp_path: Path) -> None:
    with History(tmp_path / "h.sqlite") as kept:
        kept.add([attempt("r1", 0), attempt("r1", 1, test="a[\udcff]")])
        assert [one.test for one in kept.attempts()] == ["a", "a[\\udcff]"]


#: Adds attempts, one a transaction, each of which it tells of once it is stored.
WRITER = """
import itertools, sys
from pathlib import Path
from snapfarm.flakes.history import Attempt, History, Run

name = sys.argv[2]
kept = History(Path(sys.argv[1]))
kept.begin(Run(id=name, source="farm", started=1.0))
for n in itertools.count():
    kept.add([
        Attempt(id=f"{name}-{n}", run=name, test=f"t{n}", attempt=1, worker="gw0", position=n,
                ended=1.0, seconds=0.0, outcome="passed")
    ])
    print(n, flush=True)
"""


def test_killed_writers_lose_nothing_that_was_stored(tmp_path: Path) -> None:
    """At any moment: after some attempts, and somewhere in the next transaction."""
    path = tmp_path / "h.sqlite"
    chance = random.Random(2026)
    told: dict[str, int] = {}
    for name, moment in [("r0", 0), *((f"r{n}", chance.randrange(300)) for n in range(1, 6))]:
        # Of two that write at once, one is killed first, and the other meets what it left.
        writers = {
            each: subprocess.Popen(
                [sys.executable, "-c", WRITER, str(path), each], stdout=subprocess.PIPE, text=True
            )
            for each in (f"{name}a", f"{name}b")
        }
        for each, writer in writers.items():
            assert writer.stdout is not None
            read = [writer.stdout.readline() for _ in range(moment + 1)]
            os.kill(writer.pid, signal.SIGKILL)
            read += writer.stdout.read().splitlines(keepends=True)
            writer.stdout.close()
            assert writer.wait() == -signal.SIGKILL
            told[each] = max(int(line) for line in read if line.endswith("\n"))
    with History(path) as kept:
        for each, last in told.items():
            positions = [one.position for one in kept.attempts(run=each)]
            # One more may have been stored that it could no longer tell of.
            assert sorted(positions) == list(range(len(positions)))
            assert last + 1 <= len(positions) <= last + 2
    conn = sqlite3.connect(path)
    assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    conn.close()
    assert list(tmp_path.glob("*set-aside*")) == []


# ---------------------------------------------------------------- JUnit

JUNIT = """<?xml version="1.0"?>
<testsuites><testsuite name="pytest" hostname="ci" timestamp="2026-11-20T10:00:00+00:00">
<testcase classname="tests.test_a.TestCart" name="test_add" time="0.5"/>
<testcase classname="tests.test_a" name="test_pay[1.5]" time="1,000.25">
  <failure message="KeyError: 7">Traceback</failure></testcase>
<testcase classname="tests.test_a" name="test_flaky" time="x">
  <rerunFailure message="TimeoutError: 5 s" type="TimeoutError"/></testcase>
<testcase classname="elsewhere" name="test_x"><skipped/></testcase>
<testcase classname="TestB" file="tests/test_b.py" name="test_y">
  <error>E  OSError: no</error></testcase>
</testsuite></testsuites>"""


def test_junit_is_imported_once_with_node_ids(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").touch()
    file = tmp_path / "junit.xml"
    file.write_text(JUNIT)
    found, attempts = junit_import.read(file, tmp_path)
    assert (found.source, found.host, found.started) == ("junit", "ci", 1795168800.0)
    assert [(one.test, one.outcome, one.exception) for one in attempts] == [
        ("tests/test_a.py::TestCart::test_add", "passed", ""),
        ("tests/test_a.py::test_pay[1.5]", "failed", "KeyError"),
        ("tests/test_a.py::test_flaky", "failed", "TimeoutError"),
        ("tests/test_a.py::test_flaky", "passed", ""),
        ("elsewhere::test_x", "skipped", ""),
        ("tests/test_b.py::TestB::test_y", "failed", "OSError"),
    ]
    assert [one.seconds for one in attempts] == [0.5, 1000.25, 0.0, 0.0, 0.0, 0.0]
    with History(tmp_path / "h.sqlite") as kept:
        for _ in range(2):
            kept.begin(found)
            kept.add(attempts)
        assert len(list(kept.attempts())) == 6
        assert [line.test for line in kept.tests() if line.flaked] == [
            "tests/test_a.py::test_flaky"
        ]


@pytest.mark.parametrize(
    ("text", "message"),
    [("<a", "is no XML"), ("<html/>", "is no JUnit file: its root is <html>")],
)
def test_what_is_no_junit_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "junit.xml"
    file.write_text(text)
    with pytest.raises(HistoryError, match=message):
        junit_import.read(file, tmp_path)
    with pytest.raises(HistoryError, match="can't be read"):
        junit_import.read(tmp_path / "none.xml", tmp_path)
