"""Tests that read: nothing has to be reset after them."""

from __future__ import annotations

import sqlite3

import pytest

ROWS = {
    "country": 8,
    "customer": 300,
    "address": 600,
    "product": 400,
    "price": 800,
    "stock": 800,
    "sales_order": 600,
    "invoice": 420,
    "payment": 420,
    "ledger_entry": 840,
    "shipment": 240,
    "stock_move": 0,
}


@pytest.mark.parametrize(("table", "rows"), ROWS.items())
def test_a_table_has_its_rows(farm_db: sqlite3.Connection, table: str, rows: int) -> None:
    assert farm_db.execute(f"SELECT count(*) FROM {table}").fetchone() == (rows,)


@pytest.mark.parametrize("country", ["AT", "CH", "DE", "FR", "IT", "JP", "NL", "SE"])
def test_every_country_has_two_regions_and_a_tax_rate(
    farm_db: sqlite3.Connection, country: str
) -> None:
    found = farm_db.execute(
        "SELECT (SELECT count(*) FROM region WHERE country = :c),"
        " (SELECT count(*) > 0 FROM tax_rate WHERE country = :c)",
        {"c": country},
    ).fetchone()
    assert found == (2, 1)


@pytest.mark.parametrize(
    ("status", "orders"), [("open", 120), ("paid", 180), ("shipped", 240), ("cancelled", 60)]
)
def test_orders_by_status(farm_db: sqlite3.Connection, status: str, orders: int) -> None:
    found = farm_db.execute("SELECT count(*) FROM sales_order WHERE status = ?", (status,))
    assert found.fetchone() == (orders,)


def test_the_ledger_is_balanced(farm_db: sqlite3.Connection) -> None:
    assert farm_db.execute("SELECT sum(cents) FROM ledger_entry").fetchone() == (0,)


def test_no_invoice_is_open(farm_db: sqlite3.Connection) -> None:
    found = farm_db.execute("SELECT count(*) FROM invoice_balance WHERE open_cents <> 0")
    assert found.fetchone() == (0,)


def test_the_best_customers_are_sorted_by_what_they_bought(farm_db: sqlite3.Connection) -> None:
    rows = farm_db.execute(
        "SELECT cents FROM best_customer ORDER BY cents DESC LIMIT 10"
    ).fetchall()
    assert len(rows) == 10
    assert rows == sorted(rows, reverse=True)


def test_a_name_search_uses_its_index(farm_db: sqlite3.Connection) -> None:
    plan = farm_db.execute("EXPLAIN QUERY PLAN SELECT id FROM customer WHERE name = 'Ada Abel'")
    assert "customer_by_name" in plan.fetchone()[3]


def test_foreign_keys_hold(farm_db: sqlite3.Connection) -> None:
    assert farm_db.execute("PRAGMA foreign_key_check").fetchall() == []
