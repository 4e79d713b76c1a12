"""What becomes of anomalies: reported, ignored, allowed by a test, or that test's failure."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from snapfarm.report.terminal import anomaly_lines
from snapfarm_worker.anomaly import (
    Action,
    Anomaly,
    AnomalyKind,
    AnomalyPolicy,
    Severity,
    summary_of,
)
from support.fixture_run import FixtureRun
from support.pytest_runs import Runs

TRANSACTION, CONNECTION = AnomalyKind.LEAKED_TRANSACTION, AnomalyKind.LEAKED_CONNECTION

#: Leave a transaction, which is an error; drop a connection, which is a warning.
LEAKS = """
    def leave(uri, kept=[]):
        kept.append(sqlite3.connect(uri))
        kept[-1].execute("DELETE FROM orders")

    def drop(uri):
        sqlite3.connect(uri).execute("SELECT * FROM orders").fetchall()

    def test_leaves(farm_uri):
        leave(farm_uri)

    def test_drops(farm_uri):
        drop(farm_uri)

    @pytest.mark.farm(allow=["leaked-transaction"])
    def test_may_leave(farm_uri):
        leave(farm_uri)

    @pytest.mark.farm(allow="leaked-connection")
    def test_fails(farm_uri):
        leave(farm_uri)
        assert False, "of itself"

    def test_is_fine(farm_db):
        assert farm_db.execute("SELECT count(*) FROM orders").fetchone() > (0,)
"""


def observe(folder: Path, policy: AnomalyPolicy) -> FixtureRun:
    with FixtureRun(folder, policy) as run:
        run(LEAKS)
    return run


def test_anomalies_are_reported_and_change_no_outcome(tmp_path: Path) -> None:
    run = observe(tmp_path, AnomalyPolicy())
    assert run.failed == ["test_fails"]
    assert run.found == [
        ("test_leaves", TRANSACTION),
        ("test_drops", CONNECTION),
        ("test_fails", TRANSACTION),
    ]
    assert "anomalies: 1 leaked-transaction" in run.text("test_leaves")
    properties = [each for report in run.reports for each in report.user_properties]
    assert [(name, str(text).partition(":")[0]) for name, text in properties] == [
        ("anomaly", "error leaked-transaction"),
        ("anomaly", "warning leaked-connection"),
        ("anomaly", "error leaked-transaction"),
    ]


def test_errors_fail_their_tests(tmp_path: Path) -> None:
    run = observe(tmp_path, AnomalyPolicy(Action.FAIL))
    assert run.outcomes == {
        "test_leaves": "error",
        "test_drops": "passed",
        "test_may_leave": "passed",
        "test_fails": "error",
        "test_is_fine": "passed",
    }
    assert "leaked-transaction: the test leaves an open transaction" in run.text("test_leaves")
    assert "of itself" in run.text("test_fails")


def test_kinds_have_a_say_of_their_own(tmp_path: Path) -> None:
    kinds = {TRANSACTION: Action.IGNORE, CONNECTION: Action.FAIL}
    run = observe(tmp_path, AnomalyPolicy(Action.FAIL, kinds))
    assert run.failed == ["test_drops", "test_fails"]
    assert run.found == [("test_drops", CONNECTION)]
    assert "leaked-transaction" not in run.text("test_fails")


def test_what_went_well_in_the_end_fails_no_test() -> None:
    anomaly = made("a.py::test_a", severity=Severity.INFO)
    policy = AnomalyPolicy(Action.FAIL, {AnomalyKind.LOCK_ERROR: Action.FAIL})
    assert policy.action(anomaly) is Action.REPORT


def made(
    test: str, *, severity: Severity = Severity.ERROR, polluter: str = "", place: str = ""
) -> Anomaly:
    return Anomaly(
        kind=AnomalyKind.LOCK_ERROR,
        severity=severity,
        test=test,
        database="default",
        message="it was locked",
        table="orders",
        stack=(place,) if place else (),
        polluter=polluter,
    )


def test_one_line_says_what_and_where() -> None:
    read = msgspec.structs.replace(
        made("a.py::test_a"), kind=AnomalyKind.EMPTY_TABLE_READ, thread="Thread-3", count=2
    )
    assert summary_of([read, made("a.py::test_a")]) == (
        "anomalies: 2 empty-table-read, orders, thread Thread-3; 1 lock-error, orders"
    )


def test_the_summary_groups_by_cause() -> None:
    found = [
        made("a.py::test_one", place="app.py:3"),
        made("a.py::test_two", polluter="a.py::test_bad", place="app.py:4"),
        made("a.py::test_three", polluter="a.py::test_bad", place="app.py:5"),
        made("a.py::test_four", polluter="a.py::test_bad", place="app.py:6"),
    ]
    assert list(anomaly_lines(found))[:-1] == [
        "lock-error (error): 4 in 4 tests",
        "  a.py::test_two and 2 more tests: it was locked",
        "  a.py::test_one: it was locked",
    ]


@pytest.mark.parametrize("allow", ["no-such-kind", 3])
def test_an_unknown_kind_is_that_tests_error(allow: object, tmp_path: Path) -> None:
    with FixtureRun(tmp_path) as run:
        run(f"@pytest.mark.farm(allow={allow!r})\ndef test_it(): pass\ndef test_other(): pass\n")
    assert run.outcomes == {"test_it": "error", "test_other": "passed"}
    assert "allow" in run.text("test_it")


@pytest.mark.parametrize("way", ["plain", "farm"])
def test_a_run_is_configured(way: str, tmp_path: Path) -> None:
    runs = Runs(
        tmp_path / "suite",
        {
            "farm.toml": 'anomalies = "fail"\n[anomaly_kinds]\nleaked-connection = "ignore"\n'
            '[golden.default]\nschema = ["s.sql"]\n',
            "s.sql": "CREATE TABLE orders (id); INSERT INTO orders VALUES (1);",
            "test_it.py": "import sqlite3\nkept = []\n"
            "def test_leaves(farm_uri):\n"
            "    kept.append(sqlite3.connect(farm_uri))\n"
            "    kept[-1].execute('DELETE FROM orders')\n"
            "def test_drops(farm_uri):\n    sqlite3.connect(farm_uri)\n",
        },
    )
    run = runs.run("--junitxml=junit.xml", way=way)
    assert (run.exit_code, run.counts) == (1, "2 passed, 1 error")
    assert "ERROR at teardown of test_leaves" in run.stdout
    assert "leaked-connection" not in run.stdout
    text = (tmp_path / "suite" / "junit.xml").read_text()
    assert '<property name="anomaly" value="error leaked-transaction: the test leaves' in text

    run = runs.run("--farm-anomalies=report", way=way)
    assert (run.exit_code, run.counts) == (0, "2 passed")
    assert "leaked-transaction (error): 1 in 1 test" in run.stdout
    if run.report is not None:
        (found,) = msgspec.convert(run.report["anomalies"], list[Anomaly])
        assert (found.kind, found.severity, found.count) == (TRANSACTION, Severity.ERROR, 1)
        assert (found.test, found.database) == ("test_it.py::test_leaves", "default")
        assert (found.sql, found.thread) == ("DELETE FROM orders", "MainThread")
        assert found.stack[0].endswith("test_it.py:5 in test_leaves")

    (tmp_path / "suite" / "farm.toml").write_text('[anomaly_kinds]\nleaked = "ignore"\n')
    run = runs.run(way=way)
    assert run.exit_code == pytest.ExitCode.USAGE_ERROR
    assert "anomaly_kinds: 'leaked' is no kind of anomaly; did you mean 'leaked-" in run.stderr
