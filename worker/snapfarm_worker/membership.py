"""What is known of one connection to a ring, its ring, and whoever watches it."""

from __future__ import annotations

import collections
import itertools
import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from snapfarm_worker.notes import Notes
from snapfarm_worker.stacks import Frame, shown

if TYPE_CHECKING:
    from snapfarm_worker.members import RingConnection


#: So many statements of each connection are remembered.
RECENT = 10

_numbers = itertools.count(1)


class Watcher(Protocol):
    """What is told of a member's life; nothing that it does may raise."""

    def joined(self, member: Member) -> None:
        """A connection was opened."""

    def dropped(self, member: Member) -> None:
        """A connection was freed that nobody had closed; called at any moment."""

    def begins(self, member: Member, sql: object) -> None:
        """A connection that is on alert is about to execute something in several steps."""

    def executed(
        self, cursor: sqlite3.Cursor, member: Member, sql: str, *, script: bool = False
    ) -> None:
        """A statement succeeded on a connection that is on alert."""

    def ended(self, conn: RingConnection, member: Member, *, committed: bool) -> None:
        """A connection that is on alert committed or rolled back through a method of its own."""

    def closing(self, conn: RingConnection, member: Member) -> None:
        """A connection that is on alert is about to be closed."""

    def failed(
        self, conn: RingConnection, member: Member, sql: str, error: sqlite3.Error, partly: bool
    ) -> None:
        """An error is about to reach the caller; `partly` tells that some of it may be done."""

    def left(self, conn: RingConnection, member: Member) -> None:
        """The connection has just left its ring through `deserialize()`."""

    def authorize(self, conn: RingConnection, member: Member) -> None:
        """Set the watcher's authorizer, which calls the user's, on a connection that left."""


class Home(Protocol):
    """What a member knows of its ring."""

    database: str
    watcher: Watcher | None

    @property
    def generation(self) -> int:
        """Counts the databases that the ring retired."""

    def parting(self, conn: RingConnection, member: Member) -> None:
        """A member is about to be closed, though that may fail."""

    def parted(self, member: Member) -> None:
        """A member was closed, for the first time; what this raises, the closer gets."""

    def gone(self, member: Member) -> None:
        """Forget a member whose connection was freed; called at any moment, even inside the GC."""

    def members(self) -> list[Member]:
        """Return the members whose connection still exists."""


class Member:
    """What is known of one connection to a ring; it never keeps the connection alive."""

    __slots__ = (
        "alert", "authorizer", "autocommit", "closed", "explicit", "fixture", "generation", "home",
        "left", "notes", "number", "opened", "patient", "pooled", "pristine", "quiet", "recent",
        "ref", "test", "thread", "thread_id", "timeout", "traced", "tracer", "watcher", "wide",
    )  # fmt: skip

    def __init__(self, home: Home | None, *, patient: bool, timeout: float) -> None:
        #: The ring; None only for a connection that is still being made.
        self.home = home
        self.watcher = home.watcher if home else None
        #: The ring's generation that the connection was made to.
        self.generation = home.generation if home else 0
        #: Counts the members of this process.
        self.number = next(_numbers)
        #: How a copy of a private ring's stood when it was last at the baseline.
        self.pristine: tuple[int, ...] = ()
        #: Returns the connection, or None once it is gone.
        self.ref: Callable[[], RingConnection | None] = _gone
        #: True where locks have to be waited for here, since SQLite does not.
        self.patient = patient
        #: What `timeout=` said, in seconds.
        self.timeout = timeout
        #: The frames of the project's own code that opened it, innermost first.
        self.opened: tuple[Frame, ...] = ()
        #: Opened by a connection pool, which closes it when it wants to.
        self.pooled = False
        #: False if `autocommit=False` was asked for: it is then in a transaction all its life.
        self.autocommit = True
        self.thread = ""
        self.thread_id = 0
        #: The test that opened it; empty outside of tests.
        self.test = ""
        #: Opened by a fixture that outlives the test.
        self.wide = False
        #: Opened, and closed, by a fixture of the farm's.
        self.fixture = False
        #: `close()` succeeded.
        self.closed = False
        #: The watcher wants to see each statement.
        self.alert = False
        #: Its database is private since it called `deserialize()`.
        self.left = False
        #: The user has a trace callback, which must see no statement but the user's.
        self.traced = False
        #: The user's own authorizer.
        self.authorizer: Callable[..., int] | None = None
        #: The open transaction was begun by the user's own BEGIN or SAVEPOINT.
        self.explicit = False
        #: A statement of the watcher's own runs, which the user's authorizer must not see.
        self.quiet = False
        #: The user's own trace callback.
        self.tracer: Callable[[str], object] | None = None
        #: Its last statements in the present test, for the evidence of a failure.
        self.recent: collections.deque[str] = collections.deque(maxlen=RECENT)
        #: What the watcher remembers.
        self.notes = Notes()

    @property
    def where(self) -> str:
        """Where it was opened, and by which thread, for people."""
        file, line, function = self.opened[0] if self.opened else ("", 0, "")
        place = f"at {file}:{line} in {function}" if file else "by code outside of the project"
        return f"opened {place}, thread {self.thread}"

    @property
    def stack(self) -> tuple[str, ...]:
        """The frames that opened it, for people."""
        return tuple(shown(frame) for frame in self.opened)


def _gone() -> None:
    return None
