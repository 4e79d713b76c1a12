"""What a reset has to do: when it is due, what it may end, and which tier is enough.

clean      nothing was committed, nobody holds a lock       nothing to do
in-place   no lock (left): overwritten where it is          connections stay
retired    a lock that can't be ended: a new generation     old connections stay behind
"""

from __future__ import annotations

import enum
import sqlite3
from collections.abc import Callable
from typing import Literal

import msgspec

from snapfarm_worker.blockers import Blocker, Spared, clear, held_from_before
from snapfarm_worker.members import Member
from snapfarm_worker.ringkind import RingKind
from snapfarm_worker.sentinel import Sentinel

Tier = Literal["clean", "in-place", "retired"]


class ResetPolicy(enum.StrEnum):
    """At which boundary a ring goes back to its snapshot."""

    TEST = "test"
    MODULE = "module"
    SESSION = "session"
    NEVER = "never"


class ResetOutcome(msgspec.Struct, frozen=True):
    """What a reset did. `blockers` tells, for people, what held locks when it began."""

    tier: Tier
    seconds: float
    blockers: tuple[str, ...] = ()


def cheapest_tier(
    kind: RingKind, sentinel: Sentinel, members: Callable[[], list[Member]], spared: Spared
) -> tuple[Tier, list[Blocker]]:
    """End what holds locks and is not spared; return the cheapest tier that is enough then.

    Also returns what held locks. `members()` are those of the present generation.
    """
    blockers: list[Blocker] = []
    free = sentinel.is_free()
    if not free:
        blockers = clear(members(), spared, sentinel.is_free)
        free = sentinel.is_free()
    dirty = sentinel.is_dirty()
    if free and kind is RingKind.SHARED_CACHE:
        try:
            dirty = sentinel.set_back() or dirty
        except sqlite3.DatabaseError:
            free, dirty = False, True  # damaged
    if not dirty and (free or held_from_before(blockers)):
        # Nothing was committed, and who still holds a lock did so before the test.
        return "clean", blockers
    return ("in-place" if free else "retired"), blockers
