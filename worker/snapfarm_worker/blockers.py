"""Finds what keeps a ring locked after a test, and ends what can be ended.

Three things hold a lock: a connection in a transaction, a connection that was dropped in one and
waits for the garbage collector, and a cursor with rows left to fetch, even one whose connection is
closed. What was there before the test began is somebody else's, and is left alone.
"""

from __future__ import annotations

import gc
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Literal, TypeGuard

import msgspec

from snapfarm_worker.members import Member, RingConnection, RingCursor, collect
from snapfarm_worker.stacks import Spot, forget_failed_frames

_in_transaction: Callable[[sqlite3.Connection], bool] = (
    sqlite3.Connection.in_transaction.__get__  # below a user's class
)


class Blocker(msgspec.Struct, frozen=True):
    """One holder of a lock, with whether it began before the test (`wide`), and was `ended`."""

    what: Literal["transaction", "cursor", "connection"]
    member: Member
    wide: bool = False
    ended: bool = False
    #: A cursor's statement and where it was executed, as far as that is known.
    sql: str = ""
    where: Spot = ()

    def __str__(self) -> str:
        text = {
            "transaction": "an open transaction of a connection ",
            "cursor": "a cursor with rows left to fetch, of a connection ",
            "connection": "a connection dropped in a transaction without close(), ",
        }[self.what]
        return text + self.member.where


class Spared(msgspec.Struct, frozen=True):
    """What held locks at some moment; above all, when the test began."""

    #: The members that were in a transaction.
    transactions: frozenset[Member] = frozenset()
    #: The cursors that existed, if the ring was locked.
    cursors: frozenset[weakref.ref[sqlite3.Cursor]] = frozenset()

    def __or__(self, other: Spared) -> Spared:
        return Spared(self.transactions | other.transactions, self.cursors | other.cursors)

    def __sub__(self, other: Spared) -> Spared:
        return Spared(self.transactions - other.transactions, self.cursors - other.cursors)


def in_transaction(member: Member) -> bool:
    """Tell whether a member is in a transaction that its program began.

    A connection with `autocommit=False` is in one all its life, which says nothing.
    """
    conn = member.ref()
    if conn is None or member.closed or _always_in_transaction(conn, member):
        return False
    try:
        return _in_transaction(conn)
    except sqlite3.ProgrammingError:
        return False


def writing_here(member: Member) -> sqlite3.Connection | None:
    """Return the connection of a member that is in a transaction and can be used by this thread."""
    conn = member.ref()
    if conn is None or member.closed or member.thread_id != threading.get_ident():
        return None
    try:
        return conn if _in_transaction(conn) else None
    except sqlite3.ProgrammingError:
        return None


def present(members: Iterable[Member], *, locked: bool) -> Spared:
    """Return what there is now, to be spared later. Only a locked ring is searched for cursors."""
    members = list(members)
    return Spared(
        frozenset(member for member in members if in_transaction(member)),
        frozenset(weakref.ref(cursor) for cursor, _ in _cursors(members))
        if locked
        else frozenset(),
    )


def clear(members: list[Member], spared: Spared, is_free: Callable[[], bool]) -> list[Blocker]:
    """End what holds locks, as far as it isn't spared; return all that was found.

    Works from the cheap to the dear, and stops once the ring is free.
    """
    found: list[Blocker] = []
    for member in members:
        if in_transaction(member):
            wide = member in spared.transactions
            found.append(
                Blocker("transaction", member, wide, ended=not wide and rolled_back(member))
            )
        elif member not in spared.transactions:
            rolled_back(member)  # harmless, and all that autocommit=False needs
    if is_free():
        return found
    forget_failed_frames()
    alive = [member for member in members if member.ref() is not None]
    collect()
    if is_free():
        # What only garbage, or the frames of a failed test, kept alive is no cursor left open.
        return found + [
            Blocker("connection", member, ended=True)
            for member in alive
            if member.ref() is None and not member.closed
        ]
    found += [
        Blocker("transaction", member, member.wide)
        for member in members
        if _may_hold_unseen(member)
    ]
    return found + end_cursors(members, spared)


def held_from_before(blockers: list[Blocker]) -> bool:
    """Tell whether only what began before the test still holds locks."""
    holding = [each for each in blockers if not each.ended]
    return bool(holding) and all(each.wide for each in holding)


def end_cursors(members: Iterable[Member], spared: Spared) -> list[Blocker]:
    """Close the unfinished cursors, as far as they aren't spared; return all that were found."""
    found = []
    for cursor, member in _cursors(members):
        wide = weakref.ref(cursor) in spared.cursors
        if wide or _is_unfinished(cursor):
            sql, where = getattr(cursor, "farm_asked", ("", ()))
            ended = not wide and _ended(cursor, member)
            found.append(Blocker("cursor", member, wide, ended=ended, sql=sql, where=where))
    return found


def left_cursors(members: list[Member], spared: Spared) -> list[Blocker]:
    """Return the unfinished cursors that aren't spared, and leave them as they are."""
    if _unfinished(members, spared):
        # What only garbage, or the frames of a failed test, kept alive is no cursor left open.
        forget_failed_frames()
        collect()
    return [
        Blocker("cursor", member, sql=sql, where=where)
        for cursor, member in _unfinished(members, spared)
        for sql, where in [getattr(cursor, "farm_asked", ("", ()))]
    ]


def _unfinished(members: list[Member], spared: Spared) -> list[tuple[sqlite3.Cursor, Member]]:
    return [
        (cursor, member)
        for cursor, member in _cursors(members)
        if weakref.ref(cursor) not in spared.cursors and _is_unfinished(cursor)
    ]


def _may_hold_unseen(member: Member) -> bool:
    """Tell whether a member can neither be asked nor rolled back, being another thread's."""
    conn = member.ref()
    return (
        conn is not None and not member.closed and not member.autocommit and not rolled_back(member)
    )


def _always_in_transaction(conn: sqlite3.Connection, member: Member) -> bool:
    try:
        return getattr(conn, "autocommit", True) is False
    except sqlite3.ProgrammingError:
        return not member.autocommit  # another thread's connection does not tell


def rolled_back(member: Member) -> bool:
    """Roll a member back; tell whether that was possible."""
    conn = member.ref()
    if conn is None or member.closed:
        return False
    try:
        sqlite3.Connection.rollback(conn)
    except sqlite3.Error:
        return False  # another thread's
    return True


def _cursors(members: Iterable[Member]) -> list[tuple[sqlite3.Cursor, Member]]:
    """Return the living cursors of the members' connections, closed connections included."""
    owners: dict[int, Member] = {}
    connections: list[RingConnection] = []
    for member in members:
        conn = member.ref()
        if conn is not None:
            owners[id(conn)] = member
            connections.append(conn)
    if not connections:
        return []
    # By its type alone: the `__class__` of a lazy proxy may raise.
    cursors = [each for each in gc.get_referrers(*connections) if _is_cursor(each)]
    return [
        (cursor, owners[id(cursor.connection)])
        for cursor in cursors
        if id(getattr(cursor, "connection", None)) in owners
    ]


def _is_cursor(thing: object) -> TypeGuard[sqlite3.Cursor]:
    return issubclass(type(thing), sqlite3.Cursor)


def _is_unfinished(cursor: sqlite3.Cursor) -> bool:
    """Tell whether a cursor has rows left: as long as it has, it refers to its statement.

    Nothing is asked of SQLite, so that no row is lost, and any thread may look.
    """
    return cursor.description is not None and any(
        type(each).__name__ == "Statement" for each in gc.get_referents(cursor)
    )


def _ended(cursor: sqlite3.Cursor, member: Member) -> bool:
    try:
        if not member.closed:
            sqlite3.Cursor.close(cursor)
            if isinstance(cursor, RingCursor):
                cursor.farm_ended = True
            return True
        # close() refuses since the connection is closed. Giving the cursor another connection
        # frees its statement, and with it what SQLite kept of the first one.
        nowhere = sqlite3.Connection(":memory:")
        sqlite3.Cursor.__init__(cursor, nowhere)
        nowhere.close()
    except sqlite3.Error:
        return False  # another thread's
    return True
