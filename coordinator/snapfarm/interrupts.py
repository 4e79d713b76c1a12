"""Ctrl-C, held back until nothing is in the middle of being handled."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

#: So many may wait to be asked for; one more is not held back, because nobody seems to ask.
_MOST_PENDING = 2


class Interrupts:
    """While this context is open, SIGINT waits until it is asked for.

    Python raises KeyboardInterrupt between any two instructions of the main thread: whatever had
    been received and not handled yet would be lost. A handler of somebody else's is left alone,
    and so is SIGINT where it is ignored; in other threads than the main one nothing is raised
    anyway. What nobody asked for is raised when the context closes.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` is called in the signal handler, to end whatever the main thread waits in."""
        self._wake = wake
        self._pending = 0
        self._installed = False

    def __enter__(self) -> Interrupts:
        """Begin to hold SIGINT back."""
        if (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):
            self._installed = True
            signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._pending >= _MOST_PENDING:
            signal.default_int_handler(number, frame)
        self._pending += 1
        self._wake()

    def taken(self) -> bool:
        """Return whether one has come that was not asked for before."""
        if not self._pending:
            return False
        self._pending -= 1
        return True

    def check(self) -> None:
        """Raise KeyboardInterrupt if one has come."""
        if self.taken():
            raise KeyboardInterrupt

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Let SIGINT through as before."""
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if error is None:
            self.check()
