"""Legitimate programs that come after a test which has left the database changed."""

from __future__ import annotations

import contextlib
import sqlite3

from snapfarm_worker.ring import ResetPolicy
from snapfarm_worker.widefixtures import WideFixture
from support.corpus.empty_reads import deletes, drops, sql
from support.corpus.removals import COUNT, READ
from support.corpus.stage import Case, Stage, opened
from support.golden import CUSTOMERS


def refills(stage: Stage) -> None:
    """Empty a table that an earlier test has emptied, and use it."""
    with opened(stage) as conn:
        conn.execute("DELETE FROM orders")
        assert conn.execute(READ).fetchall() == []
        conn.execute("INSERT INTO orders(customer, total) VALUES (1, 1)")
        conn.commit()
        assert conn.execute(COUNT).fetchone() == (1,)


def fills_first(stage: Stage) -> None:
    """Insert before anything is read."""
    with opened(stage) as conn:
        conn.execute("INSERT INTO orders(customer, total) VALUES (1, 1)")
        conn.commit()
        assert conn.execute(COUNT).fetchone() == (1,)


def reads_other_tables(stage: Stage) -> None:
    """Read what nobody has emptied, with a WHERE that matches nothing, too."""
    with opened(stage) as conn:
        assert conn.execute("SELECT * FROM customers WHERE id < 0").fetchall() == []
        assert conn.execute("SELECT count(*) FROM customers").fetchone() == (CUSTOMERS,)
        conn.execute("CREATE TEMP TABLE orders(id)")
        assert conn.execute(COUNT).fetchone() == (0,)


def counts_what_has_its_name(stage: Stage) -> None:
    """Count common table expressions of the name of a table that an earlier test has emptied."""
    with opened(stage) as conn:
        for text in (
            "WITH orders AS (SELECT 1) SELECT count(*) FROM orders",
            "WITH Orders(n) AS (SELECT id FROM customers) SELECT EXISTS (SELECT 1 FROM orders)",
            "WITH RECURSIVE orders(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM orders LIMIT 9)"
            " SELECT count(*) FROM orders, customers",
        ):
            assert conn.execute(text).fetchone()[0] > 0


def deletes_a_parent(stage: Stage) -> None:
    """Delete where a foreign key leads to a table that an earlier test has emptied."""
    with opened(stage) as conn:
        conn.execute("PRAGMA foreign_keys = ON")
        conn.execute("DELETE FROM customers WHERE id = 1")
        conn.execute("UPDATE customers SET id = 99 WHERE id = 2")
        conn.rollback()


def deletes_parents_in_scripts(stage: Stage) -> None:
    """The same, where something else is read besides, in scripts and in subqueries."""
    with opened(stage) as conn:
        conn.executescript(
            "PRAGMA foreign_keys = ON; DELETE FROM customers; SELECT * FROM customers;"
        )
        conn.execute("DELETE FROM customers WHERE name IN (SELECT a FROM pairs)")
        conn.rollback()


def resets_and_deletes(stage: Stage) -> None:
    """Reset the database in the middle, change its schema, and delete rows by a foreign key."""
    stage.ring.reset()
    with opened(stage) as conn:
        conn.execute("PRAGMA foreign_keys = ON")
        conn.executescript("CREATE TABLE passing(x); DROP TABLE passing")
        assert conn.execute(COUNT).fetchone() != (0,)
        conn.execute("DELETE FROM customers")
        assert conn.execute(COUNT).fetchone() == (0,)
        conn.rollback()


def sets_up_in_a_module(stage: Stage) -> None:
    """Empty a table in a fixture of wider scope."""
    with stage.databases.wide_fixture(WideFixture("module fixture 'empty'")):
        deletes(stage)


def makes_it_anew(stage: Stage) -> None:
    """Make a table that an earlier test has dropped."""
    with opened(stage) as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS orders(id, customer, total)")
        assert conn.execute(READ).fetchall() == []
        conn.execute("DROP TABLE orders")
        with contextlib.suppress(sqlite3.OperationalError):
            conn.execute(READ)


class Keeping:
    """A program that is run as two tests, and keeps its connection from one to the other."""

    def __init__(self, *statements: str) -> None:
        self._statements = statements

    def __call__(self, stage: Stage) -> None:
        conn: sqlite3.Connection | None = stage.kept
        if conn is None:
            conn = stage.kept = sqlite3.connect(stage.uri, uri=True)
            stage.cleanups.callback(conn.close)
        for statement in self._statements:
            conn.execute(statement).fetchall()
        assert conn.execute(READ).fetchall() == []
        conn.commit()


CASES = [
    *(
        Case(f"{name}-again", (), program, (program,), ResetPolicy.MODULE)
        for name, program in {
            "removes-all": Keeping("DELETE FROM orders"),
            "removes-where": Keeping("DELETE FROM orders WHERE id > 0"),
            "removes-returning": Keeping("DELETE FROM orders RETURNING id"),
            "removes-begin": Keeping("BEGIN", "DELETE FROM orders"),
            "removes-savepoint": Keeping("SAVEPOINT a", "DELETE FROM orders", "RELEASE a"),
        }.items()
    ),
    *(
        Case(f"{program.__name__}-after", (), program, (deletes,), ResetPolicy.MODULE)
        for program in (
            refills,
            fills_first,
            reads_other_tables,
            counts_what_has_its_name,
            resets_and_deletes,
            deletes_a_parent,
            deletes_parents_in_scripts,
        )
    ),
    Case("after-a-fixture", (), sql(READ), (sets_up_in_a_module,), ResetPolicy.MODULE),
    Case("makes_it_anew", (), makes_it_anew, (drops,), ResetPolicy.MODULE),
    Case("after-a-reset", (), sql(READ), (deletes,), ResetPolicy.TEST),
]
