"""Tests of code that commits. Each starts from the golden database, whatever the last one did."""

from __future__ import annotations

import sqlite3

import pytest
from depot import shop as depot


def test_an_order_takes_from_stock(shop: sqlite3.Connection) -> None:
    before = depot.available(shop, 7)
    order = depot.place_order(shop, 1, {7: 3})
    assert depot.available(shop, 7) == before - 3
    assert depot.status(shop, order) == "open"


@pytest.mark.parametrize("product", [1, 2, 3, 5, 8, 13, 21, 34, 55, 89])
def test_an_order_gets_the_next_number(shop: sqlite3.Connection, product: int) -> None:
    # Every one of these commits an order: none sees that of another.
    assert depot.place_order(shop, 2, {product: 1}) == 601


def test_an_order_of_several_products(shop: sqlite3.Connection) -> None:
    order = depot.place_order(shop, 3, {1: 1, 2: 2, 3: 3})
    lines = shop.execute("SELECT lines, units FROM order_total WHERE sales_order = ?", (order,))
    assert lines.fetchone() == (3, 6)


def test_stock_moves_are_written_by_a_trigger(shop: sqlite3.Connection) -> None:
    depot.place_order(shop, 3, {1: 4})
    assert shop.execute("SELECT product, change FROM stock_move").fetchall() == [(1, -4)]


def test_other_connections_see_what_was_committed(
    shop: sqlite3.Connection, farm_db: sqlite3.Connection
) -> None:
    depot.place_order(shop, 4, {9: 1})
    assert farm_db.execute("SELECT count(*) FROM sales_order").fetchone() == (601,)


def test_too_much_is_refused_and_leaves_nothing(shop: sqlite3.Connection) -> None:
    before = depot.available(shop, 5)
    with pytest.raises(depot.OutOfStock):
        depot.place_order(shop, 4, {5: before + 1})
    assert depot.available(shop, 5) == before
    assert shop.execute("SELECT max(id) FROM sales_order").fetchone() == (600,)


@pytest.mark.parametrize("customer", [50, 100, 150, 200])
def test_a_blocked_customer_can_not_order(shop: sqlite3.Connection, customer: int) -> None:
    with pytest.raises(depot.Blocked):
        depot.place_order(shop, customer, {1: 1})


def test_an_order_of_an_unknown_product_breaks_no_foreign_key(shop: sqlite3.Connection) -> None:
    with pytest.raises(depot.OutOfStock):
        depot.place_order(shop, 1, {9999: 1})
    assert shop.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_cancelled_order_leaves_an_event(shop: sqlite3.Connection) -> None:
    depot.cancel(shop, 1)
    events = shop.execute("SELECT what FROM order_event WHERE sales_order = 1 ORDER BY id")
    assert [what for (what,) in events] == ["created", "open -> cancelled"]


def test_a_shipped_order_can_not_be_cancelled(shop: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="keeps its status"):
        depot.cancel(shop, 6)
    assert depot.status(shop, 6) == "shipped"


def test_deleting_a_customer_with_orders_is_refused(shop: sqlite3.Connection) -> None:
    (customer,) = shop.execute("SELECT customer FROM sales_order LIMIT 1").fetchone()
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        shop.execute("DELETE FROM customer WHERE id = ?", (customer,))
    shop.rollback()


def test_a_schema_change_is_gone_in_the_next_test(shop: sqlite3.Connection) -> None:
    shop.execute("ALTER TABLE customer ADD COLUMN nickname TEXT")
    shop.execute("DROP VIEW best_customer")
    shop.execute("CREATE TABLE scratch (x)")


def test_the_schema_is_the_golden_one(farm_db: sqlite3.Connection) -> None:
    names = {name for (name,) in farm_db.execute("SELECT name FROM sqlite_master")}
    assert "best_customer" in names
    assert "scratch" not in names
