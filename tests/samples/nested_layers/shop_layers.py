"""Layers that are declared where they are made."""

import snapfarm


@snapfarm.layer("with_orders", on="reference")
def orders(conn):
    conn.executemany(
        "INSERT INTO purchase (customer, article, number) VALUES (?, ?, ?)",
        [(1, "apple", 10), (1, "bread", 1), (2, "cheese", 2)],
    )
    conn.commit()


@snapfarm.layer("with_returns", on="with_orders")
def returns(conn):
    conn.execute("UPDATE purchase SET number = 0 WHERE customer = 2")
    conn.execute("INSERT INTO note (text) VALUES ('returned')")
    conn.commit()
