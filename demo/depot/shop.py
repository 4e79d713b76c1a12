"""What the shop does with its database: orders, stock and payments. It commits by itself."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping

TAX_PERCENT = 20


class OutOfStock(Exception):
    """There is less of a product in stock than was asked for."""


class Blocked(Exception):
    """The customer may not order."""


@contextlib.contextmanager
def transaction(conn: sqlite3.Connection) -> Iterator[None]:
    """Do all or nothing: take the write lock at once, commit at the end, roll back on errors."""
    conn.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        conn.rollback()
        raise
    conn.commit()


def place_order(conn: sqlite3.Connection, customer: int, wanted: Mapping[int, int]) -> int:
    """Order quantities of products for a customer, and take them from stock; return the order."""
    with transaction(conn):
        blocked, discount = conn.execute(
            "SELECT blocked, discount_percent FROM customer"
            " JOIN customer_group ON customer_group.id = customer.customer_group"
            " WHERE customer.id = ?",
            (customer,),
        ).fetchone()
        if blocked:
            raise Blocked(f"customer {customer} is blocked")
        order = conn.execute(
            "INSERT INTO sales_order (customer, ship_to, ordered_on)"
            " SELECT customer, id, '2026-12-01' FROM address"
            " WHERE customer = ? AND kind = 'shipping'",
            (customer,),
        ).lastrowid
        assert order is not None
        for line, (product, quantity) in enumerate(wanted.items(), start=1):
            take(conn, product, quantity)
            conn.execute(
                "INSERT INTO order_line (sales_order, line, product, quantity, unit_cents)"
                " SELECT ?, ?, product, ?, cents * (100 - ?) / 100 FROM price"
                " WHERE price_list = 1 AND product = ?",
                (order, line, quantity, discount, product),
            )
    return order


def take(conn: sqlite3.Connection, product: int, quantity: int) -> None:
    """Take a quantity of a product from stock, out of the fullest bins first."""
    left = quantity
    bins = conn.execute(
        "SELECT bin, quantity FROM stock WHERE product = ? ORDER BY quantity DESC, bin", (product,)
    ).fetchall()
    for place, there in bins:
        taken = min(left, there)
        conn.execute(
            "UPDATE stock SET quantity = quantity - ? WHERE bin = ? AND product = ?",
            (taken, place, product),
        )
        left -= taken
    if left:
        raise OutOfStock(f"{left} of {quantity} of product {product} are missing")


def available(conn: sqlite3.Connection, product: int) -> int:
    """Return how much of a product is in stock."""
    (quantity,) = conn.execute(
        "SELECT quantity FROM available WHERE product = ?", (product,)
    ).fetchone()
    return int(quantity)


def bill(conn: sqlite3.Connection, order: int) -> int:
    """Issue the invoice of an order; return it."""
    with transaction(conn):
        (net,) = conn.execute(
            "SELECT cents FROM order_total WHERE sales_order = ?", (order,)
        ).fetchone()
        invoice = conn.execute(
            "INSERT INTO invoice (sales_order, tax_rate, net_cents, tax_cents, issued_on)"
            " VALUES (?, 1, ?, ?, '2026-12-01')",
            (order, net, net * TAX_PERCENT // 100),
        ).lastrowid
    assert invoice is not None
    return invoice


def balance(conn: sqlite3.Connection, invoice: int) -> int:
    """Return what is still to be paid of an invoice, in cents."""
    (cents,) = conn.execute(
        "SELECT open_cents FROM invoice_balance WHERE invoice = ?", (invoice,)
    ).fetchone()
    return int(cents)


def pay(conn: sqlite3.Connection, invoice: int, cents: int) -> None:
    """Book a payment; the order counts as paid once nothing is open."""
    with transaction(conn):
        conn.execute(
            "INSERT INTO payment (invoice, payment_method, cents, paid_on)"
            " VALUES (?, 2, ?, '2026-12-02')",
            (invoice, cents),
        )
        conn.execute(
            "UPDATE sales_order SET status = 'paid'"
            " WHERE id = (SELECT sales_order FROM invoice WHERE id = ?) AND"
            " (SELECT open_cents FROM invoice_balance WHERE invoice = ?) = 0",
            (invoice, invoice),
        )


def cancel(conn: sqlite3.Connection, order: int) -> None:
    """Cancel an order."""
    with transaction(conn):
        conn.execute("UPDATE sales_order SET status = 'cancelled' WHERE id = ?", (order,))


def status(conn: sqlite3.Connection, order: int) -> str:
    """Return the status of an order."""
    (found,) = conn.execute("SELECT status FROM sales_order WHERE id = ?", (order,)).fetchone()
    return str(found)


def redeem(conn: sqlite3.Connection, code: str) -> bool:
    """Use a coupon once; return whether there was a use left."""
    with transaction(conn):
        changed = conn.execute(
            "UPDATE coupon SET uses_left = uses_left - 1 WHERE code = ? AND uses_left > 0", (code,)
        ).rowcount
    return changed == 1
