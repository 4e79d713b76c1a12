"""What a run of a farm leaves behind: reports, kept runs, and the evidence of each failure."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import cast
from xml.etree import ElementTree as ET

import msgspec
from click.testing import CliRunner

from snapfarm.cli import main
from snapfarm.report import runs
from snapfarm.report.model import ItemLine, RunReport
from support.pytest_runs import Runs

FILES: Mapping[str, str] = {
    "farm.toml": """
redact = ["users.password"]
keep_runs = 1
heartbeat_timeout = 2
[reports]
html = "out/farm.html"
junit = "out/junit.xml"
text = "no/folder/of/ours.txt/x.txt"
[golden.default]
schema = ["schema.sql"]
[golden.other]
schema = ["schema.sql"]
""",
    "no/folder/of/ours.txt": "a file where a folder should be",
    "schema.sql": """
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL, password TEXT NOT NULL);
INSERT INTO users VALUES (1, 'Ada', 'hunter2'), (2, 'Grace', 'hunter2');
""",
    "conftest.py": """
import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    # As pytest-rerunfailures does it.
    from _pytest.runner import runtestprotocol
    if item.name != "test_flaky":
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for last in (False, True):
        for report in runtestprotocol(item, nextitem=nextitem, log=False):
            if report.failed and not last:
                report.outcome = "rerun"
            item.ihook.pytest_runtest_logreport(report=report)
        item._initrequest()
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
""",
    # Not in the tests' file, which tracebacks show: what a test says is its own.
    "leaks.py": """
import os, sqlite3

def leave_open():
    conn = sqlite3.connect(os.environ["FARM_URI_OTHER"], uri=True)
    conn.execute("UPDATE users SET password = 'swordfish'")
    return conn
""",
    "test_a.py": """
import os, signal, sqlite3, time, leaks, pytest

def test_passes(farm_db):
    farm_db.execute("DELETE FROM users")

def test_fails(farm_db):
    print("printed by it")
    farm_db.execute("UPDATE users SET name = 'Eve', password = 'hunter3' WHERE id = 1")
    farm_db.execute("INSERT INTO users VALUES (3, 'Linus', 'hunter4')")
    assert farm_db.execute("SELECT count(*) FROM users").fetchone() == (7,)

@pytest.fixture
def broken(farm_db):
    yield
    farm_db.execute("DELETE FROM users WHERE id = 2")
    farm_db.commit()
    held.append(leaks.leave_open())
    raise RuntimeError("in teardown")

def test_teardown(broken):
    pass

seen, held = [], []

def test_flaky(farm_db):
    farm_db.execute("DELETE FROM users WHERE id = 2")
    seen.append(1)
    assert len(seen) > 1

@pytest.mark.farm(database="other")
def test_kills(farm_db):
    farm_db.execute("UPDATE users SET password = 'hunter5'")
    # Beside the black box of this worker.
    (box,) = {line.split()[-1] for line in open("/proc/self/maps") if line.endswith(".box\\n")}
    while not os.path.exists(box.removesuffix("box") + "words"):
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGKILL)
""",
}


def only(item: ItemLine, number: int = 0) -> list[tuple[str, str]]:
    """Return the databases of an attempt of which a copy was kept, with the rows that differ."""
    return [
        (
            each.file,
            " ".join(f"{t.table} +{t.added} -{t.removed} ~{t.changed}" for t in each.diff.tables),
        )
        for each in item.attempts[number].evidence
        if each.diff is not None and each.file
    ]


def test_a_run_leaves_reports_and_the_evidence_of_its_failures(tmp_path: Path) -> None:
    suite = Runs(tmp_path / "suite", FILES)
    step = tmp_path / "summary.md"
    first = suite.run("-q", "-p", "no:rerunfailures", "test_a.py::test_passes")
    assert first.exit_code == 0
    environ = {"GITHUB_STEP_SUMMARY": str(step), "GITHUB_ACTIONS": "true"}
    run = suite.run("-q", "-p", "no:rerunfailures", env=environ)
    assert run.exit_code == 1, run.text

    # A report that can't be written is a warning; the others are there.
    assert run.stderr.count("snapfarm: the text report could not be written: ") == 1
    assert "::error file=test_a.py,line=11,title=failed%3A test_a.py%3A%3Atest_fails" in run.stdout
    assert step.read_text("utf-8").startswith(
        "### Test run: 1 crashed, 2 failed, 1 flaky, 1 passed"
    )
    page = (suite.root / "out" / "farm.html").read_text("utf-8")
    assert page.startswith("<!doctype html>")
    assert "hunter" not in page.replace("password = 'hunter3'", "").replace("'hunter4'", "")
    cases = {
        str(case.get("name")): {child.tag for child in case} - {"system-out"}
        for case in ET.parse(suite.root / "out" / "junit.xml").getroot().iter("testcase")
    }
    assert cases == {
        "test_passes": set(),
        "test_fails": {"failure"},
        "test_teardown": {"error"},
        "test_flaky": {"flakyFailure"},
        "test_kills": {"error"},
    }

    # Its history is that of all attempts, though one run only is kept.
    with contextlib.chdir(suite.root):
        shown = CliRunner().invoke(main, ["report", "--format", "json"])
    history = msgspec.json.decode(shown.output, type=RunReport).history
    assert history.outcomes == {
        "test_a.py::test_passes": "pp",
        "test_a.py::test_fails": "-f",
        "test_a.py::test_teardown": "-f",
        "test_a.py::test_flaky": "-k",
        "test_a.py::test_kills": "-c",
    }
    assert [(run.tests, run.failed, run.flaky) for run in history.runs] == [(1, 0, 0), (5, 3, 1)]

    # One run is kept, and has what --farm-report has.
    cache = suite.root / ".farm"
    (name,) = runs.names(cache)
    report = runs.load(cache, name)
    assert run.report is not None
    assert [item.nodeid for item in report.items] == [
        item["nodeid"] for item in cast("list[dict[str, object]]", run.report["items"])
    ]
    items = {item.nodeid.partition("::")[2]: item for item in report.items}
    states = {test: [each.outcome for each in item.attempts] for test, item in items.items()}
    assert states == {
        "test_passes": [],
        "test_fails": ["failed"],
        "test_teardown": ["error"],
        "test_flaky": ["failed", "passed"],
        "test_kills": ["crashed"],
    }
    assert (items["test_fails"].path, items["test_fails"].line) == ("test_a.py", 7)
    (failure,) = items["test_fails"].attempts[0].failures
    assert (failure.kind, failure.path, failure.line) == ("AssertionError", "test_a.py", 11)
    assert "printed by it\n" in [each.text for each in items["test_fails"].attempts[0].output]

    # The evidence: what changed, committed or not; each test's own, as it was then.
    ((kept, changes),) = only(items["test_fails"])
    assert changes == "users +1 -0 ~1"
    assert [changes for _, changes in only(items["test_teardown"])] == [
        "users +0 -1 ~0",
        "users +0 -0 ~2",
    ]
    assert [changes for _, changes in only(items["test_flaky"])] == ["users +0 -1 ~0"]
    assert only(items["test_flaky"], 1) == []
    # The secret of an anomaly is nowhere: not on the terminal, in no report, in no database.
    assert "leaked-transaction" in run.stdout.partition("database anomalies")[2]
    assert "swordfish" not in run.text
    for file in (*suite.root.rglob("*"), step):
        if file.is_file() and file.name != "leaks.py" and "__pycache__" not in file.parts:
            assert b"swordfish" not in file.read_bytes(), file
    assert (
        len({file for item in items.values() for file, _ in (only(item) if item.attempts else [])})
        == 4
    )
    data = (suite.root / kept).read_bytes()
    assert b"hunter" not in data
    with contextlib.closing(sqlite3.connect(suite.root / kept)) as conn:
        assert conn.execute("SELECT id, name FROM users").fetchall() == [
            (1, "Eve"), (2, "Grace"), (3, "Linus"),
        ]  # fmt: skip
    (statements,) = next(
        each.statements for each in items["test_fails"].attempts[0].evidence if each.statements
    )
    assert statements.statements[-1] == "SELECT count(*) FROM users"
    assert "hunter" not in repr(statements)

    # A crash takes its databases with it; what is known of them is kept, and what it did is too.
    gone = {each.database: each for each in items["test_kills"].attempts[0].evidence}
    assert set(gone) == {"default", "other"}
    for each in gone.values():
        assert each.note.startswith("it was in the memory of its worker, and ended with it; ")
    assert gone["default"].statements == ()
    ((last, *_),) = [each.statements for each in gone["other"].statements]
    assert last == "UPDATE users SET password = '…'"
    assert gone["other"].statements[0].in_transaction
    diff = CliRunner().invoke(main, ["diff", str(suite.root / kept), str(suite.root / kept)])
    assert diff.exit_code == 0


def test_a_run_without_workers_keeps_the_same(tmp_path: Path) -> None:
    suite = Runs(tmp_path / "suite", FILES)
    cache = suite.root / ".farm"
    # A plain pytest run looks as if there were no farm.
    chosen = ("-q", "-p", "no:rerunfailures", "-k", "not kills")
    assert suite.run(*chosen, way="plain").exit_code == 1
    assert not (cache / "runs").exists()
    assert suite.run("--collect-only", "--farm=0", way="plain").exit_code == 0
    assert not (cache / "failures").exists()
    assert not (cache / "runs").exists()

    run = suite.run(*chosen, "--farm=0", way="plain")
    assert (run.exit_code, run.counts) == (1, "1 failed, 3 passed, 1 deselected, 1 error, 1 rerun")
    assert "farm run -n 0 test_a.py::test_fails" in run.stdout.partition("worst first")[2]
    (name,) = runs.names(cache)
    report = runs.load(cache, name)
    assert [golden.name for golden in report.golden] == ["default", "other"]
    items = {item.nodeid.partition("::")[2]: item for item in report.items}
    ((kept, changes),) = only(items["test_fails"])
    assert changes == "users +1 -0 ~1"
    assert b"hunter" not in (suite.root / kept).read_bytes()
    assert [changes for _, changes in only(items["test_teardown"])] == [
        "users +0 -1 ~0",
        "users +0 -0 ~2",
    ]
    assert [changes for _, changes in only(items["test_flaky"])] == ["users +0 -1 ~0"]
    assert only(items["test_flaky"], 1) == []
    for item in items.values():
        assert item.reset > 0
    assert (suite.root / "out" / "farm.html").exists()


def test_switched_off_nothing_is_kept(tmp_path: Path) -> None:
    suite = Runs(tmp_path / "suite", {**FILES, "conftest.py": ""})
    environ = {"FARM_KEEP_RUNS": "0", "FARM_KEEP_FAILURES": "0", "FARM_HISTORY": "off"}
    run = suite.run("-q", "test_a.py::test_fails", env=environ)
    assert run.exit_code == 1, run.text
    assert sorted(path.name for path in (suite.root / ".farm").iterdir()) == [
        ".gitignore",
        "golden",
    ]
