"""A call that failed, as reports have it."""

from __future__ import annotations

from typing import cast

from snapfarm.errors import TaskTimeout, WorkerCrashed
from snapfarm.report.model import Attempt, Failure, ItemLine
from snapfarm_worker.errors import RemoteTraceback
from snapfarm_worker.trim import trimmed

#: Characters that are kept at either end of a traceback, and of a message.
_TEXT = 5_000
_MESSAGE = 500


def failed_call(name: str, error: BaseException, worker: str, seconds: float) -> ItemLine:
    """Return the report's item for a call that raised, or killed its worker."""
    crashed = isinstance(error, WorkerCrashed | TaskTimeout)
    message = _message(error)
    cause = error.__cause__
    text = cause.traceback if isinstance(cause, RemoteTraceback) else message
    failure = Failure(
        phase="crash" if crashed else "call",
        kind=type(error).__name__,
        message=message.strip().split("\n", 1)[0][:_MESSAGE],
        text=cast("str", trimmed(text, _TEXT)),
    )
    return ItemLine(
        nodeid=name,
        outcome="failed",
        worker=worker,
        seconds=seconds,
        crashed=crashed,
        attempts=(
            Attempt(
                outcome="crashed" if crashed else "failed",
                worker=worker,
                seconds=seconds,
                failures=(failure,),
            ),
        ),
    )


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as raised:  # code of the user's
        return f"<str() of it raised {type(raised).__qualname__}>"
