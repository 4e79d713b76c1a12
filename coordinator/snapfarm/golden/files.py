"""Copy an existing SQLite file into a connection, without ever writing to it or beside it.

A file in WAL mode, or with the journal of a transaction that was never finished, can't be read
without writing: SQLite has to make a shared-memory file, or to roll back. Such a file is copied
with its journals into the builder's working folder first, and opened there.
"""

from __future__ import annotations

import collections
import contextlib
import math
import shutil
import sqlite3
import tempfile
from pathlib import Path
from urllib.parse import quote

from snapfarm.errors import GoldenBuildError
from snapfarm_worker.snapshot import SERIALIZE_LIMIT

_MAGIC = b"SQLite format 3\x00"
_HEADER_SIZE = 100

#: Seconds to wait for another process to release its lock on the file.
_LOCK_TIMEOUT = 2.0

#: Copies of a file that changed meanwhile are made again this often before giving up.
_COPIES = 3

#: Bits of entropy a byte from which a file's head looks encrypted rather than foreign. Text has
#: about 4.5, random bytes close to 8 (7.95 for a sample of 4 096).
_ENCRYPTED_ENTROPY = 7.5


def backup_file(path: Path, conn: sqlite3.Connection, title: str) -> None:
    """Make the database of `conn` a copy of the file's. Raises GoldenBuildError."""
    try:
        head, size = _head(path)
        _check_header(head, size, path, title)
        in_wal_mode = head[18:20] != b"\x01\x01" and bool(head)
        try:
            if in_wal_mode:
                _backup_copy(path, conn, title)
            else:
                _backup(f"file:{quote(str(path))}?mode=ro", conn)
        except sqlite3.OperationalError as error:
            if in_wal_mode or error.sqlite_errorname != "SQLITE_READONLY_ROLLBACK":
                raise
            _backup_copy(path, conn, title)
    except sqlite3.Error as error:
        raise GoldenBuildError(f"{title}: {_explained(error)}") from None
    except OSError as error:
        raise GoldenBuildError(f"{title}: can't be read: {error.strerror or error}") from error


def _head(path: Path) -> tuple[bytes, int]:
    with path.open("rb") as file:
        return file.read(4096), path.stat().st_size


def _check_header(head: bytes, size: int, path: Path, title: str) -> None:
    if not head:
        return  # SQLite's own form of an empty database
    if not head.startswith(_MAGIC):
        if size % 512 == 0 and _entropy(head) > _ENCRYPTED_ENTROPY:
            raise GoldenBuildError(
                f"{title}: seems to be an encrypted database: its header is unreadable; export a "
                f"plain copy of it with the tool that encrypted it"
            )
        raise GoldenBuildError(
            f"{title}: is no SQLite database: it starts with {head[:16]!r} instead of {_MAGIC!r}"
        )
    if len(head) < _HEADER_SIZE:
        raise GoldenBuildError(
            f"{title}: is truncated: {size} bytes are less than the header of a database"
        )
    page_size = int.from_bytes(head[16:18], "big")
    page_size = 65536 if page_size == 1 else page_size
    pages = int.from_bytes(head[28:32], "big")
    if size > SERIALIZE_LIMIT:
        raise GoldenBuildError(
            f"{title}: has {size} bytes, more than the {SERIALIZE_LIMIT} that SQLite can "
            f"serialize in one piece; make a smaller copy for the tests"
        )
    # The count in the header is valid only while both counters agree; older writers leave it.
    # A WAL may hold the pages that the file lacks.
    wal = path.with_name(path.name + "-wal")
    if head[24:28] == head[92:96] and size < pages * page_size and not wal.exists():
        raise GoldenBuildError(
            f"{title}: is truncated: its header announces {pages * page_size} bytes, it has {size}"
        )


def _backup(uri: str, conn: sqlite3.Connection) -> None:
    source = sqlite3.connect(uri, uri=True, timeout=_LOCK_TIMEOUT, isolation_level=None)
    with contextlib.closing(source):
        # Python's backup() retries a locked source for ever; a read shows the lock in time.
        source.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
        source.execute("BEGIN")
        source.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
        source.backup(conn)


def _backup_copy(path: Path, conn: sqlite3.Connection, title: str) -> None:
    with tempfile.TemporaryDirectory(prefix="snapfarm-copy-") as folder:
        copy = Path(folder) / "copy.sqlite"
        for _ in range(_COPIES):
            before = _state(path)
            for suffix in ("", "-wal", "-journal"):
                source = path.with_name(path.name + suffix)
                target = copy.with_name(copy.name + suffix)
                target.unlink(missing_ok=True)
                if source.exists():
                    shutil.copyfile(source, target)
            if _state(path) == before:
                break
        else:
            raise GoldenBuildError(
                f"{title}: is being written while it is copied: stop the program that uses it"
            )
        with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as opened:
            # Ends WAL mode, which an in-memory database can't have, and checkpoints.
            opened.execute("PRAGMA journal_mode = DELETE").fetchone()
        _backup(f"file:{quote(str(copy))}?mode=ro", conn)


def _state(path: Path) -> tuple[tuple[int, int], ...]:
    state = []
    for suffix in ("", "-wal", "-journal"):
        try:
            stat = path.with_name(path.name + suffix).stat()
            state.append((stat.st_mtime_ns, stat.st_size))
        except FileNotFoundError:
            state.append((0, -1))
    return tuple(state)


def _entropy(data: bytes) -> float:
    counts = collections.Counter(data)
    return -sum(n / len(data) * math.log2(n / len(data)) for n in counts.values())


def _explained(error: sqlite3.Error) -> str:
    match getattr(error, "sqlite_errorname", ""):
        case "SQLITE_BUSY" | "SQLITE_LOCKED":
            return "is locked by an open transaction: end it, or copy the file"
        case "SQLITE_NOTADB":
            return "is no SQLite database, or it is encrypted"
        case name if name.startswith("SQLITE_CORRUPT"):
            return "is damaged or truncated: SQLite says that its image is malformed"
        case name:
            return f"can't be opened: {error}" + (f" ({name})" if name else "")
