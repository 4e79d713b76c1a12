"""Layers of a ring: what is committed on purpose becomes what the ring goes back to."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

import pytest

from snapfarm_worker.errors import RingError
from snapfarm_worker.layers import Layer
from snapfarm_worker.ring import Ring, RingKind
from support.golden import ORDERS, golden

SHARING = [RingKind.SHARED_CACHE, RingKind.MEMDB]


@pytest.fixture(params=list(RingKind))
def ring(request: pytest.FixtureRequest) -> Iterator[Ring]:
    with Ring.restore(golden(), kind=request.param) as ring:
        yield ring


def shared(kind: RingKind) -> contextlib.AbstractContextManager[Ring]:
    return Ring.restore(golden(), kind=kind)


def run(ring: Ring, sql: str) -> None:
    with contextlib.closing(ring.connect()) as conn, conn:
        conn.execute(sql)


def orders(ring: Ring) -> int:
    with contextlib.closing(ring.connect()) as conn:
        return int(conn.execute("SELECT count(*) FROM orders").fetchone()[0])


def add(ring: Ring, sql: str, name: str = "some") -> Layer | None:
    with ring.layers.watch() as mark:
        run(ring, sql)
        return ring.layers.add(mark, name)


def test_layers_nest_and_each_is_what_the_ring_goes_back_to(ring: Ring) -> None:
    assert ring.baseline == ring.manifest
    first = add(ring, "DELETE FROM orders WHERE id > 150", "first")
    second = add(ring, "CREATE TABLE extra AS SELECT * FROM orders WHERE id > 140", "second")
    assert first is not None
    assert second is not None
    assert [layer.name for layer in ring.layers] == ["base", "first", "second"]
    assert ring.baseline.rows == {**ring.manifest.rows, "orders": 150, "extra": 10}
    assert ring.baseline.layer == "second"
    assert ring.baseline_columns().get("extra") == (
        None if ring.kind is RingKind.PRIVATE else {"id", "customer", "total"}
    )
    for _ in range(3):
        run(ring, "DELETE FROM orders")
        ring.reset()
        assert orders(ring) == 150
    assert ring.snapshot().manifest.rows == ring.baseline.rows
    ring.layers.drop(second)
    ring.reset()
    assert ring.baseline.rows == {**ring.manifest.rows, "orders": 150}
    with pytest.raises(sqlite3.OperationalError, match="no such table: extra"):
        run(ring, "DELETE FROM extra")
    ring.layers.drop(first)
    ring.reset()
    assert orders(ring) == ORDERS
    assert ring.baseline == ring.manifest


def test_a_connection_that_stays_open_goes_back_to_the_layer(ring: Ring) -> None:
    with contextlib.closing(ring.connect()) as conn:
        with ring.layers.watch() as mark:
            conn.execute("DELETE FROM orders WHERE id > 150")
            conn.commit()
            assert ring.layers.add(mark, "some") is not None
        conn.execute("DELETE FROM orders")
        conn.commit()
        ring.reset()
        assert conn.execute("SELECT count(*) FROM orders").fetchone() == (150,)


def test_what_changes_nothing_is_no_layer(ring: Ring) -> None:
    assert add(ring, "SELECT * FROM orders") is None
    assert ring.reset().tier == "clean"
    assert ring.baseline == ring.manifest


@pytest.mark.parametrize("kind", SHARING)
def test_rows_from_before_the_mark_are_in_no_layer(kind: RingKind) -> None:
    with shared(kind) as ring:
        run(ring, "DELETE FROM orders WHERE id > 150")
        with pytest.raises(RingError, match="something else had been committed before"):
            add(ring, "DELETE FROM customers")
        assert add(ring, "SELECT 1") is None
        ring.reset()
        assert orders(ring) == ORDERS


def test_in_a_private_ring_a_connection_that_was_changed_before_is_in_no_layer() -> None:
    with shared(RingKind.PRIVATE) as ring, contextlib.closing(ring.connect()) as conn:
        conn.execute("DELETE FROM orders WHERE id > 150")
        conn.commit()
        with ring.layers.watch() as mark:
            conn.execute("DELETE FROM pairs")
            conn.commit()
            with pytest.raises(RingError, match="changed the same connection before"):
                ring.layers.add(mark, "some")
        # Another one, made meanwhile, has a copy that nobody else has changed.
        assert add(ring, "DELETE FROM pairs") is not None
        assert "pairs" not in ring.baseline.rows
        assert ring.baseline.rows["orders"] == ORDERS


def test_what_is_not_committed_is_in_no_layer(ring: Ring) -> None:
    with contextlib.closing(ring.connect()) as conn, ring.layers.watch() as mark:
        conn.execute("DELETE FROM orders WHERE id > 150")
        if ring.kind is RingKind.PRIVATE:
            with pytest.raises(RingError, match="keeps a transaction open"):
                ring.layers.add(mark, "some")
        else:
            assert ring.layers.add(mark, "some") is None
    assert orders(ring) == ORDERS


def test_a_private_connection_closed_in_a_transaction_leaves_what_it_committed() -> None:
    with shared(RingKind.PRIVATE) as ring, ring.layers.watch() as mark:
        conn = ring.connect()
        conn.execute("DELETE FROM orders WHERE id > 150")
        conn.commit()
        conn.execute("DELETE FROM orders")
        conn.close()
        assert ring.layers.add(mark, "some") is not None
        assert orders(ring) == 150


def test_a_layer_waits_for_no_writer_for_long() -> None:
    with shared(RingKind.SHARED_CACHE) as ring, contextlib.closing(ring.connect()) as conn:
        with ring.layers.watch() as mark:
            conn.execute("DELETE FROM orders WHERE id > 150")
            conn.commit()
            conn.execute("DELETE FROM orders")
            with pytest.raises(RingError, match="open write transaction"):
                ring.layers.add(mark, "some")
        conn.rollback()
        ring.reset()
        assert orders(ring) == ORDERS


def test_a_layer_can_be_taken_from_under_another_one(ring: Ring) -> None:
    lower = add(ring, "DELETE FROM orders WHERE id > 150", "lower")
    upper = add(ring, "DELETE FROM pairs", "upper")
    assert lower is not None
    assert upper is not None
    with ring.layers.watch() as mark:
        assert not ring.layers.amend(mark)
    with ring.layers.watch() as mark:
        run(ring, "INSERT INTO orders(customer, total) VALUES (1, 1)")
        assert ring.layers.amend(mark)
    ring.layers.drop(lower)
    run(ring, "DELETE FROM orders")
    ring.reset()
    assert orders(ring) == 151
    assert "pairs" not in ring.baseline.rows
    ring.layers.drop(upper)
    ring.reset()
    assert orders(ring) == ORDERS


def test_a_retired_ring_begins_again_with_its_layer() -> None:
    with shared(RingKind.SHARED_CACHE) as ring:
        wide = ring.connect()
        assert add(ring, "DELETE FROM orders WHERE id > 150") is not None
        wide.execute("BEGIN")
        wide.execute("SELECT * FROM customers").fetchone()
        ring.mark()
        run(ring, "DELETE FROM orders WHERE id > 100")
        assert ring.reset().tier == "retired"
        assert orders(ring) == 150
        wide.close()


def test_a_ring_without_an_image_has_no_layers() -> None:
    with (
        Ring.restore(golden(), resettable=False) as ring,
        pytest.raises(RingError, match="resettable=False"),
    ):
        add(ring, "DELETE FROM orders")


def test_closing_frees_all_layers(ring: Ring) -> None:
    layer = add(ring, "DELETE FROM orders")
    assert layer is not None
    assert layer.size == ring.manifest.size
    ring.close()
    assert layer.size == 0
    ring.layers.drop(layer)
    with pytest.raises(RingError, match="gone"):
        _ = layer.manifest
