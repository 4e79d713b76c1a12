"""Random statements on random connections and threads, against a slow oracle that is right.

The oracle is a plain database in which the same statements are executed one after the other, with
all rows of all tables counted after each of them. `FARM_MODEL_EXAMPLES` is how many runs are made.
"""

from __future__ import annotations

import collections
import contextlib
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from snapfarm_worker.anomaly import Anomaly, AnomalyKind
from snapfarm_worker.courier import open_private
from snapfarm_worker.ring import ResetPolicy, RingKind
from support.corpus.empty_reads import EMPTY
from support.corpus.stage import GOLDEN, Stage

_T = TypeVar("_T")
EXAMPLES = int(os.environ.get("FARM_MODEL_EXAMPLES", "40"))

TABLES = ("customers", "orders", "log", "pairs", "empty")
ROWS = {name: GOLDEN.manifest.rows.get(name, 0) for name in TABLES}

#: Reads, with the tables that each of them reads.
READS: dict[str, frozenset[str]] = {
    **{f"SELECT * FROM {t}": frozenset({t}) for t in TABLES},
    **{f"SELECT count(*) FROM {t}": frozenset({t}) for t in TABLES},
    **{f"SELECT EXISTS (SELECT 1 FROM {t} WHERE 0)": frozenset({t}) for t in TABLES},
    "SELECT c.name FROM customers c LEFT JOIN orders o ON o.customer = c.id": frozenset(
        {"customers", "orders"}
    ),
    "SELECT * FROM totals": frozenset({"orders"}),
    "WITH p AS (SELECT * FROM pairs) SELECT count(*) FROM p, log": frozenset({"pairs", "log"}),
    "SELECT id FROM customers UNION ALL SELECT id FROM orders": frozenset({"customers", "orders"}),
    "WITH orders AS (SELECT 1) SELECT count(*) FROM orders": frozenset(),
    "WITH orders AS (SELECT id FROM customers) SELECT 1 FROM orders o, log": frozenset(
        {"customers", "log"}
    ),
    "SELECT count(*) FROM (SELECT count(*) FROM pairs) AS log": frozenset({"pairs"}),
    "SELECT total + (SELECT count(*) FROM log) FROM orders": frozenset({"orders", "log"}),
    "INSERT INTO empty SELECT a FROM pairs": frozenset({"pairs"}),
    "INSERT INTO empty SELECT 1 FROM customers WHERE id IN (SELECT customer FROM orders)": (
        frozenset({"customers", "orders"})
    ),
    "UPDATE customers SET name = 'x' WHERE id = 3": frozenset({"customers"}),
    "UPDATE pairs SET b = 'z' WHERE a = 'nobody'": frozenset({"pairs"}),
}
#: Statements that change rows: the table that each is told to remove from, if any, and those read.
CHANGES: dict[str, tuple[str, frozenset[str]]] = {
    **{f"DELETE FROM {t}": (t, frozenset()) for t in TABLES},
    **{f"DELETE FROM {t} WHERE 1 = 0": (t, frozenset()) for t in TABLES},
    "DELETE FROM customers WHERE id < 15": ("customers", frozenset()),
    "WITH c AS (SELECT id FROM customers) DELETE FROM orders WHERE customer IN c": (
        "orders",
        frozenset({"customers"}),
    ),
    "DELETE FROM empty WHERE x IN (SELECT id FROM orders)": ("empty", frozenset({"orders"})),
    "DELETE FROM pairs WHERE a IN (SELECT name FROM customers) RETURNING a": (
        "pairs",
        frozenset({"customers"}),
    ),
    "INSERT INTO orders(customer, total) VALUES (3, 1)": ("", frozenset()),
    "INSERT INTO orders(customer, total) VALUES (3, 1) RETURNING id": ("", frozenset()),
    "INSERT INTO customers(name) VALUES ('new')": ("", frozenset()),
    "INSERT OR REPLACE INTO customers VALUES (3, 'three')": ("", frozenset()),
    "INSERT OR IGNORE INTO pairs VALUES ('a', 'b')": ("", frozenset()),
    "INSERT INTO pairs VALUES ('a', 'b') ON CONFLICT DO UPDATE SET b = b || excluded.b": (
        "",
        frozenset(),
    ),
    "REPLACE INTO pairs SELECT name, name FROM customers": ("", frozenset({"customers"})),
    "DELETE FROM customers WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer = customers.id)": (
        "customers",
        frozenset({"orders"}),
    ),
    "WITH orders AS (SELECT 1) DELETE FROM log WHERE id = (SELECT count(*) FROM orders)": (
        "log",
        frozenset(),
    ),
}

#: What ends a transaction of the program's own.
ENDS = ("COMMIT", "ROLLBACK")


class Plain:
    """The oracle of one database: what it holds, and what this test has removed from it."""

    def __init__(self, image: bytes | bytearray) -> None:
        self.conn = open_private(image)
        self.removed: set[str] = set()
        self.counts = self.counted()

    def counted(self) -> dict[str, int]:
        """Return the rows of each table that is there."""
        there = {name for (name,) in self.conn.execute("SELECT name FROM sqlite_schema")}
        return {
            table: int(self.conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
            for table in TABLES
            if table in there
        }

    def run(self, sql: str, *, keys: bool, removes: str = "") -> bool:
        """Execute a statement; tell whether it succeeded."""
        self.conn.execute(f"PRAGMA foreign_keys = {int(keys)}")
        try:
            self.conn.execute(sql).fetchall()
        except sqlite3.Error:
            return False
        before, self.counts = self.counts, self.counted()
        if sql not in ("ROLLBACK", "COMMIT", "BEGIN"):
            if removes:
                self.removed.add(removes)
            self.removed |= {t for t, rows in self.counts.items() if rows < before.get(t, 0)}
        return True

    def read_empty(self, tables: frozenset[str]) -> list[str]:
        """Return the tables of a read that are empty and should not be."""
        return [
            table
            for table in tables
            if ROWS[table] and self.counts.get(table) == 0 and table not in self.removed
        ]


class Session:
    """One connection of the program, on a thread of its own or on the main one."""

    def __init__(
        self, stage: Stage, *, keys: bool = False, threaded: bool = False, implicit: bool = False
    ) -> None:
        self.keys = keys
        #: Python begins transactions; those that the program has not asked for end at once.
        self._level: Literal["DEFERRED"] | None = "DEFERRED" if implicit else None
        self._executor = ThreadPoolExecutor(1) if threaded else None
        self.conn = self.do(
            lambda: sqlite3.connect(stage.uri, uri=True, isolation_level=self._level, timeout=0)
        )
        #: The program is in a transaction of its own.
        self._begun = False
        self.do(lambda: self.conn.execute(f"PRAGMA foreign_keys = {int(keys)}").fetchall())
        #: Its own database, once it has left the ring.
        self.own: Plain | None = None

    def do(self, work: Callable[[], _T]) -> _T:
        """Do something on the connection's thread."""
        return work() if self._executor is None else self._executor.submit(work).result()

    def run(self, sql: str) -> bool:
        """Execute a statement; tell whether it succeeded."""
        try:
            self.do(lambda: self.conn.execute(sql).fetchall())
        except sqlite3.Error:
            return False
        finally:
            self._begun = sql.startswith("BEGIN") or (self._begun and sql not in ENDS)
            self.settle()
        return True

    def settle(self) -> None:
        """Commit what is in no transaction of the program's own."""
        if not self._begun:
            self.do(self.conn.commit)

    def close(self) -> None:
        """Close the connection and end the thread."""
        self.do(self.conn.close)
        if self._executor is not None:
            self._executor.shutdown()


class Machine(RuleBasedStateMachine):
    """Tests of one suite, under a policy by which they find what others have left."""

    @initialize(
        ring=st.sampled_from([RingKind.SHARED_CACHE, RingKind.MEMDB]),
        policy=st.sampled_from([ResetPolicy.MODULE, ResetPolicy.NEVER]),
        marked=st.booleans(),
    )
    def begin(self, ring: RingKind, policy: ResetPolicy, marked: bool) -> None:
        """Open the connections, outside of any test; the policy is the suite's, or a marker's."""
        self.policy = policy
        self.stage = Stage(ResetPolicy.TEST if marked else policy, kind=ring)
        self.plain = Plain(GOLDEN.data)
        self.sessions = [
            Session(self.stage, implicit=True),
            Session(self.stage, keys=True, threaded=True),
            Session(self.stage, keys=True, implicit=True),
        ]
        #: The session that is in a transaction.
        self.busy: Session | None = None
        self.expected: collections.Counter[tuple[str, str]] = collections.Counter()
        #: By table that is empty: the test that committed that.
        self.polluters: dict[str, str] = {}
        self.committed = dict(self.plain.counts)
        self.number = 0
        self.start()

    def start(self) -> None:
        """Begin a test."""
        self.number += 1
        self.stage.databases.begin_test(self.name, self.policy)
        self.expected.clear()
        self.plain.removed.clear()

    @property
    def name(self) -> str:
        """The test that runs."""
        return f"t.py::{self.number}"

    def choose(self, index: int) -> Session:
        """Return the session that may go on: one in a transaction holds locks."""
        chosen = self.sessions[index]
        if self.busy is not None and chosen.own is None:
            return self.busy
        return chosen

    def execute(self, index: int, sql: str, reads: frozenset[str], removes: str = "") -> None:
        """Execute a statement in the ring and in the oracle, and note what has to be reported."""
        session = self.choose(index)
        plain = session.own or self.plain
        succeeded = session.run(sql)
        assert plain.run(sql, keys=session.keys, removes=removes) == succeeded
        if succeeded:
            for table in plain.read_empty(reads):
                by = "" if session.own else self.polluters.get(table, "")
                self.expected[table, by] += 1

    @rule(index=st.integers(0, 2), sql=st.sampled_from(sorted(READS)))
    def read(self, index: int, sql: str) -> None:
        """Read."""
        self.execute(index, sql, READS[sql])

    @rule(index=st.integers(0, 2), sql=st.sampled_from(sorted(CHANGES)))
    def change(self, index: int, sql: str) -> None:
        """Change rows."""
        removes, reads = CHANGES[sql]
        self.execute(index, sql, reads, removes)

    @rule(index=st.integers(0, 2))
    def make_anew(self, index: int) -> None:
        """Drop a table and make it again."""
        self.execute(index, "DROP TABLE pairs", frozenset(), "pairs")
        made = "CREATE TABLE IF NOT EXISTS pairs(a TEXT, b TEXT, PRIMARY KEY (a, b))"
        self.execute(index, made, frozenset())

    @precondition(lambda self: self.busy is None)
    @rule(index=st.integers(0, 2), gone=st.sampled_from(TABLES), read=st.sampled_from(TABLES))
    def run_script(self, index: int, gone: str, read: str) -> None:
        """Delete and read in a script."""
        session = self.sessions[index]
        plain = session.own or self.plain
        deletes, reads = f"DELETE FROM {gone}", f"SELECT * FROM {read}"
        if gone not in plain.counts or read not in plain.counts:
            return
        session.do(lambda: session.conn.executescript(f"{deletes}; {reads};"))
        plain.run(deletes, keys=session.keys, removes=gone)
        for table in plain.read_empty(frozenset({read})):
            self.expected[table, "" if session.own else self.polluters.get(table, "")] += 1

    @precondition(lambda self: self.busy is None)
    @rule(index=st.integers(0, 2), ids=st.lists(st.integers(1, 20), max_size=3))
    def delete_many(self, index: int, ids: list[int]) -> None:
        """Delete with executemany."""
        session = self.sessions[index]
        plain = session.own or self.plain
        sql = "DELETE FROM customers WHERE id = ?"
        rows = [(each,) for each in ids]
        session.do(lambda: session.conn.executemany(sql, rows))
        session.settle()
        for each in ids:
            plain.run(sql.replace("?", str(each)), keys=session.keys, removes="customers")
        if not ids:
            plain.removed.add("customers")

    @precondition(lambda self: self.busy is None)
    @rule(index=st.integers(0, 2))
    def open_transaction(self, index: int) -> None:
        """Begin a transaction."""
        session = self.sessions[index]
        if session.own is None:
            self.busy = session
            self.execute(index, "BEGIN IMMEDIATE", frozenset())

    @precondition(lambda self: self.busy is not None)
    @rule(how=st.sampled_from(ENDS))
    def end_transaction(self, how: str) -> None:
        """End the transaction."""
        assert self.busy is not None
        self.execute(self.sessions.index(self.busy), how, frozenset())
        self.busy = None

    @precondition(lambda self: self.busy is None)
    @rule(index=st.integers(1, 2))
    def leave(self, index: int) -> None:
        """Leave the ring, for an empty database with some of the tables."""
        session = self.sessions[index]
        if session.own is None:
            session.do(lambda: session.conn.deserialize(EMPTY))
            session.own = Plain(EMPTY)

    @rule()
    def next_test(self) -> None:
        """End the test, compare, and begin another one."""
        if self.busy is not None:
            self.end_transaction("ROLLBACK")
        found = self.stage.databases.end_test(self.name, self.policy, "test").anomalies
        assert reported(found) == self.expected
        for table, rows in self.plain.counts.items():
            if rows:
                self.polluters.pop(table, None)
            elif self.committed.get(table, 0) or table not in self.polluters:
                self.polluters[table] = self.name
        self.committed = dict(self.plain.counts)
        for session in self.sessions:
            if session.own is not None:
                session.own.removed.clear()
        self.start()

    @invariant()
    def holds_the_same(self) -> None:
        """The ring and the oracle have the same rows, or the comparison would mean nothing."""
        if getattr(self, "number", 0) and self.busy is None:
            with contextlib.closing(self.stage.ring.connect()) as conn:
                for table, rows in self.plain.counts.items():
                    sql = f"SELECT count(*) FROM {table}"
                    # By a plain cursor, of which the sensors are not told.
                    assert sqlite3.Cursor(conn).execute(sql).fetchone() == (rows,)

    def teardown(self) -> None:
        """Compare the last test, too."""
        if not getattr(self, "number", 0):
            return
        try:
            self.next_test()
        finally:
            for session in self.sessions:
                session.close()
                if session.own is not None:
                    session.own.conn.close()
            self.plain.conn.close()
            self.stage.close()


def reported(found: tuple[Anomaly, ...]) -> collections.Counter[tuple[str, str]]:
    """Return how often each table was reported, with the test that is to blame."""
    counted: collections.Counter[tuple[str, str]] = collections.Counter()
    for anomaly in found:
        if anomaly.kind is AnomalyKind.EMPTY_TABLE_READ:
            counted[anomaly.table, anomaly.polluter] += anomaly.count
    return counted


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
