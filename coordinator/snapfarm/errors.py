"""The errors of the coordinator side, and the exit codes of the `farm` command.

    FarmError                       everything below
    ├── UserError                   the user can mend it: printed without a traceback
    │   ├── ConfigError             a file's key, a variable, flag or parameter; names it
    │   ├── GoldenError             a golden database that can't be built or read
    │   │   ├── GoldenBuildError    a builder failed; names script, line and statement, or callable
    │   │   ├── GoldenCheckError    built, but integrity_check or foreign_key_check complains
    │   │   └── GoldenTimeout       the builder did not end in its time
    │   ├── ReportError             a report or a database to compare can't be found or read
    │   ├── StoreFull               the store's quota is too small for one more snapshot
    │   ├── LaunchError             no worker could be started, or all of them died at the start
    │   └── PoolError               a worker pool can't do what it was asked for
    │       ├── TaskUnshippable     a task can't travel to a worker (raised by `submit`)
    │       ├── ResultUnshippable   a task's result can't travel back, or is too large
    │       ├── WorkerCrashed       the worker that ran the task died
    │       ├── TaskTimeout         the task passed the pool's `task_timeout`
    │       └── PoolBroken          no worker is left, and none can be started
    ├── SnapshotUnknown             the store has no snapshot of the digest that was asked for
    └── InternalError               a bug of ours: please report it with the text
        └── DispatchError           the dispatcher was told what can't be; carries the story

`pytest`'s own exit codes 0-5 keep their meaning in `farm run`. A UserError ends the command with
`EXIT_USAGE`, an InternalError with `EXIT_INTERNAL`.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import BrokenExecutor

EXIT_OK = 0
EXIT_TESTS_FAILED = 1
EXIT_INTERRUPTED = 2
EXIT_INTERNAL = 3
EXIT_USAGE = 4
EXIT_NO_TESTS = 5


class FarmError(Exception):
    """Base of every error that the coordinator raises on purpose."""

    def __reduce__(self) -> tuple[Callable[..., FarmError], tuple[object, ...]]:
        """Let pickle make it again with its fields, not by calling `__init__` with its text."""
        return _made_again, (type(self), self.args, vars(self))


def _made_again(
    kind: type[FarmError], args: tuple[object, ...], fields: dict[str, object]
) -> FarmError:
    error = kind.__new__(kind, *args)
    error.args = args
    vars(error).update(fields)
    return error


class UserError(FarmError):
    """Something that the user can mend; the message says where it is and what to do."""


class ConfigError(UserError):
    """A configuration can't be used: the message names where the value is, and the key."""


class GoldenError(UserError):
    """A golden database can't be built or read."""


class GoldenBuildError(GoldenError):
    """A builder failed; the message names script, line and statement, or the callable."""


class GoldenCheckError(GoldenError):
    """The golden database was built, but SQLite's own checks complain about it."""


class GoldenTimeout(GoldenError):
    """The builder did not end in its time: raise `timeout`, or mend the builder."""


class ReportError(UserError):
    """A report, or a database that is to be compared, can't be found or read."""


class StoreFull(UserError):
    """The snapshot store has no room for one more snapshot: raise its quota, or remove layers."""

    def __init__(self, database: str, needed: int, free: int, quota: int) -> None:
        self.database = database
        self.needed = needed
        self.free = free
        self.quota = quota
        super().__init__(
            f"the snapshot store has no room for database {database!r}: it needs {needed} bytes, "
            f"{free} of {quota} are free; keep fewer layers, or make the golden databases smaller"
        )


class SnapshotUnknown(FarmError):
    """The store has no snapshot of that digest: it was removed, or never put there."""

    def __init__(self, digest: str, database: str | None = None) -> None:
        self.digest = digest
        self.database = database
        of = f" of database {database!r}" if database is not None else ""
        super().__init__(f"the store has no snapshot{of} with digest {digest[:12]}")


class LaunchError(UserError):
    """No worker could be started, or every worker died before it was ready."""


class PoolError(UserError):
    """A worker pool can't do what it was asked for."""


class TaskUnshippable(PoolError):
    """A task can't travel to a worker: the message names the part at fault."""


class ResultUnshippable(PoolError):
    """A task returned, but its result can't travel back, or is larger than the pool allows."""


class WorkerCrashed(PoolError):
    """The worker process that ran a task died.

    `cause` is how ("signal SIGKILL", "exit status 3"); `exit_code` is negative for a signal.
    `output` are the last lines that the worker wrote, `stacks` those of its threads if it could
    write them. `attempts` counts how often the task was begun. `retryable` says whether the death
    may have had another cause: other tasks ran beside it, or the process was killed from outside.
    """

    def __init__(
        self,
        task: str,
        worker: str,
        cause: str,
        *,
        exit_code: int | None = None,
        output: str = "",
        stacks: str = "",
        attempts: int = 1,
        retryable: bool = False,
    ) -> None:
        self.task = task
        self.worker = worker
        self.cause = cause
        self.exit_code = exit_code
        self.output = output
        self.stacks = stacks
        self.attempts = attempts
        self.retryable = retryable
        text = f"{task}: its worker {worker!r} died ({cause})"
        if attempts > 1:
            text += f", as those of {attempts - 1} earlier attempts did"
        elif retryable:
            text += "; perhaps not because of this task: retries= runs such tasks again"
        super().__init__(
            "\n".join([text, *([output.rstrip()] if output else ()), *_indented(stacks)])
        )


class TaskTimeout(PoolError, TimeoutError):
    """A task passed the pool's `task_timeout`; its worker was killed and replaced.

    `seconds` is the limit, `stacks` are those of the worker's threads.
    """

    def __init__(self, task: str, worker: str, seconds: float, stacks: str = "") -> None:
        self.task = task
        self.worker = worker
        self.seconds = seconds
        self.stacks = stacks
        text = f"{task} passed the time limit of {seconds:g} s; its worker {worker!r} was killed"
        super().__init__("\n".join([text, *_indented(stacks)]))


class PoolBroken(PoolError, BrokenExecutor):
    """No worker of a pool is left, and none can be started; the message has their last words."""


class InternalError(FarmError):
    """A bug of ours: please report it with the text."""


class DispatchError(InternalError):
    """The dispatcher was told something that can't be: end the run, its books are wrong.

    `what` is the fault, `story` the last events with their causes, oldest first.
    """

    def __init__(self, what: str, story: tuple[str, ...] = ()) -> None:
        self.what = what
        self.story = story
        super().__init__("\n".join((what, "the last events were:", *story) if story else (what,)))


def _indented(stacks: str) -> list[str]:
    return (
        ["stacks of its threads:", *(f"  {line}" for line in stacks.splitlines())] if stacks else []
    )
