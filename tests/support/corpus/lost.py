"""Faults: writes that are lost, and what is left where nothing is reset after a test."""

from __future__ import annotations

import asyncio
import functools
import sqlite3

import aiosqlite

from snapfarm_worker.anomaly import AnomalyKind, Severity
from snapfarm_worker.ring import ResetPolicy
from support.corpus.empty_reads import EMPTY, sql
from support.corpus.held import INSERT, READ
from support.corpus.stage import Case, Program, Stage, opened

K = AnomalyKind


def closes_without_commit(
    stage: Stage, *, statements: tuple[str, ...] = (), script: str = ""
) -> None:
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


def uncommitted(name: str, program: Program) -> Case:
    """Return the case of a program that forgets to commit before it closes a connection."""
    return Case(name, (K.LOST_WRITE,), program, severity=Severity.WARNING)


UNCOMMITTED: dict[str, Program] = {
    "insert": functools.partial(closes_without_commit, statements=(INSERT,)),
    "delete": functools.partial(closes_without_commit, statements=(READ, "DELETE FROM pairs")),
    "begin": functools.partial(closes_without_commit, statements=("BEGIN IMMEDIATE", INSERT)),
    "returning": functools.partial(closes_without_commit, statements=(f"{INSERT} RETURNING id",)),
    "script": functools.partial(closes_without_commit, script=f"BEGIN; {INSERT};"),
    "many": writes_many_without_commit,
    "aiosqlite": closes_without_commit_on_a_loop,
}

CASES = [
    *(uncommitted(f"lost-{name}", program) for name, program in UNCOMMITTED.items()),
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
