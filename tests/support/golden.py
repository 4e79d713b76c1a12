"""A small golden database with the constructs that matter: keys, triggers, views, a large table."""

from __future__ import annotations

import contextlib
import sqlite3

from snapfarm_worker.snapshot import Snapshot, take

SCHEMA = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    customer INTEGER NOT NULL REFERENCES customers(id) ON DELETE CASCADE,
    total REAL NOT NULL
);
CREATE INDEX orders_customer ON orders(customer);
CREATE TABLE log (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT);
CREATE TABLE empty (x);
CREATE TABLE "odd ""name"" é" (v TEXT) STRICT;
CREATE TABLE pairs (a TEXT, b TEXT, PRIMARY KEY (a, b)) WITHOUT ROWID;
CREATE VIEW totals AS SELECT customer, sum(total) AS total FROM orders GROUP BY customer;
CREATE TRIGGER orders_logged AFTER INSERT ON orders BEGIN
    INSERT INTO log(text) VALUES ('order; ' || new.id);
END;
PRAGMA user_version = 7;
"""

CUSTOMERS = 20
ORDERS = 200


def golden(database: str = "default", *, before: str = "") -> Snapshot:
    """Return a snapshot of the sample database; `before` is SQL that runs first."""
    with contextlib.closing(sqlite3.Connection(":memory:", isolation_level=None)) as conn:
        conn.executescript(before + SCHEMA)
        conn.executemany(
            "INSERT INTO customers VALUES (?, ?)",
            [(n, f"customer {n}") for n in range(1, CUSTOMERS + 1)],
        )
        conn.executemany(
            "INSERT INTO orders(customer, total) VALUES (?, ?)",
            [(1 + n % CUSTOMERS, n / 4) for n in range(ORDERS)],
        )
        conn.execute("INSERT INTO pairs VALUES ('a', 'b')")
        conn.execute("""INSERT INTO "odd ""name"" é" VALUES ('ü')""")
        return take(conn, database)


def image(script: str) -> bytes:
    """Return the bytes of a database that a script makes."""
    with contextlib.closing(sqlite3.Connection(":memory:", isolation_level=None)) as conn:
        conn.executescript(script)
        return conn.serialize()
