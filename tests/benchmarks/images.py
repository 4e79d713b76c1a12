"""Database images of a wanted size, made once per run and read by every process that needs one."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from pathlib import Path

import msgspec

from benchmarks.options import SEED
from snapfarm_worker.snapshot import Manifest, Snapshot, take

TABLES = 30
_BODY = 900
#: Bytes of the database that a row of `_BODY` bytes costs, with its index entry and the slack.
_ROW = 1060


def image(folder: Path, megabytes: int) -> Path:
    """Return the file of an image of about so many MB, with 30 tables; makes it if need be."""
    path = folder / f"{megabytes}mb.sqlite"
    if not path.exists():
        with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
            _fill(conn, max(1, megabytes * 1_000_000 // _ROW // TABLES))
            snapshot = take(conn, "bench")
        _manifest_of(path).write_bytes(msgspec.json.encode(snapshot.manifest))
        path.write_bytes(snapshot.data)
    return path


def load(path: Path) -> Snapshot:
    """Return the snapshot that `image` made."""
    manifest = msgspec.json.decode(_manifest_of(path).read_bytes(), type=Manifest)
    return Snapshot(manifest, path.read_bytes())


def _manifest_of(path: Path) -> Path:
    return path.with_suffix(".json")


def _fill(conn: sqlite3.Connection, rows: int) -> None:
    source = random.Random(SEED)
    conn.execute("BEGIN")
    for table in range(TABLES):
        conn.execute(f"CREATE TABLE t{table}(id INTEGER PRIMARY KEY, code INTEGER, body BLOB)")
        conn.executemany(
            f"INSERT INTO t{table}(code, body) VALUES (?, ?)",
            ((source.getrandbits(40), source.randbytes(_BODY)) for _ in range(rows)),
        )
        conn.execute(f"CREATE INDEX t{table}_code ON t{table}(code)")
    conn.execute("COMMIT")
