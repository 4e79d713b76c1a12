"""A worker's flight recorder: what it was doing, readable after the process was killed.

A message that ZeroMQ has accepted is lost when the process dies before it is sent. So a worker
also writes what it does into a memory-mapped file, which survives the process: the phase, the
subject (the item's key, or the file being collected), how many items it has finished, and which
step of the subject it is at. Two slots are written in turn and published by one aligned 8-byte
store, so a reader never sees half of a record, whatever moment the process died at.
"""

from __future__ import annotations

import enum
import hashlib
import mmap
import os
import struct
import weakref
from pathlib import Path

import msgspec

_SLOT = 64 * 1024
_HEADER = struct.Struct("<QQ")
_SEQUENCE = struct.Struct("<Q")
_RECORD = struct.Struct("<QBI")
_SIZE = _HEADER.size + 2 * _SLOT
#: Characters of a subject; a character has up to four bytes.
_LONGEST_SUBJECT = (_SLOT - _RECORD.size) // 4


class Phase(enum.IntEnum):
    """What a worker process is doing; only SETUP, CALL and TEARDOWN have an item to blame."""

    STARTING = 0
    RESTORING = 1
    IMPORTING = 2
    COLLECTING = 3
    IDLE = 4
    SETUP = 5
    CALL = 6
    TEARDOWN = 7
    ENDING = 8


#: Phases in which an item is being run.
RUNNING = frozenset({Phase.SETUP, Phase.CALL, Phase.TEARDOWN})


class Record(msgspec.Struct, frozen=True):
    """The last thing that a worker wrote. `finished` counts the items that it has completed.

    `step` counts the parts of the subject that were begun (the calls of a task), from 1 on; 0 for
    a subject without parts.
    """

    phase: Phase
    subject: str
    finished: int
    step: int = 0


class BlackBox:
    """The writing side, in the worker. Writing costs about a microsecond and no system call."""

    def __init__(self, path: Path) -> None:
        with path.open("w+b") as file:
            file.truncate(_SIZE)
            self._map = mmap.mmap(file.fileno(), _SIZE)
        self._sequence = 0
        self._finished = 0
        self._subject = ""
        #: Item 1 is the step: assigning it costs a few hundredths of a microsecond.
        self.steps = memoryview(self._map)[: _HEADER.size].cast("Q")
        self.write(Phase.STARTING, "")
        # The mapping is shared with a process that a test forks, but only its owner may write.
        mute = weakref.WeakMethod(self._mute)
        os.register_at_fork(after_in_child=lambda: (found := mute()) and found())

    def _mute(self) -> None:
        self._map = mmap.mmap(-1, _SIZE)
        self.steps = memoryview(self._map)[: _HEADER.size].cast("Q")

    def write(self, phase: Phase, subject: str) -> None:
        """Publish what the worker does now; a new subject is at step 0."""
        # The last step stays as long as the record of its subject: whoever reads both, after a
        # death between the two, is to find the step that was run.
        if subject and subject != self._subject:
            self.steps[1] = 0
        self._subject = subject
        text = abridged(subject).encode()
        sequence = self._sequence + 1
        start = _HEADER.size + (sequence % 2) * _SLOT
        _RECORD.pack_into(self._map, start, self._finished, phase, len(text))
        body = start + _RECORD.size
        self._map[body : body + len(text)] = text
        _SEQUENCE.pack_into(self._map, 0, sequence)
        self._sequence = sequence

    def phase(self, phase: Phase) -> None:
        """Publish another phase of the same subject."""
        self.write(phase, self._subject)

    def item_finished(self) -> None:
        """Count the running item as finished; the worker is idle until it says otherwise."""
        self._finished += 1
        self.write(Phase.IDLE, "")

    def close(self) -> None:
        """Unmap the file; what was written stays in it."""
        self.steps.release()
        self._map.close()


def abridged(subject: str) -> str:
    """Return what a black box holds of a subject: all of it, or its beginning and a digest."""
    text = subject if subject.isascii() else subject.encode("utf-8", "replace").decode()
    if len(text) <= _LONGEST_SUBJECT:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{text[: _LONGEST_SUBJECT - len(digest)]}{digest}"


def read(path: Path) -> Record:
    """Return the last record of a black box, also of a process that was killed.

    A file that is missing or too short means that the process never got so far: STARTING.
    """
    try:
        data = path.read_bytes()
    except OSError:
        data = b""
    if len(data) < _SIZE:
        return Record(Phase.STARTING, "", 0)
    sequence, step = _HEADER.unpack_from(data)
    start = _HEADER.size + (sequence % 2) * _SLOT
    finished, phase, length = _RECORD.unpack_from(data, start)
    body = start + _RECORD.size
    subject = data[body : body + length].decode("utf-8", "replace")
    return Record(Phase(phase), subject, finished, step if subject else 0)
