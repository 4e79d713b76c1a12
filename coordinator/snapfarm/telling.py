"""What a farm says on pytest's terminal while it runs, if there is one."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, cast

from snapfarm.report import terminal
from snapfarm.stacktext import FATAL

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest
    from _pytest.terminal import TerminalReporter


class Deselected:
    """Stands in pytest's statistics for an item that workers deselected; plugins look into them."""

    def __init__(self, nodeid: str) -> None:
        self.nodeid = nodeid

    def __repr__(self) -> str:
        return f"<Deselected {self.nodeid}>"


def fresh_line(reporter: TerminalReporter) -> None:
    """Begin a line of its own behind dots; pytest's own way is for dots behind a file's name."""
    reporter.ensure_newline()
    if reporter._tw.width_of_current_line:  # noqa: SLF001  # as all plugins that draw
        reporter.write_line("")


class Teller:
    """Writes lines between pytest's own; without a terminal reporter, only what workers printed."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        #: Last words of workers that crash, by worker, until it is known whether a test did it.
        self._withheld: dict[str, list[str]] = {}

    def say(self, line: str) -> None:
        """Tell of the farm's progress; not with `-q`."""
        reporter = self._reporter()
        if reporter is not None and self._config.get_verbosity() >= 0:
            fresh_line(reporter)
            reporter.write_line(line)

    def tell(self, worker: str, what: str) -> None:
        """Tell what the user should know of a worker."""
        reporter = self._reporter()
        if reporter is not None:
            fresh_line(reporter)
            reporter.write_line(f"[{worker}] {what}", yellow=True)

    def printed(self, worker: str, lines: Iterable[str]) -> None:
        """Show what a worker wrote past pytest's capture (all of it, with `-s`).

        Of a crash only the first line: the stacks are in the failure of the test that did it.
        """
        reporter = self._reporter()
        if reporter is None:
            sys.stdout.writelines(f"[{worker}] {line}\n" for line in lines)
            return
        for line in lines:
            if worker in self._withheld:
                self._withheld[worker].append(line)
                continue
            fresh_line(reporter)
            reporter.write_line(f"[{worker}] {line}")
            if line.startswith(FATAL) and self._config.getoption("capture", "no") != "no":
                self._withheld[worker] = []

    def died(self, worker: str, *, blames_a_test: bool) -> None:
        """A worker has ended; what it said of its end is shown unless a test's failure has it."""
        lines = self._withheld.pop(worker, [])
        if not blames_a_test:
            self.printed(worker, lines)

    def deselected(self, nodeids: Iterable[str]) -> None:
        """Count what workers deselected."""
        reporter = self._reporter()
        if reporter is not None and (items := [Deselected(nodeid) for nodeid in nodeids]):
            reporter.pytest_deselected(cast("list[pytest.Item]", items))

    def _reporter(self) -> TerminalReporter | None:
        return cast(
            "TerminalReporter | None", self._config.pluginmanager.get_plugin("terminalreporter")
        )


class Readiness:
    """Says once how many workers are ready: all of them, or those that are when results come."""

    def __init__(self, teller: Teller, planned: int) -> None:
        self._teller = teller
        self._planned = planned
        #: Workers that hold all databases, and when the last of them said so.
        self._ready: set[str] = set()
        self._ready_at = 0.0
        self._began = time.monotonic()
        self._said = False

    def add(self, worker: str) -> None:
        """Count a worker that holds all databases."""
        self._ready.add(worker)
        self._ready_at = time.monotonic()

    def say(self, items: int | None, *, databases: bool, now: bool = False) -> None:
        """Say it, unless that would be too early; `items` is None where none are known yet."""
        count = len(self._ready)
        if self._said or not (now or (items is not None and count >= self._planned)):
            return
        self._said = True
        seconds = self._ready_at - self._began
        verified = count if databases else None
        self._teller.say(terminal.ready_line(count, self._planned, seconds, verified, items or 0))
