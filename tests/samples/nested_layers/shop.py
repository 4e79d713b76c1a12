"""The program: opens connections of its own, and commits."""

import contextlib
import os
import sqlite3


def connect(variable="FARM_URI"):
    return contextlib.closing(sqlite3.connect(os.environ[variable], uri=True))


def write(text):
    with connect() as conn, conn:
        conn.execute("INSERT INTO note (text) VALUES (?)", (text,))


def erase(text):
    with connect() as conn, conn:
        conn.execute("DELETE FROM note WHERE text = ?", (text,))


def notes():
    with connect() as conn:
        return [text for (text,) in conn.execute("SELECT text FROM note ORDER BY id")]


def record(text):
    with connect("FARM_URI_AUDIT") as conn, conn:
        conn.execute("INSERT INTO entry (text) VALUES (?)", (text,))


def entries():
    with connect("FARM_URI_AUDIT") as conn:
        return [text for (text,) in conn.execute("SELECT text FROM entry ORDER BY id")]


def buy(customer, article, number):
    with connect() as conn, conn:
        conn.execute("PRAGMA foreign_keys = ON")
        conn.execute(
            "INSERT INTO purchase (customer, article, number) VALUES (?, ?, ?)",
            (customer, article, number),
        )


def turnover():
    with connect() as conn:
        return conn.execute(
            "SELECT coalesce(sum(number * cents), 0) FROM purchase JOIN price USING (article)"
        ).fetchone()[0]


def prices():
    with connect() as conn:
        return dict(conn.execute("SELECT article, cents FROM price"))


def customers():
    with connect() as conn:
        return [name for (name,) in conn.execute("SELECT name FROM customer ORDER BY id")]
