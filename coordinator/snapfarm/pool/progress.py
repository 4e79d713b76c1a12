"""Tells how far a pool is: to a function of the user's, and to a bar on the terminal."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import msgspec

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from snapfarm.pool.statistics import Tally

#: Seconds between two calls, but for the last one.
_EVERY = 0.1


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How many calls were submitted, and what became of them."""

    submitted: int
    done: int
    failed: int
    crashed: int
    cancelled: int

    @property
    def ended(self) -> int:
        """Calls that have their outcome."""
        return self.done + self.failed + self.crashed + self.cancelled


Follower: TypeAlias = Callable[[Progress], object]


class ProgressTeller:
    """Tells followers of each change, not too often, and always of the last one."""

    def __init__(self, tally: Tally, followers: list[Follower]) -> None:
        self._tally = tally
        self._followers = followers
        self._told_at = 0.0

    def changed(self) -> None:
        """Take note that calls have ended; called in the pool's thread."""
        if not self._followers:
            return
        progress = self._tally.progress()
        now = time.monotonic()
        if now - self._told_at < _EVERY and progress.ended < progress.submitted:
            return
        self._told_at = now
        for follower in list(self._followers):
            try:
                follower(progress)
            except BaseException:
                # Telling of progress never breaks a pool.
                self._followers.remove(follower)
                sys.stderr.write("snapfarm: on_progress failed, it is not called any more:\n")
                traceback.print_exc()


class _TerminalBar:
    """A bar made with rich, on standard error."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __call__(self, progress: Progress) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        if self._bar is None or self._task is None:
            if progress.ended >= progress.submitted:
                return  # it was shown to its end
            self._bar = Bar(
                "{task.description}",
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("tasks")
            self._bar.start()
        bad = progress.failed + progress.crashed
        self._bar.update(
            self._task,
            total=progress.submitted,
            completed=progress.ended,
            description=f"tasks, {bad} failed" if bad else "tasks",
        )
        if progress.ended >= progress.submitted:
            self._bar.stop()
            self._bar = None


def progress_of(
    tally: Tally, on_progress: Callable[[Progress], object] | None, *, bar: bool
) -> ProgressTeller:
    """Return what tells of a pool's progress; a bar only where there is a terminal to show it."""
    followers: list[Follower] = []
    if on_progress is not None:
        followers.append(on_progress)
    if bar and sys.stderr is not None and sys.stderr.isatty():
        followers.append(_TerminalBar())
    return ProgressTeller(tally, followers)
