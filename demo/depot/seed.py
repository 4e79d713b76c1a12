"""Fills the golden database: about 10 000 rows, the same on every machine and every day."""

from __future__ import annotations

import datetime as dt
import itertools
import random
import sqlite3

CUSTOMERS = 300
PRODUCTS = 400
ORDERS = 600

_FIRST = ("Ada", "Ben", "Chiara", "Dora", "Émile", "Fumiko", "Göran", "Hanna", "Ivo", "Jana")
_LAST = ("Abel", "Brandt", "Costa", "Dubois", "Eriksson", "Fischer", "Gruber", "Ito", "Kok")
_CITIES = ("Basel", "Graz", "Kyoto", "Lyon", "Malmö", "Parma", "Utrecht", "Weimar")
_THINGS = (
    "lamp",
    "chair",
    "kettle",
    "shelf",
    "blanket",
    "clock",
    "mirror",
    "basket",
    "stool",
    "vase",
)
_LOOKS = ("round", "small", "folding", "plain", "striped", "tall", "quiet", "sturdy")
_COLOURS = ("ash", "blue", "copper", "green", "white")
_CATEGORIES = {
    "living": ("seats", "light", "walls"),
    "kitchen": ("kettles", "storage"),
    "sleeping": ("bedding", "clocks"),
}
_START = dt.date(2026, 1, 1)


def fill(conn: sqlite3.Connection) -> None:
    """Fill all tables. The triggers of the schema are at work while this runs."""
    dice = random.Random(20260101)
    _people(conn, dice)
    _catalog(conn, dice)
    _warehouse(conn, dice)
    _orders(conn, dice)
    _billing(conn, dice)
    # Triggers write the present time, and a golden database has to be the same tomorrow.
    conn.execute(
        "UPDATE order_event SET happened_at = (SELECT ordered_on || ' 12:00:00' FROM sales_order"
        " WHERE sales_order.id = order_event.sales_order)"
    )
    conn.commit()


def _day(number: int) -> str:
    return (_START + dt.timedelta(days=number)).isoformat()


def _people(conn: sqlite3.Connection, dice: random.Random) -> None:
    countries = [code for (code,) in conn.execute("SELECT code FROM country ORDER BY code")]
    conn.executemany(
        "INSERT INTO region (country, name) VALUES (?, ?)",
        [(code, name) for code in countries for name in ("north", "south")],
    )
    conn.executemany(
        "INSERT INTO customer"
        " (customer_group, name, email, credit_limit_cents, blocked, created_on)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [
            (
                dice.choices((1, 2, 3), (80, 15, 5))[0],
                f"{dice.choice(_FIRST)} {dice.choice(_LAST)}",
                f"customer{number}@example.com",
                dice.choice((50_000, 100_000, 500_000)),
                int(number % 50 == 0),
                _day(number % 90),
            )
            for number in range(1, CUSTOMERS + 1)
        ],
    )
    conn.executemany(
        "INSERT INTO address (customer, region, kind, street, city, postal_code)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [
            (
                customer,
                dice.randint(1, 2 * len(countries)),
                kind,
                f"Long Road {dice.randint(1, 99)}",
                dice.choice(_CITIES),
                f"{dice.randint(1000, 9999)}",
            )
            for customer in range(1, CUSTOMERS + 1)
            for kind in ("billing", "shipping")
        ],
    )
    conn.executemany(
        "INSERT INTO customer_note (customer, written_on, text) VALUES (?, ?, ?)",
        [(customer, _day(100), "prefers the phone") for customer in range(10, CUSTOMERS, 10)],
    )
    conn.executemany(
        "INSERT INTO employee (department, manager, name, hired_on) VALUES (?, ?, ?, ?)",
        [
            (
                1 + number % 4,
                None if number < 4 else 1 + number % 4,
                f"Clerk {number}",
                _day(number),
            )
            for number in range(24)
        ],
    )
    conn.executemany(
        "INSERT INTO employee_role (employee, role) VALUES (?, ?)",
        [(employee, 1 + employee % 3) for employee in range(1, 25)],
    )


def _catalog(conn: sqlite3.Connection, dice: random.Random) -> None:
    for parent, children in _CATEGORIES.items():
        key = conn.execute("INSERT INTO category (name) VALUES (?)", (parent,)).lastrowid
        conn.executemany(
            "INSERT INTO category (parent, name) VALUES (?, ?)", [(key, name) for name in children]
        )
    leaves = [
        key for (key,) in conn.execute("SELECT id FROM category WHERE parent NOT NULL ORDER BY id")
    ]
    conn.executemany("INSERT INTO brand (name) VALUES (?)", [(f"Brand {n}",) for n in range(1, 21)])
    conn.executemany(
        "INSERT INTO supplier (country, name, lead_days) VALUES (?, ?, ?)",
        [(dice.choice(("DE", "IT", "SE")), f"Supplier {n}", n % 14) for n in range(1, 16)],
    )
    names = itertools.cycle(
        f"{look} {thing}, {colour}"
        for look, thing, colour in itertools.product(_LOOKS, _THINGS, _COLOURS)
    )
    conn.executemany(
        "INSERT INTO product (sku, brand, name, weight_grams, active) VALUES (?, ?, ?, ?, ?)",
        [
            (
                f"SKU-{n:04}",
                dice.randint(1, 20),
                next(names),
                dice.randint(50, 9000),
                int(n % 25 > 0),
            )
            for n in range(1, PRODUCTS + 1)
        ],
    )
    products = range(1, PRODUCTS + 1)
    conn.executemany(
        "INSERT INTO product_category (product, category) VALUES (?, ?)",
        [(product, dice.choice(leaves)) for product in products],
    )
    conn.executemany(
        "INSERT INTO product_attribute (product, attribute, value) VALUES (?, ?, ?)",
        [(product, 1, dice.choice(_COLOURS)) for product in products],
    )
    cents = [dice.randint(5, 300) * 100 - 1 for _ in products]
    conn.executemany(
        "INSERT INTO price (price_list, product, cents) VALUES (?, ?, ?)",
        [(1, product, price) for product, price in zip(products, cents, strict=True)]
        + [(2, product, price * 85 // 100) for product, price in zip(products, cents, strict=True)],
    )
    conn.executemany(
        "INSERT INTO supplier_product (supplier, product, cost_cents) VALUES (?, ?, ?)",
        [
            (1 + product % 15, product, price * 60 // 100)
            for product, price in zip(products, cents, strict=True)
        ],
    )


def _warehouse(conn: sqlite3.Connection, dice: random.Random) -> None:
    for warehouse, region in (("Harbour", 1), ("Hill", 5), ("Station", 9)):
        house = conn.execute(
            "INSERT INTO warehouse (region, name) VALUES (?, ?)", (region, warehouse)
        ).lastrowid
        for name in ("A", "B"):
            zone = conn.execute(
                "INSERT INTO zone (warehouse, name) VALUES (?, ?)", (house, name)
            ).lastrowid
            conn.executemany(
                "INSERT INTO bin (zone, label) VALUES (?, ?)",
                [(zone, f"{name}-{number:02}") for number in range(1, 41)],
            )
    conn.executemany(
        "INSERT INTO stock (bin, product, quantity) VALUES (?, ?, ?)",
        [
            (1 + (product * 7 + place * 80) % 240, product, dice.randint(20, 80))
            for product in range(1, PRODUCTS + 1)
            for place in range(2)
        ],
    )
    for number in range(1, 31):
        received = _day(number + 9) if number < 25 else None
        conn.execute(
            "INSERT INTO purchase_order (supplier, warehouse, ordered_on, received_on)"
            " VALUES (?, ?, ?, ?)",
            (
                1 + number % 15,
                1 + number % 3,
                _day(number),
                received,
            ),
        )
        conn.executemany(
            "INSERT INTO purchase_line (purchase_order, product, quantity, cost_cents)"
            " SELECT ?, product, 20, cost_cents FROM supplier_product WHERE supplier = ? LIMIT 5",
            [(number, 1 + number % 15)],
        )


def _orders(conn: sqlite3.Connection, dice: random.Random) -> None:
    prices = dict(conn.execute("SELECT product, cents FROM price WHERE price_list = 1"))
    for number in range(1, ORDERS + 1):
        customer = dice.randint(1, CUSTOMERS)
        conn.execute(
            "INSERT INTO sales_order (customer, ship_to, coupon, ordered_on) VALUES (?, ?, ?, ?)",
            (customer, 2 * customer, 1 if number % 20 == 0 else None, _day(100 + number // 4)),
        )
        chosen = dice.sample(range(1, PRODUCTS + 1), dice.randint(1, 5))
        conn.executemany(
            "INSERT INTO order_line (sales_order, line, product, quantity, unit_cents)"
            " VALUES (?, ?, ?, ?, ?)",
            [
                (number, line, product, dice.randint(1, 3), prices[product])
                for line, product in enumerate(chosen, start=1)
            ],
        )


def _billing(conn: sqlite3.Connection, dice: random.Random) -> None:
    # Of ten orders, one is cancelled, two are open, three are paid and four are shipped.
    for number in range(1, ORDERS + 1):
        kind = number % 10
        if kind == 0:
            conn.execute("UPDATE sales_order SET status = 'cancelled' WHERE id = ?", (number,))
        if kind < 3:
            continue
        (net,) = conn.execute(
            "SELECT cents FROM order_total WHERE sales_order = ?", (number,)
        ).fetchone()
        tax = net * 20 // 100
        invoice = conn.execute(
            "INSERT INTO invoice (sales_order, tax_rate, net_cents, tax_cents, issued_on)"
            " VALUES (?, 1, ?, ?, ?)",
            (number, net, tax, _day(101 + number // 4)),
        ).lastrowid
        conn.execute(
            "INSERT INTO payment (invoice, payment_method, cents, paid_on) VALUES (?, ?, ?, ?)",
            (invoice, dice.randint(1, 3), net + tax, _day(110 + number // 4)),
        )
        conn.execute("UPDATE sales_order SET status = 'paid' WHERE id = ?", (number,))
        if kind > 5:
            _ship(conn, dice, number)


def _ship(conn: sqlite3.Connection, dice: random.Random, number: int) -> None:
    shipment = conn.execute(
        "INSERT INTO shipment (sales_order, carrier, tracking, shipped_on) VALUES (?, ?, ?, ?)",
        (number, dice.randint(1, 3), f"T{number:06}", _day(112 + number // 4)),
    ).lastrowid
    conn.execute(
        "INSERT INTO shipment_line (shipment, sales_order, line, quantity)"
        " SELECT ?, sales_order, line, quantity FROM order_line WHERE sales_order = ?",
        (shipment, number),
    )
    conn.execute("UPDATE sales_order SET status = 'shipped' WHERE id = ?", (number,))
    if number % 60 == 6:
        conn.execute(
            "INSERT INTO return_request (sales_order, reason, requested_on) VALUES (?, ?, ?)",
            (number, "the colour", _day(130 + number // 4)),
        )
