"""What a hub tells of its workers: messages, output, silence, oddities, deaths."""

from __future__ import annotations

import contextlib
import enum
import signal
from collections.abc import Sequence
from typing import TypeAlias

import msgspec
import zmq

from snapfarm_worker import blackbox
from snapfarm_worker.evidence import LastWords
from snapfarm_worker.wire import FromWorker


class KillReason(enum.StrEnum):
    """Why the coordinator killed a worker; empty where it did not."""

    NONE = ""
    TIMEOUT = "timeout"
    STOPPED = "stopped"
    START = "start"
    ENDING = "ending"


class Arrived(msgspec.Struct, frozen=True):
    """A message came from a worker, with the frames that followed it."""

    worker: str
    message: FromWorker
    payload: Sequence[zmq.Frame] = ()


class Printed(msgspec.Struct, frozen=True):
    """A worker wrote complete lines to its output or errors, outside pytest's capture."""

    worker: str
    lines: tuple[str, ...]


class Silent(msgspec.Struct, frozen=True):
    """A worker whose process lives has sent no pulse for `seconds`."""

    worker: str
    seconds: float


class Oddity(msgspec.Struct, frozen=True):
    """A frame that nobody expected; it was answered and counted."""

    worker: str
    what: str


class Overran(msgspec.Struct, frozen=True):
    """An item, or one step of it, ended after it was condemned for its time, and is spared.

    `stacks` were its worker's when its time was over. The worker goes on.
    """

    worker: str
    key: str
    step: int
    stacks: str


class Died(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's process has ended, and all that it had sent has arrived.

    `record` is what it did last, `others` what it did in lanes beside that one. `exit_code` is
    negative for a signal, None where unknown. `missing` counts items that it finished and whose
    results were lost.
    """

    worker: str
    record: blackbox.Record
    others: tuple[blackbox.Record, ...] = ()
    exit_code: int | None
    killed: KillReason
    #: The items for which it was killed; empty where that was not for items.
    condemned: tuple[str, ...] = ()
    #: Captured output of the item that was running, and what went past the capture.
    captured_output: str
    captured_errors: str
    printed: str
    stacks: str
    missing: int
    #: What its test had executed, up to a second before; None of a test that ran for less.
    words: LastWords | None = None

    @property
    def records(self) -> tuple[blackbox.Record, ...]:
        """What it did last, in every lane."""
        return (self.record, *self.others)

    @property
    def cause(self) -> str:
        """Return how the process ended, as "signal SIGKILL" or "exit status 3"."""
        if self.exit_code is None:
            return "unknown exit status"
        if self.exit_code < 0:
            with contextlib.suppress(ValueError):
                return f"signal {signal.Signals(-self.exit_code).name}"
            return f"signal {-self.exit_code}"
        return f"exit status {self.exit_code}"


HubEvent: TypeAlias = Arrived | Printed | Silent | Oddity | Overran | Died
