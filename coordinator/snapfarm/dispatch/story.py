"""The dispatcher's memory of what happened last, for errors that tell how they came about."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import msgspec

from snapfarm.dispatch.model import Action, Event

#: How many events an error tells of.
TOLD = 40


class Chapter(msgspec.Struct):
    """One event, and what followed from it."""

    #: Counted from 1 over the whole run; the cause of everything below.
    cause: int
    #: Seconds on the shell's clock.
    now: float
    event: Event
    #: Moves and oddities, in words.
    notes: list[str]
    actions: list[Action]


class Story:
    """The last events with their causes, moves and actions."""

    def __init__(self) -> None:
        self._chapters: deque[Chapter] = deque(maxlen=TOLD)
        self._cause = 0

    def begin(self, event: Event, now: float) -> Chapter:
        """Open the chapter of an event; its lists may be filled until the next one begins."""
        self._cause += 1
        chapter = Chapter(self._cause, now, event, [], [])
        self._chapters.append(chapter)
        return chapter

    def note(self, text: str) -> None:
        """Add a remark to the chapter of the current event, if there is one."""
        if self._chapters:
            self._chapters[-1].notes.append(text)

    def lines(self) -> Iterator[str]:
        """Yield the story, oldest event first."""
        for chapter in self._chapters:
            yield f"#{chapter.cause} at {chapter.now:.3f} s: {brief(chapter.event)}"
            yield from (f"    {note}" for note in chapter.notes)
            yield from (f"    -> {brief(action)}" for action in chapter.actions)


def brief(struct: Event | Action) -> str:
    """Return an event or action in one line, whatever the number of its items."""
    fields = (
        f"{name}={_brief_value(getattr(struct, name))}" for name in type(struct).__struct_fields__
    )
    return f"{type(struct).__name__}({', '.join(fields)})"


def _brief_value(value: object) -> str:
    if isinstance(value, tuple) and len(value) > 3:
        return f"[{value[0]!r}, … {value[-1]!r}: {len(value)}]"
    return repr(value)
