"""Faults: writes that are lost, and what is left where nothing is reset after a test."""

from __future__ import annotations

import asyncio
import functools
import sqlite3

import aiosqlite

from snapfarm_worker.anomaly import AnomalyKind
from snapfarm_worker.ring import ResetPolicy
from support.corpus.empty_reads import EMPTY, sql
from support.corpus.held import INSERT, READ
from support.corpus.stage import Case, Stage, opened

K = AnomalyKind


def closes_without_commit(stage: Stage, *statements: str, script: str = "") -> None:
    """Forget to commit."""
    conn = sqlite3.connect(stage.uri, uri=True)
    for statement in statements:
        conn.execute(statement).fetchall()
    if script:
        conn.executescript(script)
    conn.close()


def closes_without_commit_on_a_loop(stage: Stage) -> None:
    """Forget to commit with aiosqlite."""

    async def main() -> None:
        async with aiosqlite.connect(stage.uri, uri=True) as conn:
            await conn.execute(INSERT)

    asyncio.run(main())


def writes_after_leaving(stage: Stage, *, autocommit: bool = False) -> None:
    """Write on a connection that has left the ring."""
    with opened(stage, isolation_level=None if autocommit else "") as conn:
        conn.deserialize(EMPTY)
        conn.execute("INSERT INTO orders VALUES (1, 1, 1)")
        conn.commit()


def writes_many_without_commit(stage: Stage) -> None:
    """Forget to commit what executemany has inserted."""
    with opened(stage) as conn:
        conn.executemany(INSERT.replace("1, 1", "?, ?"), [(1, 2), (2, 3)])


CASES = [
    Case(
        "lost-insert",
        (K.LOST_WRITE,),
        lambda stage: closes_without_commit(stage, INSERT),
    ),
    Case(
        "lost-delete",
        (K.LOST_WRITE,),
        lambda stage: closes_without_commit(stage, READ, "DELETE FROM pairs"),
    ),
    Case(
        "lost-begin",
        (K.LOST_WRITE,),
        lambda stage: closes_without_commit(stage, "BEGIN IMMEDIATE", INSERT),
    ),
    Case(
        "lost-script",
        (K.LOST_WRITE,),
        lambda stage: closes_without_commit(stage, script=f"BEGIN; {INSERT};"),
    ),
    Case(
        "lost-returning",
        (K.LOST_WRITE,),
        lambda stage: closes_without_commit(stage, f"{INSERT} RETURNING id"),
    ),
    Case("lost-many", (K.LOST_WRITE,), writes_many_without_commit),
    Case("lost-aiosqlite", (K.LOST_WRITE,), closes_without_commit_on_a_loop),
    Case("lost-outside", (K.LEFT_RING, K.LOST_WRITE), writes_after_leaving),
    Case(
        "lost-outside-autocommit",
        (K.LEFT_RING, K.LOST_WRITE),
        functools.partial(writes_after_leaving, autocommit=True),
    ),
    *(
        Case(f"left-{name}", (K.LEAKED_WRITE,), sql(statement), policy=ResetPolicy.MODULE)
        for name, statement in {
            "insert": INSERT,
            "delete": "DELETE FROM orders WHERE id = 1",
            "delete-all": "DELETE FROM pairs",
            "update": "UPDATE customers SET name = 'x' WHERE id = 1",
            "replace": "REPLACE INTO pairs VALUES ('a', 'c')",
            "exchange": "UPDATE orders SET id = id + 1000",
            "upsert": "INSERT INTO customers VALUES (1, 'y') ON CONFLICT DO UPDATE SET name='y'",
        }.items()
    ),
    *(
        Case(f"schema-{name}", (K.SCHEMA_CHANGE,), sql(*statements), policy=ResetPolicy.NEVER)
        for name, statements in {
            "table": ("CREATE TABLE extra(x)",),
            "index": ("CREATE INDEX more ON orders(total)",),
            "view": ("CREATE VIEW seen AS SELECT 1",),
            "column": ("ALTER TABLE orders ADD COLUMN note",),
            "rename": ("ALTER TABLE empty RENAME TO void",),
            "trigger": ("DROP TRIGGER orders_logged",),
            "drop": ("DROP TABLE empty",),
        }.items()
    ),
]
