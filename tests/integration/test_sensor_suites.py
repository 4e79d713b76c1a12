"""Sensors in pytest runs: what one test leaves for others, and wider fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from snapfarm_worker.anomaly import AnomalyKind
from support.fixture_run import FixtureRun


@pytest.fixture
def run(tmp_path: Path) -> Iterator[FixtureRun]:
    with FixtureRun(tmp_path) as run:
        yield run


def test_a_victim_names_its_polluter(run: FixtureRun) -> None:
    run(
        """
    pytestmark = pytest.mark.farm(reset="module")

    @pytest.fixture(scope="module")
    def settled(farm_databases):
        with contextlib.closing(sqlite3.connect(farm_databases.get().uri)) as conn, conn:
            conn.execute("DELETE FROM pairs")
            conn.execute("INSERT INTO empty VALUES (1)")
        yield
        with contextlib.closing(sqlite3.connect(farm_databases.get().uri)) as conn, conn:
            conn.execute("DELETE FROM empty")

    def test_begins(settled, farm_db):
        assert farm_db.execute("SELECT * FROM pairs").fetchall() == []

    def test_pollutes(settled, farm_db):
        farm_db.execute("DELETE FROM orders")
        farm_db.commit()

    def test_fails_and_pollutes(settled, farm_db):
        farm_db.execute("DELETE FROM log")
        farm_db.commit()
        assert False

    def test_suffers(settled, farm_db):
        assert farm_db.execute("SELECT count(*) FROM orders").fetchone() == (200,)

    def test_reads_other_tables(settled, farm_db):
        assert farm_db.execute("SELECT * FROM pairs").fetchall() == []
        assert farm_db.execute("SELECT * FROM log").fetchall() == []

    @pytest.mark.farm(reset="test")
    def test_is_reset_alone(farm_db):
        farm_db.execute("DELETE FROM customers")
        farm_db.commit()
    """
    )
    assert run.failed == ["test_fails_and_pollutes", "test_suffers"]
    seen = [
        (each.test.partition("::")[2], each.kind, each.polluter.partition("::")[2], each.table)
        for each in run.plugin.anomalies
    ]
    assert seen == [
        ("test_pollutes", AnomalyKind.LEAKED_WRITE, "", ""),
        ("test_suffers", AnomalyKind.EMPTY_TABLE_READ, "test_pollutes", "orders"),
        ("test_reads_other_tables", AnomalyKind.EMPTY_TABLE_READ, "test_fails_and_pollutes", "log"),
    ]
    (leaked,) = run.plugin.anomalies[0].evidence
    assert leaked == "orders: 200 -> 0 rows (-200)"
