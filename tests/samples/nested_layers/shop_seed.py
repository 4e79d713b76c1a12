"""Rows of the golden databases and of the layers that farm.toml declares."""


def customers(conn):
    conn.executemany("INSERT INTO customer (name) VALUES (?)", [("Ada",), ("Grace",)])
    conn.commit()


def first_entry(conn):
    conn.execute("INSERT INTO entry (text) VALUES ('opened')")
    conn.commit()
