"""A ring that keeps its data while nobody is connected, without holding a connection open.

The last connection to close hands the state to a keeper, and the database's memory is freed. The
next one to connect gets it back by courier, in a new ring. Nothing is lost in between: who leaves
and who comes is decided under one lock, and the memory goes only after the keeper has the state.

    ASLEEP     nobody is connected; the keeper has the state           -> AWAKE, CLOSED
    AWAKE      a ring holds the state; somebody is or was connected    -> ASLEEP, LEAVING, CLOSED
    LEAVING    closed, though somebody is connected: the last of them  -> CLOSED
               takes the state along
    CLOSED     the end
"""

from __future__ import annotations

import enum
import os
import re
import secrets
import sqlite3
import threading
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from snapfarm_worker import connections, settling
from snapfarm_worker.blockers import Spared, end_cursors
from snapfarm_worker.errors import RingError, StateNotKept
from snapfarm_worker.members import Member, RingConnection, Watcher
from snapfarm_worker.reset import ResetOutcome
from snapfarm_worker.ring import Ring
from snapfarm_worker.ringkind import RingKind, check_size, check_support
from snapfarm_worker.sentinel import SNAPSHOT_PATIENCE
from snapfarm_worker.snapshot import Snapshot

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class Keeper(Protocol):
    """Where states are kept; a `SnapshotStore` is one. Called from any thread."""

    def keep(self, snapshot: Snapshot) -> None:
        """Hold a state as the latest of its database; if this raises, the one before stays."""

    def latest(self, database: str) -> Snapshot | None:
        """Return the state that was kept last, None if there is none.

        It is not verified again: a keeper whose bytes can change has to do that.
        """


class _State(enum.Enum):
    ASLEEP = enum.auto()
    AWAKE = enum.auto()
    LEAVING = enum.auto()
    CLOSED = enum.auto()


#: SQLite has no such VFS: without our `connect` it refuses, instead of opening something empty.
_FORM = "file:/{}?vfs=farm-persistent"

#: The databases that have a ring, each with the identity of its keeper.
_claims: set[tuple[int, str]] = set()


class PersistentRing:
    """A database that connections join by URI, and whose rows outlive them in a keeper."""

    def __init__(
        self,
        golden: Snapshot,
        keeper: Keeper,
        *,
        name: str | None = None,
        kind: RingKind = RingKind.SHARED_CACHE,
        verified: bool = False,
    ) -> None:
        """Begin with the keeper's latest state, or with `golden` if it has none.

        Raises SnapshotCorrupt, SnapshotTooLarge, RingUnsupported, and RingError for a private ring,
        a name that is taken, and a database that another ring keeps in the same keeper.
        """
        if kind is RingKind.PRIVATE:
            raise RingError(
                "a private ring can't be persistent, since each of its connections has a database "
                "of its own: choose 'shared-cache' or 'memdb'"
            )
        check_support(kind)
        check_size(kind, golden.manifest)
        if not verified:
            golden.verify("for a persistent ring")
        self.database = golden.manifest.database
        self.kind = kind
        #: Nobody: sensors watch the rings of a farm.
        self.watcher: Watcher | None = None
        #: Why the state could not be kept when that was last tried; None if it was.
        self.failure: StateNotKept | None = None
        self._golden = golden
        self._keeper = keeper
        #: Held while the ring falls asleep, wakes up, or is reset.
        self._lock = threading.RLock()
        self._state = _State.ASLEEP
        #: The database; not None while AWAKE or LEAVING.
        self._ring: Ring | None = None
        #: What the ring was when the state was given up; its sentinel waits for who arrives.
        self._discarded: Ring | None = None
        #: How many connections are being made.
        self._arriving = 0
        #: Neither closed nor freed. Changed without the lock, by single operations.
        self._connected: set[Member] = set()
        #: The digest of what the keeper has; the golden one's if that is nothing.
        self._kept = golden.manifest.digest
        #: The digest of what the ring was filled with.
        self._basis = self._kept
        unique = name or f"{os.getpid()}-{secrets.token_hex(4)}"
        self._key = connections.PREFIX + re.sub(
            r"[^A-Za-z0-9_.-]", "_", f"{unique}-{self.database}"
        )
        self.uri = _FORM.format(self._key)
        self._claim = (id(keeper), self.database)
        latest = keeper.latest(self.database)
        if latest is not None:
            self._kept = latest.manifest.digest
        with settling.claims_lock:
            if self._claim in _claims:
                raise RingError(
                    f"database {self.database!r} has a ring with this keeper already: two would "
                    "overwrite each other's states, so close that one first, or share it"
                )
            if not connections.register(self._key, self.uri, self):
                raise RingError(
                    f"a ring named {self._key!r} exists already in this process: close it first"
                )
            _claims.add(self._claim)
        settling.guard_at_fork(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<PersistentRing {self.uri} {self._state.name.lower()}>"

    @property
    def patient(self) -> bool:
        """Whether members must wait for locks themselves."""
        return self.kind is RingKind.SHARED_CACHE

    @property
    def is_awake(self) -> bool:
        """Whether the database is in memory, which it need not be while nobody is connected."""
        return self._ring is not None

    @property
    def generation(self) -> int:
        """Counts the databases that a reset retired since the ring woke up."""
        ring = self._ring
        return ring.generation if ring is not None else 0

    def connect(self, **options: object) -> sqlite3.Connection:
        """Return a connection to the ring; the options are those of `sqlite3.connect`.

        Raises RingError once the ring is closed, and if the keeper lost the state.
        """
        return connections.join(self, "", (), options)

    # ------------------------------------------------------------ what the program asks for

    def snapshot(self) -> Snapshot:
        """Return a snapshot of what is committed now. Raises RingError while somebody writes."""
        with self._lock:
            self._check_not_closed()
            return self._latest() if self._ring is None else self._ring.snapshot()

    def persist(self) -> None:
        """Hand what is committed now to the keeper, though somebody may be connected.

        Raises StateNotKept, and RingError while somebody writes.
        """
        with self._lock:
            self._check_not_closed()
            self._settle()
            if not self._keep_present(SNAPSHOT_PATIENCE):
                raise RingError(
                    f"the ring {self.uri} has an open write transaction for more than "
                    f"{SNAPSHOT_PATIENCE:g} s: commit it, then persist"
                )

    def reset(self) -> ResetOutcome:
        """Go back to the golden snapshot, as `Ring.reset` does. Raises RingError, StateNotKept."""
        began = perf_counter()
        with self._lock:
            self._check_not_closed()
            if self._ring is None:
                clean = self._kept == self._golden.manifest.digest
                self._keep(lambda: self._golden)
                return ResetOutcome("clean" if clean else "in-place", perf_counter() - began)
            self._ring.rebase(self._golden)
            self._basis = self._golden.manifest.digest
            outcome = self._ring.reset()
            self._settle()
            return outcome

    def close(self, *, discard: bool = False) -> None:
        """Let nobody connect any more; the state stays with the keeper.

        What is committed by now is kept at once, unless somebody writes; the last connection to
        close takes the rest along. Raises StateNotKept, and then the ring stays as it is. With
        `discard=True` all that was not kept yet is given up.
        """
        with self._lock:
            if self._state is _State.CLOSED or (self._state is _State.LEAVING and not discard):
                return
            if not discard:
                self._settle()
                self._keep_present(patience=0.0)
            connections.forget(self._key)
            self._state = _State.LEAVING
            if discard or self._ring is None:
                self._discarded = self._ring
                self._sleep()

    # ------------------------------------------------------------ what `connections` needs

    def expect(self) -> str:
        """Return what to connect to, which stays there until `arrived()`; wakes the ring up."""
        with self._lock:
            if self._state not in (_State.ASLEEP, _State.AWAKE):
                raise RingError(f"the ring {self.uri} is closed: connect while it is open")
            if self._ring is None:
                self._wake()
            assert self._ring is not None
            address = self._ring.expect()
            self._arriving += 1
            return address

    def arrived(self) -> None:
        """A connection that was expected is there, or will never be."""
        with self._lock:
            ring = self._ring or self._discarded
            assert ring is not None
            ring.arrived()
            self._arriving -= 1
            if not self._settle():
                settling.try_later(self._settle)

    def welcome(self, conn: sqlite3.Connection, member: Member | None) -> None:
        """Take a new connection in. Raises RingError if its end could not be noticed."""
        if member is None:
            raise RingError(
                f"a connection factory made a {type(conn).__name__} for the ring {self.uri}, which "
                "can't tell when it is closed: pass a class, or a function that makes subclasses"
            )
        ring = self._ring
        if ring is None:
            raise RingError(f"the ring {self.uri} was closed, and its state given up")
        self._connected.add(member)
        ring.welcome(conn, member)

    def parting(self, conn: RingConnection, member: Member) -> None:
        """A member is about to be closed: what counts is when it was."""

    def parted(self, member: Member) -> None:
        """A member was closed: if it was the last one, the ring falls asleep."""
        self._connected.discard(member)
        if not self._connected and (settling.inside_collector() or not self._settle()):
            settling.try_later(self._settle)

    def gone(self, member: Member) -> None:
        """A member was freed, or is about to be, perhaps without `close()`; takes no lock."""
        self._connected.discard(member)
        ring = self._ring
        if ring is not None:
            ring.gone(member)
            if not self._connected and not self._arriving:
                settling.try_later(self._settle)

    def members(self) -> list[Member]:
        """Return the members whose connection still exists."""
        ring = self._ring
        return ring.members() if ring is not None else []

    # ------------------------------------------------------------ falling asleep and waking up

    def _settle(self) -> bool:
        """Fall asleep if nobody is connected; False if that is so, but a lock is in the way.

        Raises StateNotKept, and then the ring stays awake.
        """
        with self._lock:
            ring = self._ring
            if ring is None or self._connected or self._arriving:
                return True
            if not ring.is_free():
                # A closed connection lives on behind an unfinished cursor, transaction included.
                end_cursors(ring.members(), Spared())
                if not ring.is_free():
                    return False
            self._keep(ring.last_state)
            self._sleep()
            return True

    def _keep(self, taken: Callable[[], Snapshot | None]) -> None:
        """Hand a state to the keeper, unless it has it; None if nothing was committed."""
        try:
            state = taken()
            if state is None and self._basis != self._kept:
                state = self._golden  # nothing was committed since a reset
            if state is not None and state.manifest.digest != self._kept:
                self._keeper.keep(state)
                self._kept = state.manifest.digest
        except RingError:
            raise  # somebody writes
        except Exception as error:
            self.failure = StateNotKept(self.database, error)
            raise self.failure from error
        self.failure = None

    def _keep_present(self, patience: float) -> bool:
        """Keep what is committed, with somebody connected; False if somebody writes."""
        if self._ring is None:
            return True
        ring = self._ring
        try:
            self._keep(lambda: ring.snapshot(patience=patience) if ring.is_dirty() else None)
        except StateNotKept:
            raise
        except RingError:
            return False
        return True

    def _sleep(self) -> None:
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        if self._state is _State.LEAVING:
            self._state = _State.CLOSED
            with settling.claims_lock:
                _claims.discard(self._claim)
        else:
            self._state = _State.ASLEEP

    def _wake(self) -> None:
        state = self._latest()
        self._ring = Ring.restore(state, kind=self.kind, resettable=False, verified=True)
        self._basis = self._kept = state.manifest.digest
        self._state = _State.AWAKE

    def _latest(self) -> Snapshot:
        latest = self._keeper.latest(self.database)
        if latest is not None:
            return latest
        if self._kept != self._golden.manifest.digest:
            raise RingError(
                f"database {self.database!r}: its keeper has lost the state {self._kept[:12]}: "
                "keep it there again, or call reset() to begin with the golden snapshot"
            )
        return self._golden

    def _check_not_closed(self) -> None:
        if self._state is _State.CLOSED:
            raise RingError(f"the ring {self.uri} is closed: ask while it is open")
