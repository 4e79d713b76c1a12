"""The kinds of rings, the URIs that name them, and whether this SQLite has them."""

from __future__ import annotations

import enum
import os
import secrets
import sqlite3

from snapfarm_worker import connections
from snapfarm_worker.errors import RingUnsupported, SnapshotTooLarge
from snapfarm_worker.snapshot import Manifest

#: What SQLite lets a named memdb grow to, unless it was built otherwise.
MEMDB_LIMIT = 1 << 30


class RingKind(enum.StrEnum):
    """How the connections of a ring share their database."""

    #: One page cache for all; locks tables. Any code can join by URI.
    SHARED_CACHE = "shared-cache"
    #: SQLite's in-memory file; locks the whole database, and waits for locks by itself.
    MEMDB = "memdb"
    #: Every connection gets a pristine copy of its own.
    PRIVATE = "private"


#: URI of each kind; the blank is the ring's key.
FORMS = {
    RingKind.SHARED_CACHE: "file:{}?mode=memory&cache=shared",
    RingKind.MEMDB: "file:/{}?vfs=memdb",
    # No such VFS exists: without our `connect`, SQLite refuses instead of opening something empty.
    RingKind.PRIVATE: "file:/{}?vfs=farm-private",
}
_supported: set[RingKind] = set()


def check_support(kind: RingKind) -> None:
    """Check that two connections of a kind see each other's rows. Raises RingUnsupported.

    SQLite built with SQLITE_OMIT_SHARED_CACHE ignores `cache=shared` without a word.
    """
    if kind in _supported or kind is RingKind.PRIVATE:
        return
    uri = FORMS[kind].format(f"{connections.PREFIX}probe-{os.getpid()}-{secrets.token_hex(3)}")
    try:
        first = connections.original_connect(uri, uri=True, isolation_level=None)
        try:
            first.execute("CREATE TABLE probe(x)")
            second = connections.original_connect(uri, uri=True, isolation_level=None)
            try:
                second.execute("SELECT * FROM probe").fetchall()
            finally:
                second.close()
        finally:
            first.close()
    except sqlite3.Error as error:
        others = ", ".join(repr(str(other)) for other in RingKind if other is not kind)
        raise RingUnsupported(
            f"SQLite {sqlite3.sqlite_version} of this Python can't share an in-memory database "
            f"as ring kind {str(kind)!r} ({error}): choose one of {others}"
        ) from error
    _supported.add(kind)


def check_size(kind: RingKind, manifest: Manifest) -> None:
    """Check that a ring of a kind can hold an image. Raises SnapshotTooLarge."""
    if kind is RingKind.MEMDB and manifest.size > MEMDB_LIMIT:
        raise SnapshotTooLarge(
            manifest.database, manifest.size, MEMDB_LIMIT, "SQLite lets a memdb have"
        )
