"""Brings the connections of a private ring, each with a copy of its own, back to the snapshot."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable

from snapfarm_worker.blockers import Blocker, Spared, end_cursors, in_transaction, rolled_back
from snapfarm_worker.courier import open_private
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
    return renewed, blockers


def _overwritten(conn: RingConnection, source: sqlite3.Connection) -> bool:
    # Not by `deserialize()`, which pulls the pages away from under an unfinished cursor: that is a
    # crash, where `backup()` is an error.
    try:
        source.backup(conn)
    except sqlite3.Error:
        return False
    return True
