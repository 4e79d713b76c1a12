"""What is read or removed by statements that don't name it, after an earlier test has emptied it.

Only here is anybody asked what statements do: the other cases find the database as it began.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

from snapfarm_worker.anomaly import AnomalyKind
from snapfarm_worker.changes import LIMIT
from snapfarm_worker.ring import ResetPolicy, RingKind
from support.corpus.empty_reads import EMPTY, deletes, drops, sql, victim
from support.corpus.removals import READ, removes_by_backup
from support.corpus.stage import Case, Program, Stage, opened
from support.golden import golden

ODD = '"odd ""name"" é"'


def reads_a_view_of_its_own(stage: Stage) -> None:
    """Read through a temporary view."""
    with opened(stage) as conn:
        conn.execute("CREATE TEMP VIEW mine AS SELECT total AS t FROM orders")
        assert conn.execute("SELECT t FROM mine").fetchall() == []


def makes_a_view(stage: Stage) -> None:
    """Empty the table, and leave a view of it behind."""
    with opened(stage) as conn:
        conn.execute("CREATE VIEW later AS SELECT total AS t FROM orders")
        conn.execute("DELETE FROM orders")
        conn.commit()


def makes_a_trigger(stage: Stage) -> None:
    """Empty the table, and leave a trigger behind that reads it."""
    with opened(stage) as conn:
        conn.execute(
            "CREATE TRIGGER counted AFTER INSERT ON empty "
            "BEGIN UPDATE pairs SET b = (SELECT count(*) FROM orders); END"
        )
        conn.execute("DELETE FROM orders")
        conn.commit()


def reads_after_an_error(stage: Stage) -> None:
    """Read after statements that failed: they removed nothing."""
    with opened(stage) as conn:
        for statement in ("DELETE FROM nowhere", "INSERT INTO orders", "DELETED"):
            with contextlib.suppress(sqlite3.OperationalError):
                conn.execute(statement)
        conn.execute("DELETE FROM empty")
        assert conn.execute(READ).fetchall() == []


def reads_with_a_function(stage: Stage) -> None:
    """Write with a function that only this connection has, and read."""
    with opened(stage) as conn:
        conn.create_function("half", 1, lambda value: value / 2)
        conn.execute("INSERT INTO empty VALUES (half(2))")
        assert conn.execute("SELECT half(total) FROM orders").fetchall() == []
        conn.rollback()


def reads_with_an_attached_database(stage: Stage) -> None:
    """Write into a database of one's own that is attached, and read."""
    with opened(stage) as conn:
        conn.execute("ATTACH ':memory:' AS own")
        conn.execute("CREATE TABLE own.orders(id, total)")
        conn.execute("DELETE FROM own.orders")
        assert conn.execute("SELECT * FROM main.orders").fetchall() == []


def reads_beside_a_refusal(stage: Stage) -> None:
    """Read where another connection was refused rows: SQLite has counted them as changed."""
    with opened(stage) as other, opened(stage) as conn:
        other.execute("PRAGMA foreign_keys = ON")
        with contextlib.suppress(sqlite3.IntegrityError):
            other.execute("INSERT INTO orders(customer, total) VALUES (1000, 1)")
        other.rollback()
        assert conn.execute(READ).fetchall() == []


def reads_beside_one_that_left(stage: Stage) -> None:
    """Read where a connection that left the ring has done all that it can to its own database."""
    with opened(stage) as left, opened(stage) as conn:
        left.deserialize(EMPTY)
        left.execute("DELETE FROM orders")
        left.executemany("DELETE FROM orders WHERE id = ?", [(1,)])
        left.executescript("DROP TABLE orders; CREATE TABLE orders(id);")
        assert conn.execute("INSERT INTO empty SELECT id FROM orders").rowcount == 0
        assert conn.execute(READ).fetchall() == []
        conn.rollback()


def deletes_by_many_texts(stage: Stage) -> None:
    """Delete by more texts than are kept, the one that counts last."""
    with opened(stage) as conn:
        for number in range(LIMIT + 1):
            conn.execute(f"INSERT INTO empty VALUES ({number})")
        conn.execute("DELETE FROM orders")
        assert conn.execute(READ).fetchall() == []
        conn.rollback()


def deletes_by_a_trigger_that_goes(stage: Stage) -> None:
    """Delete by a trigger that is dropped before anybody looks."""
    with opened(stage) as conn:
        conn.execute("INSERT INTO orders(customer, total) VALUES (1, 1)")
        conn.executescript(
            "CREATE TRIGGER gone AFTER INSERT ON empty BEGIN DELETE FROM orders; END;"
            "INSERT INTO empty VALUES (1); DROP TRIGGER gone;"
        )
        assert conn.execute(READ).fetchall() == []


def deletes_by_what_others_lack(*statements: str) -> Program:
    """Delete on a connection with something that the reader has not got."""

    def program(stage: Stage) -> None:
        with opened(stage) as conn:
            conn.create_function("any", 1, lambda _: 1)
            conn.execute("ATTACH ':memory:' AS own")
            conn.execute("CREATE TABLE own.ids(id)")
            conn.execute("CREATE TEMP TABLE mine(id)")
            for statement in statements:
                conn.execute(statement)
            conn.commit()
        with opened(stage) as conn:
            assert conn.execute(READ).fetchall() == []

    return program


def makes_the_table_anew(stage: Stage) -> None:
    """Drop a table with what depends on it, or rename it, and make another of its name."""
    with opened(stage) as conn:
        conn.execute("DROP VIEW totals")
        conn.execute("ALTER TABLE orders RENAME TO old")
        conn.execute("CREATE TABLE orders(id, customer, total)")
        assert conn.execute(READ).fetchall() == []
        conn.rollback()


def deletes_in_a_script_that_fails(stage: Stage) -> None:
    """Delete in a script whose end fails."""
    with opened(stage) as conn:
        with contextlib.suppress(sqlite3.OperationalError):
            conn.executescript("DELETE FROM orders; DELETED;")
        assert conn.execute(READ).fetchall() == []


def deletes_until_its_rows_end(*rows: object) -> Program:
    """Delete one by one, until where the rows come from fails."""

    def program(stage: Stage) -> None:
        def ids() -> Iterator[Any]:
            yield from rows
            raise LookupError

        with opened(stage) as conn:
            conn.execute("INSERT INTO orders(customer, total) VALUES (1, 1)")
            with contextlib.suppress(LookupError, OverflowError):
                conn.executemany("DELETE FROM orders WHERE id > ?", ids())
            assert conn.execute(READ).fetchall() == []
            conn.rollback()

    return program


def reads_between_two_deletes(stage: Stage) -> None:
    """Read on another connection while the first one deletes one by one."""
    with opened(stage) as conn, opened(stage, isolation_level=None) as deleting:
        deleting.execute("INSERT INTO orders(customer, total) VALUES (1, 1)")

        def ids() -> Iterator[tuple[int]]:
            yield (0,)
            assert conn.execute(READ).fetchall() == []
            yield (1,)

        deleting.executemany("DELETE FROM orders WHERE id > ?", ids())


def reads_within_a_script(stage: Stage) -> None:
    """Read in a function that a script calls after it has deleted."""
    with opened(stage) as conn, opened(stage) as other:
        other.create_function("orders_left", 0, lambda: len(conn.execute(READ).fetchall()))
        other.executescript("DELETE FROM orders; SELECT orders_left();")


def deletes_by_a_cursor_of_its_own(*, then: bool) -> Program:
    """Return a program that writes by a cursor of its own making, and reads by another one."""

    def program(stage: Stage) -> None:
        with opened(stage) as conn:
            cursor = sqlite3.Cursor(conn)
            cursor.execute(NEW_ORDER)
            cursor.execute("DELETE FROM orders")
            conn.commit()
            if then:
                assert conn.execute(READ).fetchall() == []
        with opened(stage) as conn:
            assert conn.execute(READ).fetchall() == []

    return program


def keeps_its_authorizer(stage: Stage) -> None:
    """Refuse something by an authorizer of one's own, before and after sensors have asked."""

    def authorizer(action: int, table: str | None, *_: object) -> int:
        secret = action == sqlite3.SQLITE_READ and table == "customers"
        return sqlite3.SQLITE_DENY if secret else sqlite3.SQLITE_OK

    with opened(stage) as conn:
        conn.set_authorizer(authorizer)
        for statement in ("DELETE FROM orders", READ, "SELECT a FROM pairs", READ + " "):
            conn.execute(statement).fetchall()
            with contextlib.suppress(sqlite3.DatabaseError):
                conn.execute("SELECT name FROM customers")
                raise AssertionError("the authorizer is gone")
        conn.rollback()


def keeping(*statements: str) -> Program:
    """Return a program that executes on a connection which is passed on from test to test."""

    def program(stage: Stage) -> None:
        if stage.kept is None:
            stage.kept = sqlite3.connect(stage.uri, uri=True)
            stage.cleanups.callback(stage.kept.close)
        for statement in statements:
            stage.kept.execute(statement, (1,) * statement.count("?")).fetchall()
            # Nothing of interest, after which nobody listens on that connection any more.
            stage.kept.execute("SELECT count(*) FROM customers").fetchone()
        stage.kept.commit()

    return program


NEW_ORDER = "INSERT INTO orders(customer, total) VALUES (1, 1)"
SETS_OFF = sql("CREATE TRIGGER sweeps AFTER INSERT ON empty BEGIN DELETE FROM orders; END")

#: After tests that have changed the schema: the last program removes by what it is now.
CHANGED: dict[str, tuple[Program, ...]] = {
    "view-of-something-else": (
        deletes,
        keeping("SELECT * FROM totals"),
        sql("DROP VIEW totals", "CREATE VIEW totals AS SELECT a FROM pairs"),
        keeping("SELECT * FROM totals"),
    ),
    "trigger-of-an-earlier-test": (
        deletes,
        keeping("INSERT INTO empty VALUES (?)", READ),
        SETS_OFF,
        keeping(NEW_ORDER, "INSERT INTO empty VALUES (?)", READ),
    ),
    "trigger-that-goes-with-its-table": (
        deletes,
        SETS_OFF,
        sql(NEW_ORDER, "INSERT INTO empty VALUES (1)", "DROP TABLE empty", READ),
    ),
    "trigger-of-another-connection": (
        deletes,
        keeping("CREATE TEMP TRIGGER own AFTER INSERT ON empty BEGIN DELETE FROM orders; END"),
        lambda stage: (
            keeping(NEW_ORDER, "INSERT INTO empty VALUES (1)")(stage),
            sql(READ)(stage),
        ),
    ),
    "table-that-was-gone": (
        deletes,
        drops,
        sql("CREATE TABLE IF NOT EXISTS orders(id, customer, total)", READ),
    ),
    "new-foreign-key": (
        sql(
            "DROP VIEW totals",
            "DROP TABLE orders",
            "CREATE TABLE orders(id, customer REFERENCES people ON DELETE CASCADE, total)",
            "CREATE TABLE people(id INTEGER PRIMARY KEY)",
            "INSERT INTO people VALUES (1)",
            NEW_ORDER,
        ),
        deletes,
        # The one that reads does not enforce foreign keys itself.
        lambda stage: (
            sql("PRAGMA foreign_keys = ON", NEW_ORDER, "DELETE FROM people")(stage),
            sql(READ)(stage),
        ),
    ),
}


def reads_what_another_has_hidden(stage: Stage) -> None:
    """Read by a text that another connection has executed on a table of its own."""
    with opened(stage) as conn, opened(stage) as other:
        conn.execute("CREATE TEMP TABLE orders(id, customer, total)")
        assert conn.execute(READ).fetchall() == []
        assert other.execute(READ).fetchall() == []


def reads_in_a_function(stage: Stage) -> None:
    """Read in a function that a statement on the same connection calls."""
    with opened(stage) as conn:
        conn.create_function("orders_left", 0, lambda: len(conn.execute(READ).fetchall()))
        assert conn.execute("SELECT orders_left() FROM customers LIMIT 1").fetchall() == [(0,)]


def misses_in_a_function(stage: Stage) -> None:
    """Ask for a table that is gone in such a function."""

    def misses() -> str:
        with contextlib.suppress(sqlite3.OperationalError):
            conn.execute(READ)
        return "missing"

    with opened(stage) as conn:
        conn.create_function("misses", 0, misses)
        found = conn.execute("SELECT misses() FROM customers LIMIT 1").fetchall()
        assert found == [("missing",)]


#: Full-text indexes that keep no texts: of a name with quotes, and one that triggers look after.
ORDERED = golden(
    before="""
    CREATE VIRTUAL TABLE "all-words" USING fts5(body, content='');
    CREATE TABLE notes(id INTEGER PRIMARY KEY, body);
    CREATE VIRTUAL TABLE words USING fts5(body, content='');
    CREATE TRIGGER made AFTER INSERT ON notes BEGIN
        INSERT INTO words(rowid, body) VALUES (new.id, new.body);
    END;
    CREATE TRIGGER gone AFTER DELETE ON notes BEGIN
        INSERT INTO words(words, rowid, body) VALUES ('delete', old.id, old.body);
    END;
    INSERT INTO notes VALUES (1, 'first'), (2, 'second');
    INSERT INTO "all-words"(rowid, body) SELECT id, body FROM notes;
    """
)
EMPTIES_ALL_WORDS = """INSERT INTO "all-words"("all-words") VALUES ('delete-all')"""
COUNTS_ALL_WORDS = 'SELECT count(*) FROM "all-words"'

#: Full-text indexes: one that keeps no texts, and one of the texts of a table.
INDEXED = golden(
    before="CREATE TABLE notes(id INTEGER PRIMARY KEY, body);"
    "CREATE VIRTUAL TABLE words USING fts5(body, content='');"
    "CREATE VIRTUAL TABLE noted USING fts5(body, content='notes', content_rowid='id');"
    "INSERT INTO notes VALUES (1, 'first'), (2, 'second');"
    "INSERT INTO words(rowid, body) SELECT id, body FROM notes;"
    "INSERT INTO noted(noted) VALUES ('rebuild');"
)
EMPTIES_WORDS = sql("INSERT INTO words(words) VALUES ('delete-all')")
EMPTIES_NOTES = sql("DELETE FROM notes")


def empties_an_index_by_an_order(stage: Stage) -> None:
    """Empty a full-text index by an order to it, whose text is a parameter."""
    with opened(stage) as conn:
        conn.execute("INSERT INTO words(rowid, body) VALUES (1, 'first')")
        conn.execute("""INSERT INTO "words" ("words") VALUES (?)""", ("delete-all",))
        assert conn.execute("SELECT count(*) FROM words").fetchone() == (0,)
        conn.rollback()


def empties_what_an_index_is_of(stage: Stage) -> None:
    """Delete what a full-text index takes its texts from, and read the index."""
    with opened(stage) as conn:
        conn.execute("INSERT INTO notes VALUES (1, 'first')")
        conn.execute("DELETE FROM notes")
        assert conn.execute("SELECT count(*) FROM noted").fetchone() == (0,)
        conn.rollback()


FAULTS = [
    *(
        Case(
            f"{name}-with-orders",
            (AnomalyKind.EMPTY_TABLE_READ,),
            sql("DELETE FROM log WHERE id = 0", f'SELECT count(*) FROM "{name}"'),
            (emptied,),
            ResetPolicy.MODULE,
            snapshot=ORDERED,
            table=name,
        )
        for name, emptied in (
            ("words", sql("DELETE FROM notes")),
            ("all-words", sql(EMPTIES_ALL_WORDS)),
        )
    ),
    *(
        Case(
            name,
            (AnomalyKind.EMPTY_TABLE_READ,),
            sql(f"SELECT count(*) FROM {table}"),
            (emptied,),
            ResetPolicy.MODULE,
            snapshot=INDEXED,
            table=table,
        )
        for name, emptied, table in (
            ("index", EMPTIES_WORDS, "words"),
            ("index-of-a-table", EMPTIES_NOTES, "noted"),
        )
    ),
    Case(
        "missing-in-a-function",
        (AnomalyKind.MISSING_TABLE,),
        misses_in_a_function,
        (drops,),
        ResetPolicy.MODULE,
        table="orders",
    ),
    victim("in-a-function", reads_in_a_function, deletes),
    victim("hidden-from-another", reads_what_another_has_hidden, deletes),
    victim("view-of-its-own", reads_a_view_of_its_own, deletes),
    victim("view-of-an-earlier-test", sql("SELECT t FROM later"), makes_a_view),
    victim(
        "trigger-of-an-earlier-test",
        sql("INSERT INTO empty VALUES (1)"),
        makes_a_trigger,
        also=(AnomalyKind.LEAKED_WRITE,),
    ),
    victim("after-errors", reads_after_an_error, deletes),
    victim("own-function", reads_with_a_function, deletes, ring=RingKind.MEMDB),
    victim("attached", reads_with_an_attached_database, deletes),
    victim("beside-a-refusal", reads_beside_a_refusal, deletes),
    Case(
        "beside-one-that-left",
        (AnomalyKind.LEFT_RING, AnomalyKind.EMPTY_TABLE_READ),
        reads_beside_one_that_left,
        (deletes,),
        ResetPolicy.MODULE,
    ),
    Case(
        "name-with-quotes",
        (AnomalyKind.EMPTY_TABLE_READ,),
        sql(f"SELECT * FROM {ODD}"),
        (sql(f"DELETE FROM {ODD}"),),
        ResetPolicy.MODULE,
        table='odd "name" é',
    ),
]
#: A database whose rows set off a trigger when they are replaced, on connections that want that.
REPLACED = golden(
    before="CREATE TABLE extra(id INTEGER PRIMARY KEY);"
    "CREATE TRIGGER extra_gone AFTER DELETE ON extra BEGIN DELETE FROM orders; END;"
)


def deletes_by_replacing(stage: Stage) -> None:
    """Delete by a trigger that is set off where a row is replaced, and read elsewhere."""
    sql(
        "PRAGMA recursive_triggers = ON",
        NEW_ORDER,
        "INSERT INTO extra VALUES (1)",
        "REPLACE INTO extra VALUES (1)",
    )(stage)
    sql(READ)(stage)


def deletes_by_another_name(*attaches: str) -> Program:
    """Return a program that deletes where the ring is attached to a connection once more."""

    def program(stage: Stage) -> None:
        with opened(stage) as conn:
            for attach in attaches:
                conn.executescript(attach.format(uri=stage.uri))
            conn.execute("INSERT INTO again.orders(customer, total) VALUES (1, 1)")
            conn.commit()
            conn.execute("DELETE FROM again.orders")
            conn.commit()
            assert conn.execute("SELECT * FROM main.orders").fetchall() == []
        with opened(stage) as conn:
            conn.execute("DELETE FROM log WHERE id > 200")
            conn.commit()

    return program


CLEAN = [
    *(
        Case(name, (), program, (emptied,), ResetPolicy.MODULE, snapshot=ORDERED)
        for name, emptied, program in (
            (
                "order-by-a-trigger",
                sql("DELETE FROM notes"),
                sql(
                    "INSERT INTO notes VALUES (7, 'seventh')",
                    "DELETE FROM notes WHERE id = 7",
                    "SELECT count(*) FROM words",
                ),
            ),
            (
                "order-to-a-quoted-name",
                sql(EMPTIES_ALL_WORDS),
                sql(
                    """INSERT INTO "all-words"(rowid, body) VALUES (7, 'seventh')""",
                    EMPTIES_ALL_WORDS,
                    COUNTS_ALL_WORDS,
                ),
            ),
        )
    ),
    Case(
        "order-to-an-index",
        (),
        empties_an_index_by_an_order,
        (EMPTIES_WORDS,),
        ResetPolicy.MODULE,
        snapshot=INDEXED,
    ),
    Case(
        "texts-of-an-index",
        (),
        empties_what_an_index_is_of,
        (EMPTIES_NOTES,),
        ResetPolicy.MODULE,
        snapshot=INDEXED,
    ),
    Case(
        "another-name",
        (),
        deletes_by_another_name("ATTACH '{uri}' AS again"),
        (deletes,),
        ResetPolicy.MODULE,
        RingKind.MEMDB,
    ),
    Case(
        "another-name-in-a-script",
        (),
        deletes_by_another_name("SELECT 1; ATTACH '{uri}' AS again;"),
        (deletes,),
        ResetPolicy.MODULE,
        RingKind.MEMDB,
    ),
    Case(
        "replaced-after",
        (),
        deletes_by_replacing,
        (deletes,),
        ResetPolicy.MODULE,
        snapshot=REPLACED,
    ),
    *(
        Case(f"{name}-after", (), program, (deletes,), ResetPolicy.MODULE)
        for name, program in {
            "many-texts": deletes_by_many_texts,
            "trigger-that-goes": deletes_by_a_trigger_that_goes,
            "own-function": deletes_by_what_others_lack("DELETE FROM orders WHERE any(id)"),
            "own-attached": deletes_by_what_others_lack(
                "DELETE FROM orders WHERE id NOT IN (SELECT id FROM own.ids)"
            ),
            "own-temporary": deletes_by_what_others_lack(
                "INSERT INTO mine VALUES (1)",
                "DELETE FROM orders WHERE id IN (SELECT id FROM mine)",
            ),
            "anew": makes_the_table_anew,
            "script-that-fails": deletes_in_a_script_that_fails,
            "rows-that-fail": deletes_until_its_rows_end((0,)),
            "rows-that-do-not-fit": deletes_until_its_rows_end((0,), (1 << 70,)),
            "between-two-deletes": reads_between_two_deletes,
            "within-a-script": reads_within_a_script,
            "backup": removes_by_backup,
            "own-cursor": deletes_by_a_cursor_of_its_own(then=True),
            "own-cursor-of-a-closed-connection": deletes_by_a_cursor_of_its_own(then=False),
            "own-authorizer": keeps_its_authorizer,
        }.items()
    ),
    *(
        Case(f"{name}-{ring}", (), programs[-1], programs[:-1], ResetPolicy.MODULE, ring)
        for name, programs in CHANGED.items()
        for ring in (RingKind.SHARED_CACHE, RingKind.MEMDB)
    ),
]
