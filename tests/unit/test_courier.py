"""The courier: many deliveries of one image, and images that are none."""

from __future__ import annotations

import contextlib
import platform
import sqlite3
from pathlib import Path

import msgspec
import pytest

from snapfarm_worker.courier import Courier, keep_freed_memory, use_large_pages
from snapfarm_worker.errors import RingError, SnapshotError
from snapfarm_worker.snapshot import Snapshot, digest_of, take
from support.golden import golden


def test_every_delivery_is_the_same() -> None:
    snapshot = golden()
    with (
        contextlib.closing(Courier(snapshot)) as courier,
        contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as target,
    ):
        courier.prepare(target)
        for _ in range(4):
            courier.deliver(target)
            taken = take(target, "default").manifest
            assert taken.rows == snapshot.manifest.rows
            assert taken.schema_digest == snapshot.manifest.schema_digest
            assert target.execute("PRAGMA journal_mode").fetchone() == ("memory",)
            target.execute("DELETE FROM orders")
            target.execute("CREATE TABLE more(x)")
        assert courier.columns()["customers"] == {"id", "name"}
        assert courier.columns()["totals"] == {"customer", "total"}


def test_a_delivery_into_a_locked_database_changes_nothing() -> None:
    uri = "file:courier-locked?mode=memory&cache=shared"
    with (
        contextlib.closing(Courier(golden())) as courier,
        contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as target,
        contextlib.closing(sqlite3.connect(uri, uri=True)) as other,
    ):
        other.execute("CREATE TABLE mine(x)")
        other.execute("INSERT INTO mine VALUES (1)")
        with pytest.raises(sqlite3.OperationalError):
            courier.deliver(target)
        assert target.execute("PRAGMA journal_mode").fetchone() == ("memory",)
        other.commit()
        assert other.execute("SELECT * FROM mine").fetchall() == [(1,)]


def test_bytes_that_are_no_database() -> None:
    manifest = golden().manifest
    data = b"no database at all" * 1000
    wrong = msgspec.structs.replace(manifest, digest=digest_of(data), size=len(data))
    with pytest.raises(SnapshotError, match="no SQLite database"):
        Courier(Snapshot(wrong, data))


def test_a_manifest_of_another_size_is_noticed() -> None:
    snapshot = golden()
    wrong = msgspec.structs.replace(snapshot.manifest, size=snapshot.manifest.size + 4096)
    with (
        contextlib.closing(Courier(Snapshot(wrong, snapshot.data))) as courier,
        contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as target,
        pytest.raises(RingError, match="was restored with"),
    ):
        courier.deliver(target)


def test_freed_memory_is_kept_where_that_is_possible() -> None:
    assert keep_freed_memory() is (platform.libc_ver()[0] == "glibc")


def test_large_pages_are_used_where_that_is_possible() -> None:
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    possible = setting.is_file() and platform.libc_ver()[0] == "glibc"
    keep_freed_memory()
    assert use_large_pages(16 << 20) is possible
    assert not use_large_pages(1 << 20), "no large page fits for sure"
    assert not use_large_pages(1 << 62), "there is not so much memory"
