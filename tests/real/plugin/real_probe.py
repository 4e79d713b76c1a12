"""A pytest plugin that uses the golden database beside every test of a foreign suite.

Before each test it looks whether the ring is pristine, and then leaves a committed row there: so
the suite runs with the ring's connections, sensors and resets at work all the time. A ring that is
not pristine fails the test, which shows as a different outcome.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3

import pytest

#: Rows of the table `probe` in the golden database.
ROWS = 3


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Check the ring, and soil it; in workers only, where the farm has set FARM_URI."""
    if not hasattr(item.config, "workerinput"):
        return
    with contextlib.closing(sqlite3.connect(os.environ["FARM_URI"], uri=True)) as conn:
        if type(conn) is sqlite3.Connection:
            pytest.fail("sqlite3.connect(FARM_URI) did not join the ring", pytrace=False)
        (rows,) = conn.execute("SELECT COUNT(*) FROM probe").fetchone()
        if rows != ROWS:
            pytest.fail(f"the ring has {rows} rows, the golden database {ROWS}", pytrace=False)
        conn.execute("INSERT INTO probe(name) VALUES (?)", (item.nodeid,))
        conn.commit()
