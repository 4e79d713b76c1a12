"""What a library does: it lends books, and takes them back."""

import sqlalchemy as sa

from library.database import engine


def lend(book, reader):
    with engine.begin() as conn:
        taken = conn.scalar(
            sa.text("SELECT count(*) FROM loan WHERE book_id = :book"), {"book": book}
        )
        if taken:
            raise ValueError("lent already")
        conn.execute(
            sa.text("INSERT INTO loan (book_id, reader_id) VALUES (:book, :reader)"),
            {"book": book, "reader": reader},
        )


def take_back(book):
    with engine.begin() as conn:
        conn.execute(sa.text("DELETE FROM loan WHERE book_id = :book"), {"book": book})


def loans():
    with engine.connect() as conn:
        return conn.execute(sa.text("SELECT book_id, reader_id FROM loan ORDER BY id")).all()


def shelves():
    with engine.connect() as conn:
        return dict(conn.execute(sa.text("SELECT name, books FROM shelf_view")).all())
