"""Tests that use the ring itself: several connections, the manifest, a reset in the middle."""

from __future__ import annotations

import os
import sqlite3

import pytest

from snapfarm_worker.fixtures import FarmRing


def test_several_connections_share_the_database(farm_ring: FarmRing) -> None:
    first, second = farm_ring.connect(), farm_ring.connect()
    with first:
        first.execute("INSERT INTO brand (name) VALUES ('new')")
    assert second.execute("SELECT count(*) FROM brand").fetchone() == (21,)
    first.close()
    second.close()


def test_the_uri_is_in_the_environment(farm_uri: str) -> None:
    assert os.environ["FARM_URI"] == os.environ["FARM_URI_DEFAULT"] == farm_uri


def test_the_manifest_knows_the_golden_rows(farm_ring: FarmRing) -> None:
    rows = {table.name: table.rows for table in farm_ring.manifest.tables}
    assert rows["customer"] == 300


def test_a_reset_in_the_middle(farm_ring: FarmRing, farm_db: sqlite3.Connection) -> None:
    farm_db.execute("DELETE FROM refund")
    farm_db.execute("UPDATE coupon SET uses_left = 0")
    farm_db.commit()
    farm_ring.reset()
    assert farm_db.execute("SELECT sum(uses_left) FROM coupon").fetchone() == (101,)


@pytest.mark.farm(database="audit")
def test_the_second_database(farm_db: sqlite3.Connection) -> None:
    with farm_db:
        farm_db.execute("INSERT INTO entry (actor, what) VALUES (1, 'order approved')")
    assert farm_db.execute("SELECT count(*) FROM entry").fetchone() == (4,)


@pytest.mark.farm(database="audit")
def test_the_second_database_is_reset_too(farm_db: sqlite3.Connection) -> None:
    assert farm_db.execute("SELECT count(*) FROM entry").fetchone() == (3,)


@pytest.mark.farm(database="audit")
def test_audit_entries_can_not_be_deleted(farm_db: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="can not be deleted"):
        farm_db.execute("DELETE FROM entry")


def test_both_databases_in_one_test(farm_db: sqlite3.Connection) -> None:
    audit = sqlite3.connect(os.environ["FARM_URI_AUDIT"], uri=True)
    actors = audit.execute("SELECT count(*) FROM actor").fetchone()
    audit.close()
    assert actors == (3,)
    assert farm_db.execute("SELECT count(*) FROM customer").fetchone() == (300,)
