"""What the hub needs of a worker process, wherever it was started."""

from __future__ import annotations

from typing import Protocol


class WorkerProcess(Protocol):
    """A started worker process. None of these blocks, but `reap` after the process has ended."""

    @property
    def pid(self) -> int:
        """The process id."""

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when the process has ended."""

    def signal(self, number: int) -> None:
        """Send a signal to the worker alone; nothing happens if it has ended."""

    def kill(self) -> None:
        """Kill the worker and all that it has started."""

    def is_stopped(self) -> bool:
        """Return whether the process is stopped rather than busy; False where unknown."""

    def reap(self) -> int | None:
        """Collect the ended process; return its exit code, negative for a signal."""

    def close(self) -> None:
        """Release what is held for an ended process."""
