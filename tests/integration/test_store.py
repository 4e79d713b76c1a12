"""Snapshots in D-MemFS."""

from __future__ import annotations

import contextlib
import sqlite3
import threading

import pytest

from snapfarm.errors import SnapshotUnknown, StoreFull
from snapfarm.store import SnapshotStore
from snapfarm_worker.errors import SnapshotCorrupt
from snapfarm_worker.snapshot import Snapshot, take


def snapshot(database: str = "default", rows: int = 10, layer: str = "base") -> Snapshot:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        conn.execute("CREATE TABLE t(x)")
        conn.executemany("INSERT INTO t VALUES (?)", ((n,) for n in range(rows)))
        return take(conn, database, layer=layer)


@pytest.fixture
def store() -> SnapshotStore:
    return SnapshotStore.sized_for([100_000])


@pytest.mark.parametrize(
    "database", ["default", "a b", "ä/ö", "../..", ".", "%2E", 'quo"te', "*[x]?", "tab\tand\nline"]
)
def test_what_was_put_comes_back_whatever_its_name(store: SnapshotStore, database: str) -> None:
    put = snapshot(database, layer=f"layer of {database}")
    store.put(put)
    assert store.get(database, put.manifest.digest) == put
    assert store.snapshots() == (put.manifest,)
    store.remove(database, put.manifest.digest)
    assert store.snapshots() == ()


def test_it_lies_in_the_documented_tree(store: SnapshotStore) -> None:
    put = snapshot("my db", layer="v1.0")
    store.put(put)
    path = f"/golden/my%20db/v1%2E0/{put.manifest.digest}"
    assert store._files.is_file(f"{path}.sqlite")
    assert store._files.is_file(f"{path}.json")


def test_the_image_to_send_is_one_object(store: SnapshotStore) -> None:
    put = snapshot()
    store.put(put)
    image = store.image(put.manifest.digest)
    assert image is put.data
    assert store.image(put.manifest.digest) is image
    # A received image is a bytearray: what is sent must not change with it.
    received = Snapshot(put.manifest, bytearray(put.data))
    other = SnapshotStore.sized_for([len(put.data)])
    other.put(received)
    assert type(other.image(put.manifest.digest)) is bytes


def test_putting_one_snapshot_twice_changes_nothing(store: SnapshotStore) -> None:
    put = snapshot()
    store.put(put)
    before, image = store.usage(), store.image(put.manifest.digest)
    store.put(snapshot())
    assert store.usage() == before
    assert store.image(put.manifest.digest) is image


def test_one_image_may_belong_to_several_databases(store: SnapshotStore) -> None:
    one, two = snapshot("one"), snapshot("two")
    digest = one.manifest.digest
    assert digest == two.manifest.digest
    store.put(one)
    store.put(two)
    assert [m.database for m in store.snapshots()] == ["one", "two"]
    store.remove("one", digest)
    assert store.image(digest)
    assert store.get("two", digest) == two
    store.remove("two", digest)
    with pytest.raises(SnapshotUnknown):
        store.image(digest)


def test_what_is_not_there_is_named(store: SnapshotStore) -> None:
    store.put(snapshot("default"))
    for ask in (store.get, store.remove):
        with pytest.raises(SnapshotUnknown, match="no snapshot of database 'other'"):
            ask("other", "ab" * 32)
        with pytest.raises(SnapshotUnknown, match="with digest abababababab"):
            ask("default", "ab" * 32)


def test_a_flipped_bit_is_found_when_a_snapshot_is_read(store: SnapshotStore) -> None:
    put = snapshot()
    store.put(put)
    path = f"/golden/default/base/{put.manifest.digest}.sqlite"
    with store._files.open(path, "r+b") as file:
        file.seek(5000)
        file.write(bytes([put.data[5000] ^ 1]))
    with pytest.raises(SnapshotCorrupt, match=r"in the store \(/golden/default/base/"):
        store.get("default", put.manifest.digest)


@pytest.mark.parametrize("offset", [0, 40])
def test_a_damaged_manifest_is_found(store: SnapshotStore, offset: int) -> None:
    put = snapshot()
    store.put(put)
    path = f"/golden/default/base/{put.manifest.digest}.json"
    with store._files.open(path, "r+b") as file:
        file.seek(offset)
        file.write(b"z")
    with pytest.raises(SnapshotCorrupt, match="in the store"):
        store.get("default", put.manifest.digest)


def test_a_full_store_says_what_it_needs_and_has() -> None:
    small, large = snapshot(rows=10), snapshot("large", rows=20_000)
    store = SnapshotStore(quota=len(small.data) + len(large.data) // 2)
    store.put(small)
    before = store.usage()
    with pytest.raises(StoreFull, match="no room for database 'large'") as caught:
        store.put(large)
    assert caught.value.needed >= len(large.data)
    assert caught.value.free == before.free
    assert store.usage() == before, "a refused snapshot must leave nothing behind"
    assert store.get("default", small.manifest.digest) == small
    store.remove("default", small.manifest.digest)
    assert store.usage().used == 0


def test_a_manifest_without_room_takes_its_image_along() -> None:
    put = snapshot()
    store = SnapshotStore(quota=len(put.data) + 200)
    with pytest.raises(StoreFull):
        store.put(put)
    assert store.usage().used == 0
    assert store.snapshots() == ()


def test_the_quota_leaves_room_for_layers() -> None:
    base = snapshot(rows=20_000)
    store = SnapshotStore.sized_for([len(base.data)])
    store.put(base)
    for count in range(3):
        store.put(snapshot(rows=20_001 + count, layer=f"layer {count}"))
    assert store.usage().snapshots == 4


def test_only_the_latest_state_is_kept(store: SnapshotStore) -> None:
    golden = snapshot(rows=1)
    store.put(golden)
    assert store.latest("default") is None
    for rows in (2, 3, 3, 1):
        state = snapshot(rows=rows, layer="orders")
        store.keep(state)
        latest = store.latest("default")
        assert latest is not None
        assert latest.data == state.data
        assert store.image(state.manifest.digest) is latest.data
        assert store.usage().snapshots == 2
    # The golden image is that of the latest state now, and stays when that goes.
    store.keep(snapshot(rows=4))
    assert store.get("default", golden.manifest.digest) == golden
    assert store.latest("other") is None


def test_a_state_without_room_leaves_the_one_before() -> None:
    small, large = snapshot(rows=10), snapshot(rows=20_000)
    store = SnapshotStore(quota=len(small.data) + len(large.data) // 2)
    store.keep(small)
    before = store.usage()
    with pytest.raises(StoreFull):
        store.keep(large)
    assert store.usage() == before
    latest = store.latest("default")
    assert latest is not None
    assert latest.data is small.data


def test_threads_may_put_at_once(store: SnapshotStore) -> None:
    barrier = threading.Barrier(8)
    images = [snapshot(f"db{n % 4}", rows=n % 4) for n in range(8)]

    def put(index: int) -> None:
        barrier.wait()
        store.put(images[index])

    threads = [threading.Thread(target=put, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [m.database for m in store.snapshots()] == ["db0", "db1", "db2", "db3"]
