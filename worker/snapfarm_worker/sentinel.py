"""The ring's own connection to one generation of its database.

As long as it is open, the database exists. It restores, copies, probes for locks, and tells whether
anything was committed: since it commits nothing itself, other connections' commits alone change
the `PRAGMA data_version` that it reads.

A sentinel takes no lock: the ring calls one method at a time. The door is for all threads.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable
from typing import TypeVar

from snapfarm_worker import connections
from snapfarm_worker.courier import Courier
from snapfarm_worker.errors import RingError
from snapfarm_worker.patience import is_any_lock
from snapfarm_worker.snapshot import Manifest, Snapshot, rollback_journal_image, take

_BUSY_PAUSE = 0.005
_T = TypeVar("_T")

#: No data_version is this.
_NEVER = -1
#: How long, in seconds, a snapshot waits for whoever writes.
SNAPSHOT_PATIENCE = 5.0


class Sentinel:
    """Keeps one in-memory database alive, and looks after it."""

    def __init__(self, uri: str, courier: Courier) -> None:
        """Make the database that a URI names, and fill it."""
        self._conn = connections.original_connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, timeout=0.0
        )
        try:
            courier.prepare(self._conn)
            courier.deliver(self._conn)
            self._cursor = self._conn.cursor()
            #: A shared cache's page limit at first; any member's PRAGMA changes it for all.
            self._page_limit = self._ask("PRAGMA max_page_count")
            #: data_version when the database was last pristine.
            self._baseline = self._version()
            #: data_version as it was last read.
            self._seen = self._baseline
        except BaseException:
            self._conn.close()
            raise

    def is_free(self) -> bool:
        """Tell whether no other connection holds any lock."""
        try:
            self._ask("BEGIN EXCLUSIVE")
        except sqlite3.DatabaseError:
            return False  # locked; or damaged, which only a new generation mends
        self._ask("ROLLBACK")
        return True

    def is_dirty(self) -> bool:
        """Tell whether anything was committed since the last delivery.

        While somebody writes, a memdb can't be read: what was last known is then the answer.
        """
        try:
            self._seen = self._version()
        except sqlite3.DatabaseError as error:
            if not is_any_lock(error):
                return True  # damaged
        return self._seen != self._baseline

    @property
    def last_version(self) -> int:
        """A number that changes with each commit, as `is_dirty` saw it last."""
        return self._seen

    def schema_version(self) -> int | None:
        """Return the number that changes with each change of the schema; None while locked."""
        try:
            return self._ask("PRAGMA schema_version")
        except sqlite3.DatabaseError:
            return None

    def ask(self, question: Callable[[sqlite3.Connection], _T]) -> _T | None:
        """Return the answer to a question that changes nothing; None where it can't be asked."""
        try:
            return question(self._conn)
        except sqlite3.DatabaseError:
            return None

    def fate(self) -> str:
        """Tell what became of this connection at the hands of others; "" if all is well."""
        try:
            (_, _, file), *_ = self._cursor.execute("PRAGMA database_list").fetchall()
        except sqlite3.ProgrammingError:
            return "the connection that kept the ring's database alive was closed"
        except sqlite3.DatabaseError:
            return ""
        left = file == "x"
        return "deserialize() was called on the connection that kept the ring alive" if left else ""

    def set_back(self) -> bool:
        """Set back what belongs to a shared cache, not to the connection that set it.

        Tells whether there was no journal: what was rolled back then stays, and no version tells.
        """
        journal = self._cursor.execute("PRAGMA journal_mode").fetchone()
        self._ask("PRAGMA journal_mode = MEMORY")
        self._ask(f"PRAGMA max_page_count = {self._page_limit}")
        return bool(journal == ("off",))

    def overwrite(self, courier: Courier) -> bool:
        """Fill the database anew, where it is; tell whether that was possible."""
        try:
            courier.deliver(self._conn)
        except sqlite3.DatabaseError:
            return False  # damaged; or somebody took a lock since we looked
        self._baseline = self._seen = self._version()
        return True

    def outdate(self) -> None:
        """Count as dirty until the next delivery, whatever was committed."""
        self._baseline = _NEVER

    def take(self, database: str, manifest: Manifest) -> Snapshot:
        """Return a snapshot; nobody else may be connected. `manifest` is the present one."""
        return take(self._conn, database, layer=manifest.layer)

    def snapshot(self, database: str, manifest: Manifest, whose: str, patience: float) -> Snapshot:
        """Return a snapshot of what is committed, from a private copy.

        Raises RingError, which names the ring by `whose` URI, if somebody writes for longer.
        """
        with contextlib.closing(self._copy(manifest.encoding, whose, patience)) as copy:
            return take(copy, database, layer=manifest.layer)

    def settle(self, encoding: str, whose: str, patience: float) -> sqlite3.Connection:
        """Count what is committed now as pristine; return a private copy of it.

        Raises RingError as `snapshot` does, and then nothing has changed.
        """
        try:
            version = self._version()
        except sqlite3.DatabaseError as error:
            raise RingError(f"the ring {whose} can't be read: {error}") from error
        copy = self._copy(encoding, whose, patience)
        # Of before the copy: what was committed meanwhile may be in it or not.
        self._baseline = version
        return copy

    def _copy(self, encoding: str, whose: str, patience: float) -> sqlite3.Connection:
        waited = 0.0

        def watch(status: int, remaining: int, total: int) -> None:
            nonlocal waited
            if status & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                waited += _BUSY_PAUSE
                if waited > patience:
                    raise RingError(
                        f"the ring {whose} has an open write transaction for more than "
                        f"{patience:g} s: commit it, then take the snapshot"
                    )

        copy = sqlite3.Connection(":memory:", isolation_level=None, check_same_thread=False)
        try:
            copy.execute(f"PRAGMA encoding = '{encoding}'")
            self._conn.backup(copy, progress=watch, sleep=_BUSY_PAUSE)
        except BaseException:
            copy.close()
            raise
        return copy

    def image(self) -> bytes:
        """Return an image of the database, in a shared cache with what is not committed.

        Raises sqlite3.OperationalError while somebody changes the schema, or writes to a memdb.
        """
        return rollback_journal_image(self._conn.serialize())

    def close(self) -> None:
        """Close the connection; if nobody else is connected, that frees the database."""
        self._conn.close()

    def _version(self) -> int:
        return self._ask("PRAGMA data_version")

    def _ask(self, sql: str) -> int:
        row = self._cursor.execute(sql).fetchone()
        return row[0] if row else 0


class Door:
    """Keeps a database alive for those who were told its address and have not arrived yet.

    Without that, a connection that is made while another thread closes or resets the ring would
    find an empty database, and no error.
    """

    def __init__(self) -> None:
        #: Held for a moment: guards who arrives, and what they arrive at.
        self.lock = threading.RLock()
        #: How many connections are being made.
        self._arriving = 0
        #: What can be closed once those have arrived.
        self._leaving: list[Sentinel] = []

    def expect(self) -> None:
        """Somebody is told the address; each call needs its `arrived()`."""
        with self.lock:
            self._arriving += 1

    def arrived(self) -> None:
        """One less is on the way."""
        leaving: list[Sentinel] = []
        with self.lock:
            self._arriving -= 1
            if self._arriving == 0:
                leaving, self._leaving = self._leaving, leaving
        for sentinel in leaving:
            sentinel.close()

    def let_go(self, sentinel: Sentinel | None) -> None:
        """Close a sentinel whose address nobody is told any more."""
        with self.lock:
            if self._arriving and sentinel is not None:
                self._leaving.append(sentinel)
                return
        if sentinel is not None:
            sentinel.close()
