"""An item that killed its worker: its report, and the word that plugins have in what follows."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

import pytest

from snapfarm.happenings import Died, KillReason
from snapfarm.stacktext import without_machinery
from snapfarm_worker.blackbox import Phase

if TYPE_CHECKING:
    from snapfarm_worker.wire import Location

_PHASES = {
    Phase.SETUP: "in its setup phase",
    Phase.CALL: "in its call phase",
    Phase.TEARDOWN: "in its teardown phase",
    Phase.ENDING: "for the second time, it ended the session without a word, and",
}


class CrashScheduler:
    """Stands where xdist has its scheduler while `pytest_handlecrashitem` is called.

    A plugin that reruns what fails calls `mark_test_pending` and makes the report's outcome
    "rerun". `item` is the node id that may run again; None where none may.
    """

    def __init__(self, config: pytest.Config, item: str | None) -> None:
        self.config = config
        #: Whether the item is to run again.
        self.pending = False
        self._item = item

    def __enter__(self) -> CrashScheduler:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._item = None

    def mark_test_pending(self, item: str) -> None:
        """Run the crashed item again. Raises NotImplementedError, as xdist, where that can't be."""
        if item != self._item:
            raise NotImplementedError(
                "only an item that has just killed its worker can run again, "
                f"and {item!r} is none, or the run is being stopped"
            )
        self.pending = True


def crash_report(
    nodeid: str,
    location: Location,
    died: Died,
    seconds: float,
    limit: float,
    *,
    full_trace: bool = False,
) -> pytest.TestReport:
    """Return the report of an item that killed its worker, with all that is known of its end.

    Stacks are without frames of pytest and the farm, unless `full_trace` asks for them.
    """
    stacks, printed = died.stacks, died.printed
    if not full_trace:
        stacks, printed = without_machinery(stacks), without_machinery(printed)
    phase = _PHASES.get(died.record.phase, "in its run phase")
    lines = [f"worker {died.worker!r} crashed while running {nodeid!r}"]
    match died.killed:
        case KillReason.TIMEOUT:
            lines = [
                f"worker {died.worker!r} was killed while running {nodeid!r}",
                f"{phase} the item passed the time limit of {limit:g} s",
            ]
            if not died.stacks:
                lines.append("it wrote no stacks: its process did not react to signals")
        case KillReason.STOPPED:
            lines.append(f"{phase} its process was stopped (SIGSTOP?) and gave no sign of life")
        case _:
            lines.append(f"{phase} its process ended with {died.cause}")
    sections = [
        (title, text)
        for title, text in (
            ("Stacks of all threads", stacks),
            ("Captured stdout of the last moments", died.captured_output),
            ("Captured stderr of the last moments", died.captured_errors),
            ("Uncaptured output of the worker", printed),
        )
        if text
    ]
    return pytest.TestReport(
        nodeid=nodeid,
        location=location,
        keywords={nodeid: 1},
        outcome="failed",
        longrepr="\n".join(lines),
        when="call",
        sections=sections,
        duration=seconds,
        start=0.0,
        stop=0.0,
    )
