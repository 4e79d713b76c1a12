"""One named in-memory database of this process, which goes back to its snapshot when asked.

States: WAITING (has a URI, no data yet) -> OPEN -> CLOSED. While OPEN it has a *generation*, the
database that new connections get. The public URI never changes; `connections` translates it.

While it is open, a sentinel keeps the database alive, except in a private ring, which has no
database of its own. `reset` tells which tier a reset takes; here it is carried out.
"""

from __future__ import annotations

import enum
import itertools
import os
import re
import secrets
import sqlite3
import threading
import weakref
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

from snapfarm_worker import connections
from snapfarm_worker.blockers import Blocker, Spared, left_cursors, present
from snapfarm_worker.copies import probe, renew
from snapfarm_worker.courier import Courier
from snapfarm_worker.errors import RingError
from snapfarm_worker.layers import Layer, LayerStack
from snapfarm_worker.members import Member, RingConnection, SoloConnection, Watcher
from snapfarm_worker.reset import ResetOutcome, ResetPolicy, Tier, cheapest_tier
from snapfarm_worker.ringkind import FORMS, RingKind, check_size, check_support
from snapfarm_worker.sentinel import SNAPSHOT_PATIENCE, Door, Sentinel
from snapfarm_worker.snapshot import Manifest, Snapshot

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["ResetOutcome", "ResetPolicy", "Ring", "RingKind", "check_support"]


_T = TypeVar("_T")


class _State(enum.Enum):
    WAITING = enum.auto()
    OPEN = enum.auto()
    CLOSED = enum.auto()


_numbers = itertools.count(1)


class Ring:
    """A database that connections join by URI, and that can be reset to its snapshot."""

    def __init__(
        self,
        database: str,
        load: Callable[[], Snapshot],
        *,
        name: str | None = None,
        kind: RingKind = RingKind.SHARED_CACHE,
        resettable: bool = True,
    ) -> None:
        """Reserve a URI; `load` is called when the first connection is made.

        Raises RingError if `name` is taken, RingUnsupported where the kind does not work.
        """
        check_support(kind)
        self.database = database
        self.kind = kind
        self.resettable = resettable
        #: Told of the members' lives; set it before connections are made.
        self.watcher: Watcher | None = None
        #: Counts the databases that this ring retired.
        self.generation = 0
        #: Counts how often it was asked to go back to its baseline.
        self.resets = 0
        #: Held while the database as a whole is touched.
        self._lock = threading.RLock()
        self._door = Door()
        self._state = _State.WAITING
        self._load = load
        self._verified = False
        self._members: set[Member] = set()
        #: The one connection, while it believes that nobody else is there.
        self._solo: weakref.ref[SoloConnection] | None = None
        self._spared = Spared()
        #: What earlier tests left that ended without a reset.
        self._owed = Spared()
        #: What the ring can go back to; empty until the state is OPEN.
        self.layers = LayerStack(self)
        #: None until the state is OPEN, and in a private ring.
        self._sentinel: Sentinel | None = None
        unique = name or f"{os.getpid()}-{next(_numbers)}-{secrets.token_hex(3)}"
        self._key = connections.PREFIX + re.sub(r"[^A-Za-z0-9_.-]", "_", f"{unique}-{database}")
        self.uri = FORMS[kind].format(self._key)
        if not connections.register(self._key, self.uri, self):
            raise RingError(
                f"a ring named {self._key!r} exists already in this process: close it first"
            )

    @classmethod
    def restore(
        cls,
        snapshot: Snapshot,
        *,
        name: str | None = None,
        kind: RingKind = RingKind.SHARED_CACHE,
        resettable: bool = True,
        verified: bool = False,
    ) -> Self:
        """Return a ring that holds a snapshot.

        With `resettable=False` the image is not kept, which saves its memory. With `verified=True`
        the digest is not checked again, which takes longer than the rest of a restore. Raises
        SnapshotCorrupt, SnapshotError, SnapshotTooLarge, RingError and RingUnsupported.
        """
        ring = cls(
            snapshot.manifest.database,
            lambda: snapshot,
            name=name,
            kind=kind,
            resettable=resettable,
        )
        ring._verified = verified
        try:
            ring.ensure()
        except BaseException:
            ring.close()
            raise
        return ring

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
        return f"<Ring {self.uri} {self._state.name.lower()} generation {self.generation}>"

    @property
    def manifest(self) -> Manifest:
        """The manifest of the golden snapshot, whatever lies on top of it."""
        self.ensure()
        return self.layers.golden.manifest

    @property
    def baseline(self) -> Manifest:
        """The manifest of what the ring is reset to: of the top layer, or of the golden snapshot.

        That of a fixture's layer is made when it is asked for first, which reads all of the layer.
        """
        self.ensure()
        with self._lock:
            return self.layers.top.manifest

    @property
    def is_open(self) -> bool:
        """Whether the database is there; False before the first use and after `close()`."""
        return self._state is _State.OPEN

    @property
    def key(self) -> str:
        """The part of the URI that names this ring and no other."""
        return self._key

    @property
    def sentinel(self) -> Sentinel | None:
        """The connection that the ring holds itself; hold `lock` while it is used."""
        return self._sentinel

    @property
    def lock(self) -> threading.RLock:
        """Held while the database as a whole is touched."""
        return self._lock

    @property
    def patient(self) -> bool:
        """Whether members must wait for locks themselves."""
        return self.kind is RingKind.SHARED_CACHE

    def connect(self, **options: object) -> sqlite3.Connection:
        """Return a connection to the ring; the options are those of `sqlite3.connect`."""
        return connections.join(self, "", (), options)

    def connect_alone(self) -> sqlite3.Connection:
        """Return a connection that is as fast as SQLite's own as long as nobody else joins.

        The watcher has to be told of what reaches the caller of its `execute`.
        """
        return self.connect(factory=SoloConnection)

    def is_dirty(self) -> bool:
        """Tell whether anything was committed since the last reset, as far as it is known."""
        with self._lock:
            return self._sentinel is not None and self._sentinel.is_dirty()

    # ------------------------------------------------------------ what `connections` needs

    def ensure(self) -> None:
        """Restore the ring if it is still waiting. Raises what `load` and restoring raise."""
        if self._state is _State.OPEN:
            return
        with self._lock:
            self._check_not_closed()
            if self._state is _State.WAITING:
                self._restore(self._load())
                # It may hold the image, which has done its duty.
                self._load = _loaded
                self._state = _State.OPEN

    def expect(self) -> str:
        """Return the URI of the present generation, which stays there until `arrived()`."""
        self.ensure()
        with self._door.lock:
            self._check_not_closed()
            self._door.expect()
            return self._address(self.generation)

    def arrived(self) -> None:
        """A connection that was expected is there, or will never be."""
        self._door.arrived()

    def welcome(self, conn: sqlite3.Connection, member: Member | None) -> None:
        """Take a new connection in."""
        if self.kind is RingKind.PRIVATE:
            if (image := self.layers.image) is None:
                raise RingError(f"the ring {self.uri} was closed meanwhile: connect earlier")
            sqlite3.Connection.deserialize(conn, image)
            if member is not None:
                member.pristine = probe(conn)
        else:
            self._join(conn)
        if member is not None:
            self._members.add(member)
            if self.watcher is not None:
                self.watcher.joined(member)

    def _join(self, conn: sqlite3.Connection) -> None:
        """Let who has been alone know that it is so no longer."""
        if self._solo is not None and (solo := self._solo()) is not None:
            solo.accompany()
        self._solo = None
        if isinstance(conn, SoloConnection):
            if self._members:
                conn.accompany()
            else:
                self._solo = weakref.ref(conn)

    def parting(self, conn: RingConnection, member: Member) -> None:
        """A member is about to be closed."""
        self.layers.parting(conn, member)

    def parted(self, member: Member) -> None:
        """A member was closed; it is forgotten when it is freed."""

    def gone(self, member: Member) -> None:
        """Forget a member whose connection was freed."""
        self._members.discard(member)
        if not member.closed and self.watcher is not None:
            self.watcher.dropped(member)

    def members(self) -> list[Member]:
        """Return the members whose connection still exists."""
        while True:
            try:
                return list(self._members)
            except RuntimeError:  # the garbage collector freed one in the meantime
                continue

    # ------------------------------------------------------------ resetting

    def mark(self) -> None:
        """Spare from now on what holds locks at this moment: it is not the next test's."""
        if self.is_open:
            with self._lock:
                self.is_dirty()
                self._spared = self._holders() - self._owed

    def transactions(self) -> frozenset[Member]:
        """Return the members that are in a transaction."""
        return present(self.members(), locked=False).transactions

    def adopt(self, before: frozenset[Member]) -> None:
        """Spare also what was begun since `transactions()` said `before`: a wider fixture's."""
        if self.is_open:
            with self._lock:
                now = self._holders() - self._owed
                self._spared |= Spared(now.transactions - before, now.cursors)

    def leave(self) -> list[Blocker]:
        """A test ends without a reset: the next reset ends what this test leaves, as its own.

        Returns the cursors with rows to fetch among it.
        """
        if not self.is_open:
            return []
        with self._lock:
            before = self._spared | self._owed
            left = [] if self.is_free() else left_cursors(self.members(), before)
            self._owed |= self._holders() - self._spared
            return left

    @property
    def spared(self) -> frozenset[Member]:
        """The members whose transactions are not the present test's."""
        return self._spared.transactions | self._owed.transactions

    def _holders(self) -> Spared:
        return present(self.members(), locked=not self.is_free())

    def is_free(self) -> bool:
        """Tell whether no other connection holds any lock."""
        with self._lock:
            return self._sentinel is None or self._sentinel.is_free()

    def schema_version(self) -> int | None:
        """Return the number that changes with each change of the schema; None while locked."""
        with self._lock:
            return self._sentinel.schema_version() if self._sentinel is not None else None

    def ask(self, question: Callable[[sqlite3.Connection], _T]) -> _T | None:
        """Ask the sentinel's connection; None without one, or where it can't tell just now."""
        with self._lock:
            return self._sentinel.ask(question) if self._sentinel is not None else None

    def ask_baseline(self, question: Callable[[sqlite3.Connection], _T]) -> _T | None:
        """Ask the state that the ring is reset to; None where that is not kept."""
        with self._lock:
            courier = self.layers.top.courier if self.is_open else None
            return courier.ask(question) if courier is not None else None

    def fate(self) -> str:
        """Tell what became of the connection that keeps the database alive; "" if all is well."""
        if self._state is _State.CLOSED:
            return "the ring was closed"
        with self._lock:
            return self._sentinel.fate() if self._sentinel is not None else ""

    def baseline_columns(self) -> dict[str, frozenset[str]]:
        """Return the columns of each table of the baseline in lower case; empty without image."""
        with self._lock:
            return self.layers.top.columns() if self.is_open else {}

    def reset(self) -> ResetOutcome:
        """Bring the database back to the top layer, or to the golden snapshot if there is none.

        Rolls back and closes what holds locks since the test began. Raises RingError if the ring
        is not resettable, or closed.
        """
        return self.reset_naming()[0]

    def reset_naming(self) -> tuple[ResetOutcome, tuple[Blocker, ...]]:
        """Reset, and return also what held locks when the reset began."""
        began = perf_counter()
        self.resets += 1
        if self._state is _State.CLOSED:
            raise RingError(f"the ring {self.uri} is closed: it can't be reset")
        if self._state is _State.WAITING:
            return ResetOutcome("clean", 0.0), ()
        with self._lock:
            tier, blockers = self._reset()
            self._owed = Spared()
        outcome = ResetOutcome(tier, perf_counter() - began, tuple(str(each) for each in blockers))
        return outcome, tuple(blockers)

    def _reset(self) -> tuple[Tier, list[Blocker]]:
        if self.kind is RingKind.PRIVATE:
            image = self.layers.image
            assert image is not None
            renewed, blockers = renew(self.members(), self._spared, image)
            return "in-place" if renewed else "clean", blockers
        assert self._sentinel is not None
        tier, blockers = cheapest_tier(self.kind, self._sentinel, self._present, self._spared)
        if tier == "clean":
            return tier, blockers
        courier = self.layers.top.courier
        if courier is None:
            raise RingError(
                f"the ring {self.uri} can't be reset: it was restored with resettable=False"
            )
        if tier == "in-place" and self._sentinel.overwrite(courier):
            return tier, blockers
        self._retire(courier)
        return "retired", blockers

    def _present(self) -> list[Member]:
        return [member for member in self.members() if member.generation == self.generation]

    def _retire(self, courier: Courier) -> None:
        """Move to a new database; who is connected to the old one stays there, and is told on."""
        # Nobody gets to know of the new generation before it is filled.
        filled = Sentinel(self._address(self.generation + 1), courier)
        with self._door.lock:
            old, self._sentinel = self._sentinel, filled
            self.generation += 1
        members = [member for member in self.members() if member.generation < self.generation]
        for member in members:
            member.alert = member.alert or member.watcher is not None
        self._door.let_go(old)

    # ------------------------------------------------------------ taking and closing

    def snapshot(self, *, patience: float = SNAPSHOT_PATIENCE) -> Snapshot:
        """Return a snapshot of what is committed now.

        Raises RingError where somebody writes for longer than `patience`, in seconds.
        A private ring has no state of its own: its snapshot is the one that it was made from.
        """
        self.ensure()
        with self._lock:
            if (image := self.layers.image) is not None:
                return Snapshot(self.baseline, image)
            assert self._sentinel is not None
            return self._sentinel.snapshot(self.database, self.manifest, self.uri, patience)

    def last_state(self) -> Snapshot | None:
        """Return what is committed, once nobody is connected; None if nothing ever was.

        Unlike `snapshot()`, it makes no copy first, and others would disturb it.
        """
        with self._lock:
            assert self._sentinel is not None
            unjournaled = self.kind is RingKind.SHARED_CACHE and self._sentinel.set_back()
            if not (unjournaled or self._sentinel.is_dirty()):
                return None
            return self._sentinel.take(self.database, self.manifest)

    def rebase(self, snapshot: Snapshot) -> None:
        """Make a snapshot, already verified, what the ring is reset to from now on."""
        with self._lock:
            assert self._sentinel is not None
            self.layers.begin(Layer.of(snapshot, self.kind))
            self._sentinel.outdate()

    def close(self) -> None:
        """Free the database. Connections that are still open keep what they see."""
        with self._lock:
            with self._door.lock:
                self._state = _State.CLOSED
            connections.forget(self._key)
            self._door.let_go(self._sentinel)
            self._sentinel = None
            self.layers.close()

    def _check_not_closed(self) -> None:
        if self._state is _State.CLOSED:
            raise RingError(f"the ring {self.uri} is closed: connect while it is open")

    # ------------------------------------------------------------ restoring

    def _restore(self, snapshot: Snapshot) -> None:
        if not self._verified:
            snapshot.verify(f"for the ring {self.uri}")
        check_size(self.kind, snapshot.manifest)
        golden = Layer.of(snapshot, self.kind)
        if golden.courier is not None:
            try:
                self._sentinel = Sentinel(self._address(self.generation), golden.courier)
            except BaseException:
                golden.close()
                raise
            if not self.resettable:
                golden.keep_no_image()
        self.layers.begin(golden)

    def _address(self, generation: int) -> str:
        if self.kind is RingKind.PRIVATE:
            return "file:farm-private?mode=memory"
        return FORMS[self.kind].format(f"{self._key}-g{generation}" if generation else self._key)


def _loaded() -> Snapshot:
    raise RingError("a ring is restored once: please report it")
