"""Tests that leave their rows to the next one: the database is reset when the module ends.

Tests that *need* what came before them have to run on one worker (`--dist loadfile`, say). These
run in every mode: each sees what came before it on its worker, if anything did.
"""

from __future__ import annotations

import sqlite3

import pytest

# What they leave is meant for the next one.
pytestmark = pytest.mark.farm(reset="module", allow="leaked-write")


def brands(conn: sqlite3.Connection) -> int:
    """Return the number of brands."""
    (count,) = conn.execute("SELECT count(*) FROM brand").fetchone()
    return int(count)


@pytest.mark.parametrize("name", ["one", "two", "three"])
def test_brands_stay_until_the_module_ends(farm_db: sqlite3.Connection, name: str) -> None:
    before = brands(farm_db)
    with farm_db:
        farm_db.execute("INSERT INTO brand (name) VALUES (?)", (name,))
    assert brands(farm_db) == before + 1
    assert 20 <= before <= 22
