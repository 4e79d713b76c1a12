"""One worker process as the hub knows it: what was heard of it, how it ends, what it leaves."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable
from pathlib import Path

import msgspec

from snapfarm.errors import LaunchError
from snapfarm.happenings import Died, KillReason, Overran
from snapfarm.launch.descriptors import require_descriptors
from snapfarm.launch.output import OutputPipe, borrow, captured_tail, text_of
from snapfarm.launch.worker import WorkerProcess
from snapfarm_worker import blackbox
from snapfarm_worker.blackbox import abridged
from snapfarm_worker.evidence import LastWords
from snapfarm_worker.jobs import EXIT_FAILED, STACKS_SIGNAL, WorkerSpec

#: Exit statuses of a worker that has sent a last message.
_SAID_GOODBYE = frozenset({0, EXIT_FAILED})

#: Sockets by which a worker connects to the hub. ZeroMQ aborts the process that has no descriptor
#: left to accept one.
_CONNECTIONS = 3
#: Files of a worker that the hub borrows, once it captures.
_CAPTURES = 2
#: Descriptors that must be left for everything else.
_SPARE = 16


def _started(
    spec: WorkerSpec, start: Callable[[WorkerSpec], WorkerProcess], promised: int
) -> tuple[OutputPipe, WorkerProcess]:
    """Start a process with its pipe, and note its id. Raises LaunchError, with nothing left."""
    files = spec.files
    output: OutputPipe | None = None
    process: WorkerProcess | None = None
    try:
        output = OutputPipe(files.output)
        require_descriptors(promised + _CONNECTIONS + _CAPTURES + _SPARE)
        process = start(spec)
        files.pid.write_text(str(process.pid))
    except BaseException as error:
        if process is not None:
            process.kill()
            process.reap()
            process.close()
        if output is not None:
            output.close()
        for path in (files.output, files.pid):
            with contextlib.suppress(OSError):
                path.unlink()
        if not isinstance(error, OSError):
            raise
        # No room for it: too many open files, a full disk.
        raise LaunchError(
            f"worker {spec.worker} could not be started: {type(error).__name__}: {error}"
        ) from error
    return output, process


def _words(file: Path) -> LastWords | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=LastWords)
    except (OSError, msgspec.MsgspecError):
        return None


class Sentence(msgspec.Struct):
    """Why a worker is to be killed once its deadline has passed.

    With `items`, which are the keys of running items with their steps, it is revoked when the last
    of them has ended; without, it is final.
    """

    reason: KillReason
    items: dict[str, int]


class Patience(enum.Enum):
    """How long the last messages of an ended process were waited for."""

    NONE = enum.auto()
    #: Long enough for what need not come.
    MOMENT = enum.auto()
    #: Long enough for anything.
    OVER = enum.auto()


class Peer:
    """A worker process, with its pipe and its files."""

    def __init__(
        self,
        spec: WorkerSpec,
        start: Callable[[WorkerSpec], WorkerProcess],
        *,
        promised: int = 0,
    ) -> None:
        """Start the process; `promised` descriptors are kept for others. Raises LaunchError."""
        self.name = spec.worker
        self.token = spec.token
        self._files = spec.files
        self._boxes = [spec.files.lane_box(lane) for lane in range(spec.lanes)]
        self.output, self.process = _started(spec, start, promised)
        self.greeted = False
        #: Whether a result of any kind has come, by the last of its connections.
        self.connected = False
        self.warned = False
        #: ItemFinished messages received, to compare with the black box.
        self.finished = 0
        #: Whether its last message has been received.
        self.goodbye = False
        #: Open descriptors of its captured output and errors.
        self._captured: tuple[int, ...] = ()
        #: Why it is to be killed, as long as it has time left.
        self.sentence: Sentence | None = None
        #: Why it was killed, and for which items.
        self.killed = KillReason.NONE
        self._condemned: dict[str, int] = {}
        #: Where in their file the stacks begin that it was asked for last.
        self._stacks_from = 0
        #: Whether its process was seen to have ended, and how it had.
        self.ended = False
        self._exit_code: int | None = None
        #: How long its last messages were waited for.
        self.waited = Patience.NONE

    def records(self) -> tuple[blackbox.Record, ...]:
        """Return what it does, or did last, in each lane."""
        return tuple(blackbox.read(box) for box in self._boxes)

    @property
    def promised(self) -> int:
        """How many more descriptors the hub will need for it."""
        if self._captured:
            return 0
        return _CAPTURES if self.connected else _CAPTURES + _CONNECTIONS

    def captures(self, *descriptors: int) -> None:
        """Open the files that it captures output and errors into, for the case that it dies."""
        self._captured = tuple(borrow(self.process.pid, fd) for fd in descriptors)

    def condemn(self, reason: KillReason, key: str, step: int) -> bool:
        """Pass a sentence, for an item if a key is given; return whether that changes anything."""
        if self.killed or (self.sentence is not None and not self.sentence.items):
            return False
        if self.sentence is not None and key:
            self.sentence.items[key] = step
        else:
            self.sentence = Sentence(reason, {key: step} if key else {})
        return True

    def ask_for_stacks(self) -> bool:
        """Let it write the stacks of its threads; return whether it can."""
        if self.process.is_stopped():
            return False
        with contextlib.suppress(OSError):
            self._stacks_from = self._files.stacks.stat().st_size
        self.process.signal(STACKS_SIGNAL)
        return True

    def spare(self, key: str) -> Overran | None:
        """An item has ended: nobody is killed for it. Return that it was late, if it was."""
        if self.killed:
            late = self._condemned.get(key)
        elif self.sentence is None:
            return None
        else:
            late = self.sentence.items.pop(key, None)
            if late is not None and not self.sentence.items:
                self.sentence = None
        return None if late is None else Overran(self.name, key, late, self._stacks())

    def spare_ended(self) -> list[Overran]:
        """Spare what has ended by now, as the black boxes tell: its message is on its way."""
        running = {(r.subject, r.step) for r in self.records() if r.phase in blackbox.RUNNING}
        items = {} if self.sentence is None else self.sentence.items
        ended = [key for key, at in items.items() if (abridged(key), at) not in running]
        return [late for key in ended if (late := self.spare(key)) is not None]

    def execute(self) -> None:
        """Kill it as it was sentenced to, or once more."""
        self._execute()
        self.process.kill()

    def _execute(self) -> None:
        if self.sentence is not None:
            self.killed, self._condemned = self.sentence.reason, self.sentence.items
            self.sentence = None

    def _stacks(self) -> str:
        return text_of(self._files.stacks, self._stacks_from)

    def reap(self) -> None:
        """Its process was seen to have ended."""
        self.ended = True
        self._exit_code = self.process.reap()

    def settled(self, *, waiting: bool) -> bool:
        """Return whether a dead worker's results have arrived, or won't any more.

        `waiting` says that there are messages nobody has received yet.
        """
        if self.waited is Patience.OVER:
            return True
        if waiting:
            return False
        records = self.records()
        if self.finished < sum(record.finished for record in records):
            return False
        running = any(record.phase in blackbox.RUNNING for record in records)
        if self._exit_code in _SAID_GOODBYE and not running:
            return self.goodbye
        # All that counts is here. Other last words can't be counted: allow them a moment.
        return self.waited is Patience.MOMENT

    def last_lines(self) -> tuple[str, ...]:
        """Return what it printed last, once its process has ended."""
        return self.output.read() + self.output.rest()

    def bury(self) -> Died:
        """Release all that is held for an ended process, remove its files; return its death."""
        if not self.ended:
            self.reap()
        # It may have died of being asked for its stacks.
        self._execute()
        record, *others = self.records()
        captured = [captured_tail(descriptor) for descriptor in self._captured] or ["", ""]
        died = Died(
            worker=self.name,
            record=record,
            others=tuple(others),
            exit_code=self._exit_code,
            killed=self.killed,
            condemned=tuple(self._condemned),
            captured_output=captured[0],
            captured_errors=captured[1],
            printed=self.output.tail(),
            stacks=self._stacks(),
            words=_words(self._files.words),
            missing=max(0, sum(each.finished for each in (record, *others)) - self.finished),
        )
        self.output.close()
        self.process.close()
        files = self._files
        for path in (*self._boxes, files.output, files.stacks, files.words, files.pid):
            path.unlink(missing_ok=True)
        return died
