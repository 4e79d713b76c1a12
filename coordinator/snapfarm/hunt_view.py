"""What a hunt shows while it runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import click

from snapfarm.flakes.rounds import Hunt, Round, Sightings

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

#: Rounds between two lines of progress.
_LINES = 10
#: Lines of the terminal that are not rows of the table.
_FRAME = 8


class HuntView:
    """Shows the rounds of a hunt; a context manager, closed before anything else is printed."""

    def __init__(
        self, *, rounds: int | None, seconds: float | None, terminal: bool | None = None
    ) -> None:
        """Budgets are the hunt's. `terminal` tells whether to draw, if not standard output does."""
        self._rounds = rounds
        self._seconds = seconds
        self._began = time.monotonic()
        self._terminal = sys.stdout.isatty() if terminal is None else terminal
        self._live: Live | None = None
        self._notes: list[str] = []

    def __enter__(self) -> Self:
        if self._terminal:
            # rich takes its time to import, and most hunts of machines have no terminal.
            from rich.live import Live

            self._live = Live(refresh_per_second=4, transient=True, redirect_stderr=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the table away; print what had to wait."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        for note in self._notes:
            click.echo(note, err=True)
        self._notes.clear()

    def warn(self, text: str) -> None:
        """Tell of a trouble that does not end the hunt."""
        note = f"farm: note: {text}"
        if self._live is None:
            click.echo(note, err=True)
        else:
            self._notes.append(note)

    def told(self, hunt: Hunt, found: Round, new: Sequence[str]) -> None:
        """A round has ended, and was the first to see these tests fail."""
        seen = hunt.sightings
        if self._live is not None:
            self._live.update(self._table(seen, found, self._live.console.height))
            return
        for test in dict.fromkeys(new):
            first = seen.tests[test].first
            signature = "" if first is None else f"   {first.signature}"
            click.echo(f"round {found.number + 1} ({found.conditions.name}): {test}{signature}")
        if seen.rounds % _LINES == 0:
            click.echo(f"        {self._progress(seen)}")

    def _progress(self, seen: Sightings) -> str:
        return f"{seen.rounds} rounds, {seen.executions} tests run, {len(seen.suspects)} failed"

    def _table(self, seen: Sightings, found: Round, height: int) -> Table:
        from rich.table import Table
        from rich.text import Text

        left = []
        if self._rounds is not None:
            left.append(f"{max(0, self._rounds - seen.rounds)} rounds left")
        if self._seconds is not None:
            spent = time.monotonic() - self._began
            left.append(f"{max(0.0, self._seconds - spent):.0f} s left")
        title = f"{self._progress(seen)}; {', '.join(left)}; last: {found.conditions.name}"
        table = Table(title=title, title_justify="left", caption="Ctrl-C ends it with a summary")
        for name in ("test", "failed", "first in", "under", "failure"):
            table.add_column(name, no_wrap=True, overflow="ellipsis")
        suspects = sorted(seen.suspects, key=lambda test: -seen.tests[test].failures)
        shown = suspects[: max(1, height - _FRAME)]
        for test in shown:
            one = seen.tests[test]
            table.add_row(
                # As text: names have brackets, which would be taken for markup.
                Text(test),
                Text(str(one.rate)),
                Text(str(one.round + 1)),
                Text(one.only_under or ", ".join(one.conditions)),
                Text("" if one.first is None else str(one.first.signature)),
            )
        if len(suspects) > len(shown):
            table.add_row(Text(f"… and {len(suspects) - len(shown)} more"))
        return table
