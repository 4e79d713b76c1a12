"""What the sensors remember of one connection, and of the transaction that it is in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from snapfarm_worker.stacks import Spot
from snapfarm_worker.statements import Facts, Recording, Removals

if TYPE_CHECKING:
    from snapfarm_worker.inventory import RingWatch


class Begun(msgspec.Struct, frozen=True):
    """The statement that began a transaction, when (a clock's seconds) and where."""

    sql: str
    since: float
    where: Spot


class Seen(msgspec.Struct, frozen=True):
    """A read of a table in which another connection had uncommitted changes."""

    where: str
    thread: str
    sql: str
    table: str
    stack: tuple[str, ...]


class Notes:
    """The sensors' memory of one connection; none of it keeps the connection alive."""

    __slots__ = (
        "asked", "authorized", "before", "begun", "doubled", "edition", "forked", "last", "memo",
        "recording", "removals", "returning", "seen_by", "suspicious", "triggers", "uncommitted",
        "unsaved", "watch", "wrote",
    )  # fmt: skip

    def __init__(self) -> None:
        #: What is known of its ring; None for a connection to no ring.
        self.watch: RingWatch | None = None
        #: The rows that it had changed in all when the test began.
        self.before = 0
        #: Whether a statement of this test is known that may have changed rows.
        self.wrote = False
        #: Its reads are of interest: it left the ring, or reads uncommitted.
        self.suspicious = False
        #: It has temporary triggers, of which no other connection can tell what they do.
        self.triggers = False
        #: Its ring is attached to it once more, under a name by which rows go that nobody counts.
        self.doubled = False
        #: The statement that began the open transaction, as far as one is known.
        self.begun: Begun | None = None
        #: The statements that read, each with the place where it was first executed.
        self.asked: dict[str, tuple[str, Spot]] = {}
        #: The last statement that succeeded.
        self.last = ""
        #: The statements that changed rows in the open transaction, with the place of the first.
        self.unsaved: dict[str, Spot] = {}
        #: Those with RETURNING, with the rows that the connection had changed in all before.
        self.returning: dict[str, tuple[int, Spot]] = {}
        #: Who read uncommitted what this connection had changed.
        self.seen_by: list[Seen] = []
        #: PRAGMA read_uncommitted is on.
        self.uncommitted = False
        #: Our authorizer is set.
        self.authorized = False
        #: What the authorizer was told since the last statement ended.
        self.recording = Recording()
        #: What is known of statements, by their text.
        self.memo: dict[str, Facts] = {}
        #: Of which edition of the ring's schema that is known.
        self.edition = 0
        #: What it removed since it left the ring.
        self.removals = Removals()
        #: It was reported to be used in a forked process.
        self.forked = False
