"""A ring whose rows outlive its connections: what is committed comes back, whatever happens."""

from __future__ import annotations

import contextlib
import gc
import sqlite3
import threading
from collections.abc import Callable, Iterator

import pytest

from snapfarm.store import SnapshotStore
from snapfarm_worker import connections, settling
from snapfarm_worker.errors import RingError, SnapshotCorrupt, StateNotKept
from snapfarm_worker.persistent import PersistentRing
from snapfarm_worker.ringkind import RingKind
from snapfarm_worker.snapshot import Snapshot
from support.golden import golden
from support.keeper import NotingKeeper, add, insert, on_a_thread, values, wait_until

GOLDEN = golden()
#: From 3.13 on, freeing an open connection is a ResourceWarning.
LEAKS = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture
def keeper() -> NotingKeeper:
    return NotingKeeper()


@pytest.fixture(params=[RingKind.SHARED_CACHE, RingKind.MEMDB])
def ring(request: pytest.FixtureRequest, keeper: NotingKeeper) -> Iterator[PersistentRing]:
    ring = PersistentRing(GOLDEN, keeper, kind=request.param)
    yield ring
    ring.close(discard=True)


# ---------------------------------------------------------------- the plain course


def test_rows_are_there_again_though_nobody_was_connected(
    ring: PersistentRing, keeper: NotingKeeper
) -> None:
    assert not ring.is_awake
    add(ring, 1)
    assert not ring.is_awake, "no connection may be held while nobody is connected"
    assert keeper.states["default"].manifest.rows["empty"] == 1
    add(ring, 2)
    assert values(ring) == [1, 2]
    assert ring.members() == []


def test_only_the_last_connection_to_close_stores(
    ring: PersistentRing, keeper: NotingKeeper
) -> None:
    with contextlib.closing(ring.connect()):
        add(ring)
        assert ring.is_awake
        assert keeper.kept == []
    assert len(keeper.kept) == 1


def test_who_only_reads_costs_no_snapshot(ring: PersistentRing, keeper: NotingKeeper) -> None:
    assert values(ring) == []
    add(ring)
    assert values(ring) == [1]
    assert len(keeper.kept) == 1


def test_one_state_is_not_stored_twice(ring: PersistentRing, keeper: NotingKeeper) -> None:
    with contextlib.closing(ring.connect()) as conn:
        with conn:
            insert(conn)
        ring.persist()
        ring.persist()
        assert len(keeper.kept) == 1
    assert len({each.manifest.digest for each in keeper.kept}) == len(keeper.kept)


def test_what_is_uncommitted_is_lost_and_what_is_committed_kept(ring: PersistentRing) -> None:
    conn = ring.connect()
    with conn:
        insert(conn, 1)
    insert(conn, 2)
    conn.close()
    assert not ring.is_awake
    assert values(ring) == [1]


def test_a_later_ring_begins_with_the_state_of_an_earlier_one(keeper: NotingKeeper) -> None:
    with PersistentRing(GOLDEN, keeper) as ring:
        add(ring)
    with PersistentRing(GOLDEN, keeper, kind=RingKind.MEMDB) as ring:
        assert values(ring) == [1]


def test_a_reset_goes_back_to_the_golden_snapshot(
    ring: PersistentRing, keeper: NotingKeeper
) -> None:
    add(ring)
    assert ring.reset().tier == "in-place"
    assert keeper.states["default"].manifest.digest == GOLDEN.manifest.digest
    assert ring.reset().tier == "clean"
    add(ring)
    with contextlib.closing(ring.connect()) as conn:
        ring.reset()
        assert conn.execute("SELECT count(*) FROM empty").fetchone() == (0,)
    assert keeper.states["default"].manifest.digest == GOLDEN.manifest.digest
    assert values(ring) == []


def test_a_snapshot_can_be_taken_at_any_time(ring: PersistentRing, keeper: NotingKeeper) -> None:
    assert ring.snapshot() is GOLDEN
    with contextlib.closing(ring.connect()) as conn, conn:
        insert(conn)
        conn.commit()
        assert ring.snapshot().manifest.rows["empty"] == 1
    assert ring.snapshot() is keeper.states["default"]


def test_the_digest_is_checked_once(keeper: NotingKeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    checks: list[str] = []
    verify = Snapshot.verify

    def noted(snapshot: Snapshot, where: str) -> None:
        checks.append(where)
        verify(snapshot, where)

    monkeypatch.setattr(Snapshot, "verify", noted)
    with PersistentRing(GOLDEN, keeper) as ring:
        add(ring)
        values(ring)
        ring.reset()
    assert len(checks) == 1
    flipped = bytearray(GOLDEN.data)
    flipped[5000] ^= 1
    with pytest.raises(SnapshotCorrupt, match="is damaged"):
        PersistentRing(Snapshot(GOLDEN.manifest, flipped), keeper)


# ---------------------------------------------------------------- joining


def test_sqlite_alone_refuses_the_uri_instead_of_opening_something_empty(
    ring: PersistentRing,
) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such vfs"):
        sqlite3.connect(ring.uri, uri=True)
    with connections.installed():
        conn = sqlite3.connect(ring.uri, uri=True)
        with conn:
            insert(conn)
        conn.close()
    assert values(ring) == [1]


def test_a_private_ring_is_refused(keeper: NotingKeeper) -> None:
    with pytest.raises(RingError, match="a private ring can't be persistent"):
        PersistentRing(GOLDEN, keeper, kind=RingKind.PRIVATE)


def test_two_rings_may_not_overwrite_each_other(keeper: NotingKeeper) -> None:
    with PersistentRing(GOLDEN, keeper):
        with pytest.raises(RingError, match="has a ring with this keeper already"):
            PersistentRing(GOLDEN, keeper)
        with (
            PersistentRing(GOLDEN, NotingKeeper()),
            PersistentRing(golden("other"), keeper, name="mine"),
            pytest.raises(RingError, match="exists already"),
        ):
            PersistentRing(golden("other"), NotingKeeper(), name="mine")
    with PersistentRing(GOLDEN, keeper):
        pass


def test_a_factory_whose_connections_can_not_be_followed_is_refused(ring: PersistentRing) -> None:
    with pytest.raises(RingError, match="can't tell when it is closed"):
        ring.connect(factory=lambda *args, **options: sqlite3.Connection(*args, **options))
    assert not ring.is_awake


def test_a_connection_that_fails_leaves_nothing_awake(ring: PersistentRing) -> None:
    with pytest.raises(TypeError):
        ring.connect(cached_statements="many")
    wait_until(lambda: not ring.is_awake)


# ---------------------------------------------------------------- who does not close


@LEAKS
@pytest.mark.parametrize("committed", [True, False])
def test_a_connection_that_is_dropped_counts_as_closed_once_it_is_freed(
    ring: PersistentRing, committed: bool
) -> None:
    conn = ring.connect()
    insert(conn, 1)
    conn.commit()
    if not committed:
        insert(conn, 2)
    del conn
    gc.collect()
    wait_until(lambda: not ring.is_awake)
    assert values(ring) == [1]


@LEAKS
def test_a_connection_closed_inside_of_the_collector_waits_for_no_lock(
    ring: PersistentRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collector may have interrupted this very thread in a keeper, with the keeper's lock."""
    threads: list[int] = []

    class Holder:
        def __init__(self) -> None:
            self.conn = ring.connect(check_same_thread=False)
            self.myself = self

        def __del__(self) -> None:
            self.conn.close()

    settle = ring._settle

    def noted() -> bool:
        threads.append(threading.get_ident())
        return settle()

    holder = Holder()
    insert(holder.conn)
    holder.conn.commit()
    monkeypatch.setattr(ring, "_settle", noted)
    del holder
    gc.collect()
    assert not settling.inside_collector()
    wait_until(lambda: not ring.is_awake)
    assert threading.get_ident() not in threads
    assert values(ring) == [1]


def test_an_unfinished_cursor_of_a_closed_connection_is_ended(ring: PersistentRing) -> None:
    conn = ring.connect()
    insert(conn, 1)
    conn.commit()
    insert(conn, 2)
    cursor = conn.execute("SELECT * FROM orders")
    conn.close()
    assert not ring.is_awake
    assert values(ring) == [1]
    del cursor


def test_so_is_one_of_another_thread(ring: PersistentRing) -> None:
    held: list[sqlite3.Cursor] = []
    conn = ring.connect()

    def read() -> None:
        other = ring.connect()
        insert(other)
        other.commit()
        held.append(other.execute("SELECT * FROM orders"))
        other.close()

    on_a_thread(read).join()
    conn.close()
    assert not ring.is_awake
    assert values(ring) == [1]
    held.clear()


def test_a_lock_in_the_way_keeps_the_ring_awake_until_it_is_gone(ring: PersistentRing) -> None:
    """As that of a connection which another thread's collector is freeing at this moment."""
    conn = ring.connect()
    insert(conn)
    conn.commit()
    assert ring._ring is not None
    unknown = sqlite3.Connection(ring._ring.uri, uri=True, isolation_level=None)
    unknown.execute("BEGIN IMMEDIATE")
    conn.close()
    assert ring.is_awake, "nothing may be lost"
    unknown.close()
    wait_until(lambda: not ring.is_awake)
    assert values(ring) == [1]


# ---------------------------------------------------------------- keepers that fail


def test_a_state_that_is_not_kept_stays_in_the_ring(
    ring: PersistentRing, keeper: NotingKeeper
) -> None:
    add(ring, 1)
    keeper.error = OSError("no room")
    conn = ring.connect()
    insert(conn, 2)
    conn.commit()
    with pytest.raises(StateNotKept, match="stays in the open ring: no room") as caught:
        conn.close()
    assert caught.value.__cause__ is keeper.error
    assert [ring.failure] == [caught.value]
    assert keeper.states["default"].manifest.rows["empty"] == 1
    with pytest.raises(StateNotKept):
        ring.persist()
    with pytest.raises(StateNotKept):
        ring.close()
    late = ring.connect()
    assert late.execute("SELECT count(*) FROM empty").fetchone() == (2,)
    keeper.error = None
    late.close()
    assert ring.failure is None
    assert not ring.is_awake
    assert values(ring) == [1, 2]


def test_a_full_store_loses_nothing() -> None:
    store = SnapshotStore(quota=3 * len(GOLDEN.data))
    with PersistentRing(GOLDEN, store) as ring:
        add(ring, 1)
        conn = ring.connect()
        conn.execute("INSERT INTO log(text) VALUES (?)", ("x" * 3 * len(GOLDEN.data),))
        conn.commit()
        with pytest.raises(StateNotKept, match="the snapshot store has no room"):
            conn.close()
        latest = store.latest("default")
        assert latest is not None
        assert latest.manifest.rows["empty"] == 1
        with contextlib.closing(ring.connect()) as again, again:
            again.execute("DELETE FROM log")
            again.execute("INSERT INTO empty VALUES (2)")
            again.commit()
            again.execute("VACUUM")
        assert not ring.is_awake
        assert values(ring) == [1, 2]


def test_a_state_that_the_keeper_lost_is_not_taken_for_none(
    ring: PersistentRing, keeper: NotingKeeper
) -> None:
    add(ring)
    lost = keeper.states.pop("default")
    with pytest.raises(RingError, match="its keeper has lost the state"):
        ring.connect()
    keeper.keep(lost)
    assert values(ring) == [1]
    keeper.states.clear()
    ring.reset()
    assert values(ring) == []


def test_a_store_holds_one_state_of_each_ring() -> None:
    store = SnapshotStore.sized_for([len(GOLDEN.data)])
    store.put(GOLDEN)
    with PersistentRing(GOLDEN, store) as ring:
        for value in range(20):
            add(ring, value)
        assert store.usage().snapshots == 2
        ring.reset()
        assert store.usage().snapshots == 2
    assert store.get("default", GOLDEN.manifest.digest).manifest.digest == GOLDEN.manifest.digest


# ---------------------------------------------------------------- closing the ring


def test_a_closed_ring_is_gone_and_its_state_is_kept(
    ring: PersistentRing, keeper: NotingKeeper
) -> None:
    add(ring)
    ring.close()
    ring.close()
    assert connections.find(ring.uri) is None
    asks: tuple[Callable[[], object], ...] = (ring.connect, ring.reset, ring.persist, ring.snapshot)
    for ask in asks:
        with pytest.raises(RingError, match="is closed"):
            ask()
    assert keeper.states["default"].manifest.rows["empty"] == 1


def test_the_last_connection_of_a_closed_ring_takes_the_state_along(
    ring: PersistentRing, keeper: NotingKeeper
) -> None:
    first, last = ring.connect(timeout=60), ring.connect(timeout=60)
    insert(first, 1)
    first.commit()
    insert(last, 2)
    ring.close()  # somebody writes: what is committed is kept later
    last.commit()
    first.close()
    assert "leaving" in repr(ring)
    with pytest.raises(RingError, match="is closed"):
        ring.connect()
    insert(last, 3)
    last.commit()
    last.close()
    assert "closed" in repr(ring)
    assert keeper.states["default"].manifest.rows["empty"] == 3


def test_what_is_committed_is_kept_when_the_ring_is_closed(
    ring: PersistentRing, keeper: NotingKeeper
) -> None:
    conn = ring.connect()
    insert(conn)
    conn.commit()
    ring.close()
    assert keeper.states["default"].manifest.rows["empty"] == 1
    conn.close()


def test_a_state_can_be_given_up(ring: PersistentRing, keeper: NotingKeeper) -> None:
    conn = ring.connect()
    insert(conn)
    conn.commit()
    ring.close(discard=True)
    assert conn.execute("SELECT count(*) FROM empty").fetchone() == (1,)
    conn.close()
    assert keeper.kept == []
    assert "closed" in repr(ring)
