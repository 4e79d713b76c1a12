"""Members that have their ring to themselves, until they have not."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator

import pytest

from snapfarm_worker import connections, patience
from snapfarm_worker.anomaly import AnomalyKind
from snapfarm_worker.members import RingConnection, RingCursor, SoloConnection
from snapfarm_worker.ring import ResetPolicy, Ring, RingKind
from support.golden import golden
from support.sensor_rig import EMPTY_SCHEMA, SHARING, Rig

SNAPSHOT = golden()


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    connections.install()
    yield
    connections.uninstall()


@pytest.fixture
def ring() -> Iterator[Ring]:
    with Ring.restore(SNAPSHOT) as ring:
        yield ring


def test_alone_it_is_as_fast_as_sqlite(ring: Ring) -> None:
    with contextlib.closing(ring.connect_alone()) as conn:
        assert type(conn).execute is sqlite3.Connection.execute
        assert isinstance(conn, RingConnection)
        # What is less often used waits and tells as ever.
        assert type(conn.cursor()) is RingCursor


def test_with_company_it_waits_for_locks(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    """1. A is alone.  2. B joins and writes.  3. A reads: it waits until B commits."""
    joined, waiting = threading.Event(), threading.Event()
    with contextlib.closing(ring.connect_alone()) as conn:

        def company() -> None:
            with contextlib.closing(sqlite3.connect(ring.uri, uri=True)) as other:
                other.execute("INSERT INTO empty VALUES (1)")
                joined.set()
                waiting.wait(30)
                other.commit()

        thread = threading.Thread(target=company)

        def nap(seconds: float) -> None:
            waiting.set()
            thread.join()

        monkeypatch.setattr(patience, "_sleep", nap)
        thread.start()
        assert joined.wait(30)
        assert type(conn) is RingConnection
        assert conn.execute("SELECT * FROM empty").fetchall() == [(1,)]
        assert not thread.is_alive()


def test_who_comes_second_is_not_alone(ring: Ring) -> None:
    with (
        contextlib.closing(ring.connect()),
        contextlib.closing(ring.connect_alone()) as second,
    ):
        assert type(second) is RingConnection


def test_two_that_believe_to_be_alone_are_not(ring: Ring) -> None:
    with (
        contextlib.closing(ring.connect_alone()) as first,
        contextlib.closing(ring.connect_alone()) as second,
    ):
        assert {type(first), type(second)} == {RingConnection}


def test_it_is_alone_again_once_the_other_is_freed(ring: Ring) -> None:
    other = ring.connect()
    other.close()
    del other
    with contextlib.closing(ring.connect_alone()) as conn:
        assert type(conn) is SoloConnection


def test_a_private_ring_has_no_company() -> None:
    with (
        Ring.restore(SNAPSHOT, kind=RingKind.PRIVATE) as ring,
        contextlib.closing(ring.connect_alone()) as conn,
        contextlib.closing(ring.connect()) as other,
    ):
        other.execute("DELETE FROM customers")
        other.commit()
        assert type(conn) is SoloConnection
        assert conn.execute("SELECT count(*) FROM customers").fetchone() > (0,)


@pytest.mark.parametrize("kind", SHARING)
def test_leaving_the_ring_is_seen_and_so_are_reads_after_it(kind: RingKind) -> None:
    rig = Rig(kind)
    try:
        with contextlib.closing(rig.ring.connect_alone()) as conn:
            conn.deserialize(EMPTY_SCHEMA)
            assert conn.execute("SELECT * FROM orders").fetchall() == []
        assert rig.kinds() == [AnomalyKind.LEFT_RING, AnomalyKind.EMPTY_TABLE_READ]
    finally:
        rig.databases.close()


def test_the_watcher_is_told_of_an_error_that_ends_a_call() -> None:
    """1. A table is dropped.  2. Another call reads it, and fails."""
    rig = Rig(RingKind.SHARED_CACHE, ResetPolicy.NEVER)
    try:
        with contextlib.closing(rig.ring.connect()) as conn:
            conn.execute("DROP TABLE orders")
        del conn
        rig.end()
        with contextlib.closing(rig.ring.connect_alone()) as conn:
            with pytest.raises(sqlite3.OperationalError, match="no such table") as info:
                conn.execute("SELECT * FROM orders")
            assert rig.databases.anomalies() == ()
            rig.databases.call_failed(conn, ValueError("not SQLite's"))
            assert rig.databases.anomalies() == ()
            rig.databases.call_failed(conn, info.value)
        assert rig.kinds() == [AnomalyKind.MISSING_TABLE]
    finally:
        rig.databases.close()
