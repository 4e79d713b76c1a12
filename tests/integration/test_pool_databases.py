"""What tasks see of each other, do to their connections, and what is reported of it."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
import xmlschema

from snapfarm import Golden, WorkerPool
from snapfarm.errors import ConfigError, TaskUnshippable
from snapfarm.pool import Progress
from snapfarm_worker.anomaly import AnomalyKind
from support.pool import golden, wait_until
from support.pool_tasks import LIMIT, echo, rows, rows_of_both, write

JUNIT = Path(__file__).parent.parent / "support" / "junit.xsd"


@pytest.fixture(scope="module")
def database() -> Golden:
    return golden()


def write_and_count(conn: sqlite3.Connection, task: int) -> tuple[str, int]:
    write(conn, task)
    return threading.current_thread().name, rows(conn)


def wait_for_both(conn: sqlite3.Connection, folder: str, name: str) -> tuple[int, int]:
    """Write a row, wait until the other task has too, and count the rows."""
    write(conn, 1)
    Path(folder, name).touch()
    while len(list(Path(folder).iterdir())) < 2:
        threading.Event().wait(0.002)
    return rows(conn), os.getpid()


def test_threads_of_a_worker_share_a_database(database: Golden, tmp_path: Path) -> None:
    with WorkerPool(database, 1, 2) as pool:
        both = [pool.submit(wait_for_both, str(tmp_path), name) for name in "ab"]
        assert [future.result(LIMIT)[0] for future in both] == [2, 2]
        assert pool.submit(rows).result(LIMIT) == 2
        uri = pool.submit(lambda conn: os.environ["FARM_URI"]).result(LIMIT)
        assert pool.submit(
            lambda conn, uri: rows(sqlite3.connect(uri, uri=True), "items"), uri
        ).result(LIMIT)


def test_each_thread_may_have_a_database_of_its_own(database: Golden, tmp_path: Path) -> None:
    with WorkerPool(database, 1, 2, isolation="thread") as pool:
        both = [pool.submit(wait_for_both, str(tmp_path), name) for name in "ab"]
        assert [future.result(LIMIT)[0] for future in both] == [1, 1]
        assert pool.submit(rows).result(LIMIT) == 1


def test_each_task_may_have_a_pristine_database(database: Golden, tmp_path: Path) -> None:
    with WorkerPool(database, 1, 2, isolation="task") as pool:
        assert [count for _, count in pool.map(write_and_count, range(20))] == [1] * 20
        assert [count for _, count in pool.map(write_and_count, range(20), chunksize=10)] == [
            1
        ] * 20
        assert sum(pool.statistics().resets.values()) >= 40

        def leaves(conn: sqlite3.Connection, value: int) -> int:
            conn.execute("BEGIN")
            if value in (2, 3):
                conn.execute("INSERT INTO written VALUES (1, 'x')")
                return value
            conn.rollback()
            return value

        assert list(pool.map(leaves, range(5), chunksize=5)) == list(range(5))
        leaked = [each for each in pool.anomalies if each.kind is AnomalyKind.LEAKED_TRANSACTION]
        assert [each.test.rpartition("[")[2] for each in leaked] == ["2]", "3]"]
        assert list(pool.map(rows, ["written"] * 4)) == [0] * 4


def test_several_databases_come_by_name(database: Golden) -> None:
    other = golden("other", "DELETE FROM items;")
    with WorkerPool({"shop": database, "other": other}, 1, 1) as pool:
        assert pool.submit(rows_of_both).result(LIMIT) == {"shop": 3, "other": 0}

        def unknown(conns: Mapping[str, sqlite3.Connection]) -> object:
            return conns["nothing"]

        error = pool.submit(unknown).exception(LIMIT)
        assert isinstance(error, KeyError)
        assert "'shop'" in str(error)
        assert repr(pool) == "<WorkerPool of shop, other: 1 workers x 1 threads>"


@pytest.mark.parametrize("isolation", ["worker", "task"])
def test_what_a_task_does_to_its_connection_is_not_the_next_ones_trouble(
    database: Golden, isolation: str
) -> None:
    image = golden("x", "DELETE FROM items;").snapshot.data

    def closes(conn: sqlite3.Connection) -> str:
        conn.close()
        return "closed"

    def replaces(conn: sqlite3.Connection, image: bytes) -> int:
        conn.deserialize(image)
        return rows(conn, "items")

    def leaves_open(conn: sqlite3.Connection) -> str:
        conn.execute("BEGIN IMMEDIATE")
        conn.execute("INSERT INTO written VALUES (1, 'left')")
        return "left"

    with WorkerPool(
        database, 1, 1, isolation="worker" if isolation == "worker" else "task"
    ) as pool:
        assert list(pool.map(lambda conn, _: closes(conn), range(3), chunksize=3)) == ["closed"] * 3
        assert pool.submit(rows, "items").result(LIMIT) == 3
        assert pool.submit(replaces, bytes(image)).result(LIMIT) == 0
        assert pool.submit(rows, "items").result(LIMIT) == 3
        assert pool.submit(leaves_open).result(LIMIT) == "left"
        assert pool.submit(rows).result(LIMIT) == 0
        kinds = {each.kind: each.test.rpartition(".")[2] for each in pool.anomalies}
        assert kinds[AnomalyKind.LEFT_RING].startswith("replaces[")
        assert kinds[AnomalyKind.LEAKED_TRANSACTION].startswith("leaves_open[")
        assert "leaves_open[" in str(pool.report())


def test_tasks_by_name_travel_as_plain_data(database: Golden) -> None:
    names = {"echo": "support.pool_tasks:echo", "loud": "support.pool_tasks:fail_as"}
    with WorkerPool(database, 1, 1, tasks=names) as pool:
        value = {"a": [1, (2.5, None), {b"x"}], 3: True}
        assert pool.submit("echo", value).result(LIMIT) == value
        assert list(pool.map("echo", range(5))) == list(range(5))
        with pytest.raises(TaskUnshippable, match="'echo', 'loud', not 'other'"):
            pool.submit("other")
        with pytest.raises(TaskUnshippable, match="no code travels"):
            pool.submit(echo)
        with pytest.raises(TaskUnshippable, match="argument 1 can't be shipped"):
            pool.submit("echo", object())
        assert "code 7 at home" in str(pool.submit("loud", "liar").exception(LIMIT))


def test_figures_progress_and_report(database: Golden, tmp_path: Path) -> None:
    seen: list[Progress] = []
    with WorkerPool(database, 2, 2, on_progress=seen.append, progress=True) as pool:
        assert len(list(pool.map(echo, range(200)))) == 200
        pool.submit(lambda conn: 1 / 0).exception(LIMIT)
        wait_until(lambda: pool.statistics().done == 200)
        figures = pool.statistics()
        assert (figures.submitted, figures.failed, figures.pending) == (201, 1, 0)
        assert sum(each.tasks for each in figures.workers) == 201
        assert all(0 <= each.busy <= 1 for each in figures.workers)
        report = pool.report()
    assert seen[-1] == Progress(submitted=201, done=200, failed=1, crashed=0, cancelled=0)
    assert "201" in str(report)
    written = json.loads(report.write(tmp_path / "report.json").read_bytes())
    assert written["tasks"]["done"] == 200
    assert "<html" in report.write(tmp_path / "report.html").read_text()
    assert report.write(str(tmp_path / "report.txt")).read_text() == f"{report}\n"
    xmlschema.XMLSchema(str(JUNIT)).validate(report.write(tmp_path / "report.xml").read_text())
    for name in ("report.html", "report.md", "report.xml"):
        assert "ZeroDivisionError: division by zero" in report.write(tmp_path / name).read_text()
    assert "failed  " in str(report)
    assert "ZeroDivisionError: division by zero" in str(report)
    with pytest.raises(ConfigError, match=r"\.md, \.txt, \.xml, not in '\.pdf'"):
        report.write(tmp_path / "report.pdf")
    assert "201" in str(pool.report())
