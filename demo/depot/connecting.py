"""Where the application gets its connections from: one address in the environment."""

from __future__ import annotations

import os
import sqlite3

import sqlalchemy as sa


def connect() -> sqlite3.Connection:
    """Return a connection to the shop's database, with foreign keys enforced."""
    conn = sqlite3.connect(os.environ["FARM_URI"], uri=True)
    conn.execute("PRAGMA foreign_keys = ON")
    return conn


def make_engine() -> sa.Engine:
    """Return an engine on the same database; NullPool closes a connection as soon as it is free."""
    return sa.create_engine(
        f"sqlite:///{os.environ['FARM_URI']}&uri=true", poolclass=sa.pool.NullPool
    )
