"""All time limits of a farm in one table: what is waited for, until when, and for whom.

Pure: it knows no clock. Whoever waits asks for `left`, whoever enforces takes what is `due`, and
time in which nobody looked is taken out of everything by `look`.

    kind      of            passes when                                     what follows
    ITEM      worker, key   an item, or one call of a task, runs too long   the item is condemned
    START     worker        its databases are not restored                  it is killed
    COLLECT   worker        all else is done and it still collects          it is ended
    EXIT      worker        its session has ended, its process has not      it is killed
    STOP      the farm      the farm was told to stop                       all are killed
    LOOK      the farm      the black boxes were last looked into           they are again
    KILL      worker        it is sentenced, or was killed and still lives  SIGKILL
    SILENT    worker        nothing was heard of it                         stopped: it is killed
    MOMENT    worker        its process has ended                           it is buried, if ...
    SETTLE    worker        its process has ended                           it is buried
"""

from __future__ import annotations

import enum
from collections.abc import Collection

import msgspec

#: Between two looks may lie so many seconds more than meant.
_PAUSE = 1.0


class Kind(enum.StrEnum):
    """What a deadline is for."""

    ITEM = "item"
    START = "start"
    COLLECT = "collect"
    EXIT = "exit"
    STOP = "stop"
    LOOK = "look"
    KILL = "kill"
    SILENT = "silent"
    MOMENT = "moment"
    SETTLE = "settle"


class Deadline(msgspec.Struct, frozen=True):
    """One limit; `worker` and `key` are empty where it is not about one."""

    kind: Kind
    worker: str = ""
    key: str = ""


class Deadlines:
    """The table. There is at most one deadline of a kind for a worker and a key."""

    def __init__(self) -> None:
        self._at: dict[tuple[Kind, str, str], float] = {}
        #: When somebody last looked whether anything had happened.
        self._looked: float | None = None
        #: Whether that was later than meant, so that nothing is to be judged by it.
        self.blind = False

    def set(self, kind: Kind, at: float, worker: str = "", key: str = "") -> None:
        """Set a deadline, in the place of an earlier one."""
        self._at[kind, worker, key] = at

    def at(self, kind: Kind, worker: str = "", key: str = "") -> float | None:
        """Return when a deadline passes; None if there is none."""
        return self._at.get((kind, worker, key))

    def drop(self, kind: Kind, worker: str = "", key: str = "") -> None:
        """Forget a deadline, if there is one."""
        self._at.pop((kind, worker, key), None)

    def forget(self, worker: str) -> None:
        """Forget all deadlines of a worker."""
        self._at = {entry: at for entry, at in self._at.items() if entry[1] != worker}

    def left(self, now: float) -> float | None:
        """Return the seconds until the next deadline, at least 0; None if there is none."""
        return max(0.0, min(self._at.values()) - now) if self._at else None

    def take_due(self, now: float, kinds: Collection[Kind]) -> list[Deadline]:
        """Return the deadlines of these kinds that have passed, earliest first; forget them."""
        due = sorted(
            (at, entry) for entry, at in self._at.items() if at <= now and entry[0] in kinds
        )
        for _, entry in due:
            del self._at[entry]
        return [Deadline(*entry) for _, entry in due]

    def look(self, now: float, waited: float) -> None:
        """Take out of all limits the time in which nobody looked: we were stopped, or busy.

        `waited` is how long the sleep before this look was meant to be. What workers have sent
        meanwhile may take ZeroMQ's own thread a moment to read: the first look after a pause is
        blind, unless there is a pause before each.
        """
        pause = 0.0 if self._looked is None else now - self._looked - waited
        self._looked = now
        if paused := pause > _PAUSE:
            for entry in self._at:
                self._at[entry] += pause
        self.blind = paused and not self.blind
