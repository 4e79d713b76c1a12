"""The connections of a private ring, each with a copy of its own.

Here they are brought back to the baseline; and here it is seen which of them a fixture has changed,
so that its copy can become the baseline of all.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable

from snapfarm_worker.blockers import Blocker, Spared, end_cursors, in_transaction, rolled_back
from snapfarm_worker.courier import open_private
from snapfarm_worker.errors import RingError
from snapfarm_worker.members import Member, RingConnection


def renew(
    members: Iterable[Member], spared: Spared, image: bytes | bytearray
) -> tuple[int, list[Blocker]]:
    """Overwrite the members' copies; return how many, and what was in the way.

    Pools and wider fixtures keep connections from test to test. A copy is not asked whether it was
    changed: SQLite tells a connection nothing of its own commits. What is in a transaction from
    before the test stays as it is, and so does what another thread is using.
    """
    kept = [
        (member, conn)
        for member in members
        if (conn := member.ref()) is not None and not member.closed and not member.left
    ]
    if not kept:
        return 0, []
    renewed = 0
    blockers: list[Blocker] = []
    with contextlib.closing(open_private(image)) as source:
        for member, conn in kept:
            if in_transaction(member):
                wide = member in spared.transactions
                ended = not wide and rolled_back(member)
                blockers.append(Blocker("transaction", member, wide, ended))
                if wide:
                    continue
            elif not member.autocommit:
                rolled_back(member)
            if not _overwritten(conn, source):
                blockers += end_cursors([member], spared)
                if not _overwritten(conn, source):
                    continue
            renewed += 1
            member.pristine = probe(conn)
    return renewed, blockers


def _overwritten(conn: RingConnection, source: sqlite3.Connection) -> bool:
    # Not by `deserialize()`, which pulls the pages away from under an unfinished cursor: that is a
    # crash, where `backup()` is an error.
    try:
        source.backup(conn)
    except sqlite3.Error:
        return False
    return True


_total_changes: Callable[[sqlite3.Connection], int] = (
    sqlite3.Connection.total_changes.__get__  # below a user's class
)
_PRAGMAS = ("schema_version", "user_version", "application_id")


def probe(conn: sqlite3.Connection) -> tuple[int, ...]:
    """Return numbers of which one changes when the connection's copy does; empty if unknown."""
    try:
        cursor = sqlite3.Cursor(conn)
        cursor.row_factory = None
        pragmas = [cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in _PRAGMAS]
        cursor.close()
        return (_total_changes(conn), *pragmas)
    except sqlite3.Error:
        return ()  # another thread's


class Changes:
    """What happens to the copies of a private ring from a moment on."""

    def __init__(self, members: Iterable[Member]) -> None:
        #: The connections that exist already, with how they stand.
        self._before = {
            member: probe(conn)
            for member in members
            if (conn := member.ref()) is not None and not member.closed
        }
        #: The copy of the last connection that was changed and closed.
        self._closed: bytes | None = None

    def closing(self, conn: RingConnection, member: Member) -> None:
        """Keep the copy of a connection that is about to be closed, if it was changed."""
        if self._is_changed(conn, member) and rolled_back(member) and self._began_clean(member):
            with contextlib.suppress(sqlite3.Error):
                self._closed = sqlite3.Connection.serialize(conn)

    def taken(self, members: Iterable[Member]) -> bytes | None:
        """Return the copy of the connection that was changed last; None if none was.

        One that is still open comes before those that were closed. Raises RingError where its
        changes can't be told from earlier ones, or are not committed.
        """
        changed = [
            (member, conn)
            for member in members
            if (conn := member.ref()) is not None
            and not member.closed
            and not member.left
            and self._is_changed(conn, member)
        ]
        if not changed:
            return self._closed
        # The members come in no order; connections made later are changed later, mostly.
        member, conn = max(changed, key=lambda pair: pair[0].number)
        if not self._began_clean(member):
            raise RingError("the test had changed the same connection before")
        if in_transaction(member):
            raise RingError("it keeps a transaction open")
        try:
            image = sqlite3.Connection.serialize(conn)
        except sqlite3.Error as error:
            raise RingError(f"its connection can't be copied: {error}") from error
        member.pristine = probe(conn)
        return image

    def _is_changed(self, conn: RingConnection, member: Member) -> bool:
        now = probe(conn)
        return bool(now) and now != self._before.get(member, member.pristine)

    def _began_clean(self, member: Member) -> bool:
        before = self._before.get(member)
        return before is None or before == member.pristine
