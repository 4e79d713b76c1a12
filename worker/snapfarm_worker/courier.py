"""Carries a snapshot into a ring: a private connection holds the image, `backup()` copies it over.

A ring connection may never call `deserialize()` itself: SQLite would detach it from the ring
without a word. So the image is deserialized into a private connection, which stays open as long as
its ring may have to be filled again.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import sqlite3
from collections.abc import Callable, Iterator
from typing import TypeVar

from snapfarm_worker.errors import RingError, SnapshotError
from snapfarm_worker.snapshot import Manifest, Snapshot, rollback_journal_image, take

_T = TypeVar("_T")

# Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEEP = 1 << 30

_LARGE_PAGE = 2 << 20
#: What a courier takes of its image's size: the image, the ring, and later the page cache.
_TAKEN = 3.3
#: So many bytes may lie in large pages; where those are scarce, it takes long to make them.
_MOST_LARGE = 64 << 20

#: From so many deliveries on, an image lies in SQLite's own page cache.
_IN_PAGE_CACHE = 2

#: Whether this process keeps freed memory.
_keeping = False


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed memory for the next restore; return whether it does.

    Two thirds of a restore's time are page faults of fresh memory. Elsewhere than on glibc nothing
    happens.
    """
    global _keeping  # as global as the allocator
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    _keeping = bool(mallopt(_M_TRIM_THRESHOLD, _KEEP) and mallopt(_M_MMAP_THRESHOLD, _KEEP))
    return _keeping


def give_back_freed_memory() -> None:
    """Ask glibc to return what was freed to the system; elsewhere nothing happens."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def use_large_pages(size: int) -> bool:
    """Let what is allocated next, up to `size` bytes, lie in large pages; return whether it will.

    That saves nine of ten page faults, and misses of the translation cache later. Only makes sense
    after `keep_freed_memory()`: the bytes are allocated and freed here, without being touched, for
    the sake of their addresses.
    """
    try:
        libc = ctypes.CDLL(None)
        allocate, free, advise = libc.malloc, libc.free, libc.madvise
        advice = mmap.MADV_HUGEPAGE
    except (AttributeError, OSError, TypeError):
        return False
    allocate.argtypes, allocate.restype = [ctypes.c_size_t], ctypes.c_void_p
    free.argtypes, free.restype = [ctypes.c_void_p], None
    advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    start: int | None = allocate(size)
    if start is None:
        return False
    first, end = -(-start // _LARGE_PAGE) * _LARGE_PAGE, (start + size) // _LARGE_PAGE * _LARGE_PAGE
    advised = first < end and advise(first, end - first, advice) == 0
    free(start)
    return advised


def open_private(data: bytes | bytearray) -> sqlite3.Connection:
    """Return a private connection, usable from any thread, to a copy of an image."""
    conn = sqlite3.Connection(":memory:", isolation_level=None, check_same_thread=False)
    try:
        conn.deserialize(data)
    except BaseException:
        conn.close()
        raise
    return conn


class Courier:
    """The source of one snapshot; delivers it into ring connections, once or many times.

    The first delivery reads the deserialized image. A second one shows that there will be more, so
    the image then moves into SQLite's own page cache, from which a delivery is a third faster.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        manifest = snapshot.manifest
        if _keeping:
            use_large_pages(min(int(manifest.size * _TAKEN), _MOST_LARGE))
        self._load(open_private(snapshot.data), manifest.database, manifest.encoding)
        #: The size that the image should have, in bytes.
        self._claimed = manifest.size
        #: Lets the pages in place: how often the image was delivered so far.
        self._deliveries = 0

    def _load(self, source: sqlite3.Connection, database: str, encoding: str) -> None:
        self._source = source
        self._database = database
        self._encoding = encoding
        try:
            with contextlib.closing(source.cursor()) as cursor:
                self._size, self._objects = _shape(cursor)
        except sqlite3.DatabaseError as error:
            source.close()
            raise SnapshotError(
                f"database {database!r}: the snapshot is no SQLite database: {error}"
            ) from error

    @property
    def size(self) -> int:
        """Length of the image in bytes."""
        return self._size

    def prepare(self, target: sqlite3.Connection) -> None:
        """Set what an empty database takes over from its first connection only."""
        target.execute(f"PRAGMA encoding = '{self._encoding}'")

    def deliver(self, target: sqlite3.Connection) -> None:
        """Overwrite the database of a ring connection with the image.

        Raises sqlite3.OperationalError, with the target unchanged, where another connection holds
        a lock on it.
        """
        if self._deliveries == _IN_PAGE_CACHE - 1:
            self._into_page_cache()
        with _no_journal(target):
            self._source.backup(target)
        self._deliveries += 1
        with contextlib.closing(target.cursor()) as cursor:
            size, objects = _shape(cursor)
        if (size, objects) != (self._claimed, self._objects) or size != self._size:
            raise RingError(
                f"database {self._database!r} was restored with {size} bytes and {objects} "
                f"schema objects instead of {self._claimed} and {self._objects}: please report it"
            )

    def ask(self, question: Callable[[sqlite3.Connection], _T]) -> _T | None:
        """Return the answer to a question about the image; None where it can't be asked."""
        try:
            return question(self._source)
        except sqlite3.DatabaseError:
            return None

    def columns(self) -> dict[str, frozenset[str]]:
        """Return the columns of each table of the image, all names in lower case."""
        found: dict[str, set[str]] = {}
        with contextlib.closing(self._source.cursor()) as cursor:
            listed = cursor.execute(
                "SELECT lower(t.name), lower(c.name) FROM sqlite_schema t, "
                "pragma_table_xinfo(t.name) c WHERE t.type IN ('table', 'view')"
            )
            for table, column in listed:
                found.setdefault(table, set()).add(column)
        return {table: frozenset(names) for table, names in found.items()}

    def describe(self, layer: str) -> Manifest:
        """Return the manifest of the image as that of a layer; reads and digests all of it."""
        return take(self._source, self._database, layer=layer).manifest

    def image(self) -> bytes:
        """Return the image."""
        return rollback_journal_image(self._source.serialize())

    def close(self) -> None:
        """Free the image."""
        self._source.close()

    def _into_page_cache(self) -> None:
        cached = sqlite3.Connection(":memory:", isolation_level=None, check_same_thread=False)
        try:
            self.prepare(cached)
            with _no_journal(cached):
                self._source.backup(cached)
        except BaseException:
            cached.close()
            raise
        self._source.close()
        self._source = cached


class CopyCourier(Courier):
    """A courier of what a private connection, which it takes over, holds now."""

    def __init__(self, copy: sqlite3.Connection, database: str, encoding: str) -> None:
        self._load(copy, database, encoding)
        self._claimed = self._size
        self._deliveries = _IN_PAGE_CACHE


@contextlib.contextmanager
def _no_journal(target: sqlite3.Connection) -> Iterator[None]:
    """Switch the rollback journal off, which would copy each page that is overwritten.

    In a shared cache the mode belongs to all connections, and without a journal their ROLLBACK
    does nothing: it has to come back.
    """
    with contextlib.closing(target.cursor()) as cursor:
        cursor.execute("PRAGMA journal_mode = OFF").fetchone()
        try:
            yield
        finally:
            cursor.execute("PRAGMA journal_mode = MEMORY").fetchone()


def _shape(cursor: sqlite3.Cursor) -> tuple[int, int]:
    """Return the size in bytes and the number of schema objects."""
    pages = int(cursor.execute("PRAGMA page_count").fetchone()[0])
    page_size = int(cursor.execute("PRAGMA page_size").fetchone()[0])
    objects = int(cursor.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()[0])
    return pages * page_size, objects
