"""Tests of invoices and payments, with savepoints and two connections."""

from __future__ import annotations

import sqlite3

import pytest
from depot import shop as depot


@pytest.fixture
def invoice(shop: sqlite3.Connection) -> int:
    """An open invoice of a new order."""
    return depot.bill(shop, depot.place_order(shop, 1, {10: 2, 20: 1}))


def test_a_payment_in_full(shop: sqlite3.Connection, invoice: int) -> None:
    depot.pay(shop, invoice, depot.balance(shop, invoice))
    assert depot.balance(shop, invoice) == 0
    assert depot.status(shop, 601) == "paid"


@pytest.mark.parametrize("parts", [2, 3, 4, 5])
def test_a_payment_in_parts(shop: sqlite3.Connection, invoice: int, parts: int) -> None:
    due = depot.balance(shop, invoice)
    for _ in range(parts - 1):
        depot.pay(shop, invoice, due // parts)
        assert depot.status(shop, 601) == "open"
    depot.pay(shop, invoice, depot.balance(shop, invoice))
    assert depot.status(shop, 601) == "paid"


def test_nobody_can_pay_too_much(shop: sqlite3.Connection, invoice: int) -> None:
    due = depot.balance(shop, invoice)
    with pytest.raises(sqlite3.IntegrityError, match="higher than what is open"):
        depot.pay(shop, invoice, due + 1)
    assert depot.balance(shop, invoice) == due


def test_every_payment_is_booked_twice(shop: sqlite3.Connection, invoice: int) -> None:
    depot.pay(shop, invoice, 100)
    booked = shop.execute("SELECT ledger_account, cents FROM ledger_entry WHERE payment = 421")
    assert booked.fetchall() == [(1000, 100), (4000, -100)]


def test_an_order_is_billed_once(shop: sqlite3.Connection, invoice: int) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        depot.bill(shop, 601)


@pytest.mark.parametrize("keep", [True, False])
def test_a_savepoint(farm_db: sqlite3.Connection, keep: bool) -> None:
    farm_db.execute("BEGIN")
    farm_db.execute("INSERT INTO brand (name) VALUES ('before')")
    farm_db.execute("SAVEPOINT inner_one")
    farm_db.execute("INSERT INTO brand (name) VALUES ('inside')")
    farm_db.execute("RELEASE inner_one" if keep else "ROLLBACK TO inner_one")
    farm_db.commit()
    names = farm_db.execute("SELECT name FROM brand WHERE id > 20 ORDER BY id").fetchall()
    assert names == ([("before",), ("inside",)] if keep else [("before",)])


def test_nested_savepoints(farm_db: sqlite3.Connection) -> None:
    farm_db.execute("SAVEPOINT a")
    farm_db.execute("INSERT INTO role (name) VALUES ('a')")
    farm_db.execute("SAVEPOINT b")
    farm_db.execute("INSERT INTO role (name) VALUES ('b')")
    farm_db.execute("ROLLBACK TO b")
    farm_db.execute("RELEASE a")
    assert farm_db.execute("SELECT count(*) FROM role").fetchone() == (4,)


def test_what_is_not_committed_is_rolled_back(farm_db: sqlite3.Connection) -> None:
    # farm_db is rolled back after the test, as every DB-API connection is that is closed.
    farm_db.execute("DELETE FROM refund")
    farm_db.execute("UPDATE payment SET cents = 1")


def test_payments_are_as_ever(farm_db: sqlite3.Connection) -> None:
    assert farm_db.execute("SELECT count(*) FROM payment WHERE cents = 1").fetchone() == (0,)


def test_a_stocktaking_that_nobody_finishes(farm_db: sqlite3.Connection) -> None:
    """Pass, and be wrong: this test is here to show what the farm says of such a test."""
    farm_db.execute("BEGIN IMMEDIATE")
    farm_db.execute("UPDATE stock SET quantity = 0")
    assert depot.available(farm_db, 1) == 0


def test_the_stock_is_still_there(farm_db: sqlite3.Connection) -> None:
    assert depot.available(farm_db, 1) > 0
