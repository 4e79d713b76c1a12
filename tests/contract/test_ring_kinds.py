"""What every ring kind promises, in one suite."""

from __future__ import annotations

import contextlib
import gc
import sqlite3
from collections.abc import Iterator

import pytest

from snapfarm_worker import connections
from snapfarm_worker.errors import RingError, SnapshotCorrupt
from snapfarm_worker.ring import Ring, RingKind, check_support
from snapfarm_worker.snapshot import Snapshot
from support.golden import CUSTOMERS, ORDERS, golden

KINDS = list(RingKind)
#: From 3.13 on, freeing an open connection is a ResourceWarning.
LEAKS = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
SHARING = [RingKind.SHARED_CACHE, RingKind.MEMDB]


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    return golden()


@pytest.fixture(params=KINDS)
def ring(request: pytest.FixtureRequest, snapshot: Snapshot) -> Iterator[Ring]:
    with Ring.restore(snapshot, kind=request.param) as ring:
        yield ring


@pytest.fixture(params=SHARING)
def shared(request: pytest.FixtureRequest, snapshot: Snapshot) -> Iterator[Ring]:
    with Ring.restore(snapshot, kind=request.param) as ring:
        yield ring


def count(conn: sqlite3.Connection, table: str) -> int:
    return int(conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def assert_pristine(ring: Ring) -> None:
    with contextlib.closing(ring.connect()) as conn:
        assert_sees_golden(conn)


def assert_sees_golden(conn: sqlite3.Connection) -> None:
    assert count(conn, "customers") == CUSTOMERS
    assert count(conn, "orders") == ORDERS
    assert count(conn, "log") == ORDERS
    assert count(conn, "empty") == 0
    assert conn.execute("PRAGMA user_version").fetchone() == (7,)
    assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert {row[0] for row in conn.execute("SELECT name FROM sqlite_schema")} >= {
        "orders_logged",
        "totals",
        "orders_customer",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_this_sqlite_has_the_kind(kind: RingKind) -> None:
    check_support(kind)


def test_a_ring_holds_its_golden_rows(ring: Ring) -> None:
    assert_pristine(ring)
    assert ring.manifest.database == ring.database == "default"


def test_members_share_what_is_committed(shared: Ring) -> None:
    with contextlib.closing(shared.connect()) as one, contextlib.closing(shared.connect()) as two:
        one.execute("DELETE FROM orders")
        one.commit()
        assert count(two, "orders") == 0
        assert shared.is_dirty()


def test_private_members_share_nothing(snapshot: Snapshot) -> None:
    with (
        Ring.restore(snapshot, kind=RingKind.PRIVATE) as ring,
        contextlib.closing(ring.connect()) as one,
        contextlib.closing(ring.connect()) as two,
    ):
        one.execute("DELETE FROM orders")
        one.commit()
        assert count(two, "orders") == ORDERS
        assert not ring.is_dirty()
        assert ring.reset().tier == "in-place"
        assert count(one, "orders") == ORDERS


def test_a_test_that_wrote_nothing_costs_no_restore(ring: Ring) -> None:
    with contextlib.closing(ring.connect()) as conn:
        count(conn, "orders")
        conn.execute("INSERT INTO empty VALUES (1)")
        conn.rollback()
    assert ring.reset().tier == "clean"


def test_connected_members_see_golden_rows_after_a_reset(shared: Ring) -> None:
    with contextlib.closing(shared.connect()) as one, contextlib.closing(shared.connect()) as two:
        for number in range(3):
            count(two, "orders")
            one.execute("DELETE FROM customers WHERE id < ?", (5 + number,))
            one.execute("INSERT INTO orders(customer, total) VALUES (1, 1)")
            one.commit()
            assert shared.reset().tier == "in-place"
            assert not shared.is_dirty()
            assert_sees_golden(one)
            assert_sees_golden(two)


@pytest.mark.parametrize(
    "script",
    [
        "ALTER TABLE orders ADD COLUMN note TEXT",
        "ALTER TABLE orders RENAME TO bestellungen",
        "DROP TABLE orders",
        "DROP VIEW totals; DROP TRIGGER orders_logged; DROP INDEX orders_customer",
        "CREATE TABLE more(x); INSERT INTO more VALUES (zeroblob(400000))",
        "DELETE FROM orders; DELETE FROM log; VACUUM",
        "PRAGMA user_version = 99; PRAGMA application_id = 5",
        "PRAGMA auto_vacuum = 1; VACUUM",
        "PRAGMA foreign_keys = ON; DELETE FROM customers",
        "REPLACE INTO customers VALUES (1, 'other')",
    ],
)
def test_a_reset_undoes(shared: Ring, script: str) -> None:
    with contextlib.closing(shared.connect()) as idle, contextlib.closing(shared.connect()) as conn:
        idle.execute("SELECT * FROM orders, totals").fetchall()
        conn.executescript(script)
        assert shared.is_dirty()
        assert shared.reset().tier == "in-place"
        assert_sees_golden(idle)
        assert_sees_golden(conn)
        idle.execute("SELECT * FROM orders, totals").fetchall()
    assert_pristine(shared)


def test_a_member_that_read_before_many_resets_sees_the_present_rows(shared: Ring) -> None:
    """Whoever caches pages by the file's change counter must not take a later state for an old one.

    1. A reads after one commit. 2. The ring is reset. 3. B commits something else, once.
    4. A must see B's rows, though there was one commit since the golden state, as before.
    """
    with contextlib.closing(shared.connect()) as a, contextlib.closing(shared.connect()) as b:
        b.execute("UPDATE customers SET name = 'first' WHERE id = 1")
        b.commit()
        assert a.execute("SELECT name FROM customers WHERE id = 1").fetchone() == ("first",)
        shared.reset()
        b.execute("UPDATE customers SET name = 'second' WHERE id = 1")
        b.commit()
        assert a.execute("SELECT name FROM customers WHERE id = 1").fetchone() == ("second",)


def test_rollback_works_on_every_member_after_a_reset(shared: Ring) -> None:
    with contextlib.closing(shared.connect()) as one, contextlib.closing(shared.connect()) as two:
        one.execute("DELETE FROM orders")
        one.commit()
        shared.reset()
        for conn in (one, two):
            conn.execute("DELETE FROM orders")
            conn.rollback()
            assert count(conn, "orders") == ORDERS
        with contextlib.closing(shared.connect()) as late:
            late.execute("SAVEPOINT here")
            late.execute("DELETE FROM orders")
            late.execute("ROLLBACK TO here")
            assert count(late, "orders") == ORDERS


def test_a_journal_that_a_test_switched_off_is_back(shared: Ring) -> None:
    with contextlib.closing(shared.connect()) as conn:
        conn.execute("PRAGMA journal_mode = OFF")
        conn.execute("PRAGMA max_page_count = 100")
    shared.reset()
    with contextlib.closing(shared.connect()) as conn:
        assert conn.execute("PRAGMA journal_mode").fetchone() == ("memory",)
        conn.execute("INSERT INTO empty VALUES (zeroblob(2000000))")


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
@pytest.mark.parametrize("page_size", [512, 65536])
@pytest.mark.parametrize("kind", KINDS)
def test_page_sizes_and_encodings(kind: RingKind, page_size: int, encoding: str) -> None:
    before = f"PRAGMA encoding = '{encoding}'; PRAGMA page_size = {page_size};"
    with (
        Ring.restore(golden(before=before), kind=kind) as ring,
        contextlib.closing(ring.connect()) as conn,
    ):
        assert conn.execute("PRAGMA encoding").fetchone() == (encoding,)
        assert conn.execute("PRAGMA page_size").fetchone() == (page_size,)
        assert conn.execute("""SELECT * FROM "odd ""name"" é" """).fetchone() == ("ü",)
        conn.execute("DELETE FROM orders")
        conn.commit()
        if kind is not RingKind.PRIVATE:
            assert ring.reset().tier == "in-place"
            assert_sees_golden(conn)


def test_a_snapshot_of_the_ring_is_its_present_state(shared: Ring, snapshot: Snapshot) -> None:
    assert shared.snapshot().manifest.rows == snapshot.manifest.rows
    with contextlib.closing(shared.connect()) as conn:
        conn.execute("DELETE FROM orders")
        conn.commit()
        taken = shared.snapshot()
    assert "orders" not in taken.manifest.rows
    assert taken.manifest.schema_digest == snapshot.manifest.schema_digest
    with Ring.restore(taken, kind=shared.kind) as again, contextlib.closing(again.connect()) as two:
        assert count(two, "orders") == 0
        assert count(two, "customers") == CUSTOMERS


def test_a_damaged_snapshot_is_not_restored(snapshot: Snapshot) -> None:
    flipped = bytearray(snapshot.data)
    flipped[5000] ^= 1
    with pytest.raises(SnapshotCorrupt, match="is damaged"):
        Ring.restore(Snapshot(snapshot.manifest, bytes(flipped)))
    with Ring.restore(Snapshot(snapshot.manifest, bytes(flipped)), verified=True) as ring:
        assert ring.is_open


def test_a_ring_that_keeps_no_image_can_not_be_reset(snapshot: Snapshot) -> None:
    with (
        Ring.restore(snapshot, resettable=False) as ring,
        contextlib.closing(ring.connect()) as conn,
    ):
        assert ring.reset().tier == "clean"
        conn.execute("DELETE FROM orders")
        conn.commit()
        with pytest.raises(RingError, match="resettable=False"):
            ring.reset()


def test_an_open_transaction_is_ended_and_named(shared: Ring) -> None:
    conn = shared.connect()
    conn.execute("DELETE FROM orders")
    outcome = shared.reset()
    assert outcome.tier == "clean"
    assert len(outcome.blockers) == 1
    assert "an open transaction" in outcome.blockers[0]
    assert "test_an_open_transaction_is_ended_and_named" in outcome.blockers[0]
    assert_sees_golden(conn)
    conn.close()


def test_an_unfinished_cursor_is_closed_and_named(shared: Ring) -> None:
    conn = shared.connect()
    writer = shared.connect()
    writer.execute("INSERT INTO empty VALUES (1)")
    writer.commit()
    cursor = conn.execute("SELECT * FROM orders")
    outcome = shared.reset()
    assert outcome.tier == "in-place"
    assert "a cursor with rows left" in outcome.blockers[0]
    with pytest.raises(sqlite3.ProgrammingError):
        cursor.fetchone()
    assert_sees_golden(conn)
    conn.close()
    writer.close()


def test_a_finished_cursor_stays_usable(shared: Ring) -> None:
    conn = shared.connect()
    finished = conn.execute("SELECT 1")
    finished.fetchall()
    unfinished = conn.execute("SELECT * FROM orders")
    shared.reset()
    assert finished.execute("SELECT 2").fetchone() == (2,)
    with pytest.raises(sqlite3.ProgrammingError):
        unfinished.fetchone()
    conn.close()


def test_the_zombie_of_a_closed_connection_is_freed(shared: Ring) -> None:
    conn = shared.connect()
    cursor = conn.execute("SELECT * FROM orders")
    conn.close()
    assert not shared.is_free()
    outcome = shared.reset()
    assert outcome.tier == "clean"
    assert "a cursor with rows left" in outcome.blockers[0]
    assert shared.is_free()
    del cursor


@LEAKS
def test_a_connection_dropped_in_a_transaction_is_collected(shared: Ring) -> None:
    def drop() -> None:
        conn = shared.connect()
        conn.execute("DELETE FROM orders")

    gc.collect()
    gc.disable()
    try:
        drop()
        outcome = shared.reset()
    finally:
        gc.enable()
    assert outcome.tier == "clean"
    assert outcome.blockers
    assert_pristine(shared)
    gc.collect()


def test_a_blocker_that_can_not_be_ended_retires_the_ring(shared: Ring) -> None:
    """What connects to the URI afterwards is pristine, and the old member keeps its world."""
    old = shared.connect()
    old.execute("DELETE FROM orders")
    old.commit()
    assert shared.is_dirty()
    old.execute("DELETE FROM customers")
    assert shared.is_dirty()
    shared.mark()
    outcome = shared.reset()
    assert outcome.tier == "retired"
    assert "test_a_blocker_that_can_not_be_ended" in outcome.blockers[0]
    assert_pristine(shared)
    assert count(old, "customers") == 0
    old.rollback()
    assert count(old, "orders") == 0
    assert shared.reset().tier == "clean"
    old.close()
    assert_pristine(shared)


def test_a_transaction_from_before_blocks_nothing_while_nothing_was_committed(
    shared: Ring,
) -> None:
    outer = shared.connect()
    outer.execute("INSERT INTO empty VALUES (1)")
    shared.mark()
    assert shared.reset().tier == "clean"
    assert outer.in_transaction
    assert count(outer, "empty") == 1
    outer.close()


def test_a_closed_ring_is_gone(snapshot: Snapshot) -> None:
    ring = Ring.restore(snapshot)
    ring.close()
    ring.close()
    with pytest.raises(RingError, match="is closed"):
        ring.connect()
    with pytest.raises(RingError, match="is closed"):
        ring.reset()
    assert connections.find(ring.uri) is None


def test_a_name_is_used_once(snapshot: Snapshot) -> None:
    with Ring.restore(snapshot, name="twice") as first:
        assert first.uri.startswith("file:farm-twice-default")
        with pytest.raises(RingError, match="exists already"):
            Ring.restore(snapshot, name="twice")
    with Ring.restore(snapshot, name="twice"):
        pass


def test_two_rings_of_one_snapshot_are_two_databases(snapshot: Snapshot) -> None:
    with (
        Ring.restore(snapshot) as first,
        Ring.restore(snapshot) as second,
        contextlib.closing(first.connect()) as conn,
    ):
        conn.execute("DELETE FROM orders")
        conn.commit()
        assert not second.is_dirty()
        assert_pristine(second)


def test_two_thousand_connections(shared: Ring) -> None:
    held = [shared.connect() for _ in range(2000)]
    held[0].execute("DELETE FROM orders")
    held[0].commit()
    assert shared.reset().tier == "in-place"
    assert count(held[-1], "orders") == ORDERS
    for conn in held:
        conn.close()
    del held, conn
    gc.collect()
    assert shared.members() == []
