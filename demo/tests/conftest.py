"""Fixtures of the demo; those of the farm (`farm_db`, `farm_ring`, …) need no import."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from depot.connecting import connect, make_engine


@pytest.fixture
def shop() -> Iterator[sqlite3.Connection]:
    """A connection as the application makes it, which knows nothing of the farm."""
    conn = connect()
    yield conn
    conn.close()


@pytest.fixture(scope="session")
def engine() -> Iterator[sa.Engine]:
    """One engine for all tests of this process."""
    engine = make_engine()
    yield engine
    engine.dispose()
