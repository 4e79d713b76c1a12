"""What threads execute on the connections of a ring at this moment.

A statement is noted once SQLite is done with it. Until its thread goes on to do so, what it has
removed is gone and nobody has said so; but its call is on that thread's stack.
"""

from __future__ import annotations

import sys
from types import FrameType

from snapfarm_worker.members import Home, RingConnection, RingCursor, member_of
from snapfarm_worker.statements import Word, word_of

#: What notes a statement only afterwards.
_EXECUTES = frozenset({RingConnection.execute.__code__, RingCursor.execute.__code__})


def underway(home: Home) -> tuple[str, ...]:
    """Return the texts that any thread executes on connections of a ring, but for reads."""
    found: list[str] = []
    for innermost in sys._current_frames().values():  # noqa: SLF001  # public for debuggers
        frame: FrameType | None = innermost
        while frame is not None:
            if frame.f_code in _EXECUTES:
                call = frame.f_locals
                conn = getattr(call["self"], "connection", call["self"])
                member = member_of(conn)
                sql = call["sql"]
                if (
                    member is not None
                    and member.home is home
                    and isinstance(sql, str)
                    and word_of(sql) is not Word.READ
                ):
                    found.append(sql)
            frame = frame.f_back
    return tuple(found)
