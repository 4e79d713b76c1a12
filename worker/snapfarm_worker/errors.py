"""The errors of the worker side.

    WorkerError                     everything below; catch it to handle any of them
    ├── SnapshotError               an image that can't be used; rebuild or fetch it again
    │   ├── SnapshotCorrupt         the bytes differ from their manifest
    │   └── SnapshotTooLarge        SQLite can't serialize or hold an image of this size
    ├── RingError                   a ring that can't be made, reached or reset
    │   ├── StateNotKept        a persistent ring could not store its state; it still holds it
    │   └── RingUnsupported         this SQLite build can't provide the ring kind asked for
    ├── ProtocolError               a frame that breaks the protocol; a bug or a foreign peer
    ├── PlainDataError              a value that can't travel, with the path to it
    ├── ParcelError                 a function, argument or result that can't be shipped
    └── TaskError                   stands for a task's exception that can't be shipped

    RemoteTraceback                 never raised: the cause of a task's exception, shows its trace

Messages are lowercase and read well after "failed to …: ".
"""

from __future__ import annotations


class WorkerError(Exception):
    """Base of every error that the worker side raises on purpose."""


class SnapshotError(WorkerError):
    """A database image can't be used: rebuild it, or fetch it again."""


class SnapshotCorrupt(SnapshotError):
    """The bytes of an image differ from its manifest, so nothing may be restored from them."""

    def __init__(self, database: str, expected: str, actual: str, where: str) -> None:
        self.database = database
        self.expected = expected
        self.actual = actual
        self.where = where
        super().__init__(
            f"database {database!r}: the snapshot {where} is damaged: its digest is "
            f"{actual[:12]}, its manifest says {expected[:12]}"
        )


class SnapshotTooLarge(SnapshotError):
    """The image is over a size that SQLite can serialize or hold in memory."""

    def __init__(self, database: str, size: int, limit: int, what: str) -> None:
        self.database = database
        self.size = size
        self.limit = limit
        super().__init__(
            f"database {database!r} has {size} bytes, more than the {limit} bytes that {what}"
        )


class RingError(WorkerError):
    """A ring can't be made, reached or reset."""


class StateNotKept(RingError):
    """A persistent ring could not store its state, so it stays open, with all that was committed.

    Mend the cause, which is the exception's `__cause__`, then call `persist()` of the ring.
    """

    def __init__(self, database: str, cause: Exception) -> None:
        self.database = database
        super().__init__(
            f"database {database!r}: its state was not kept, and stays in the open ring: {cause}. "
            "When that is mended, call persist(); or close(discard=True) to give the state up"
        )


class RingUnsupported(RingError):
    """This SQLite build can't provide the ring kind that was asked for: choose another kind."""


class ProtocolError(WorkerError):
    """A frame breaks the protocol: a bug on one of the two sides, or a foreign peer."""


class PlainDataError(WorkerError):
    """A value can't travel between processes; the message holds the path to it."""


class ParcelError(WorkerError):
    """Something can't be shipped to another process; the message names the part at fault."""


class TaskError(WorkerError):
    """A task raised an exception that can't travel; `type` is its full name, `message` its text."""

    def __init__(self, type: str, message: str) -> None:  # noqa: A002  # the field's own name
        self.type = type
        self.message = message
        super().__init__(f"{type}: {message}")

    def __reduce__(self) -> tuple[type[TaskError], tuple[str, str]]:
        return TaskError, (self.type, self.message)


class RemoteTraceback(Exception):
    """The cause of an exception that a task raised in another process: its traceback there."""

    def __init__(self, traceback: str) -> None:
        self.traceback = traceback
        super().__init__(traceback)

    def __str__(self) -> str:
        return f"\n{self.traceback}"
