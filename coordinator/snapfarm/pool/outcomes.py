"""From what arrives of a batch to the outcomes of its calls. Pure: messages in, outcomes out."""

from __future__ import annotations

from collections.abc import Sequence

from snapfarm.errors import ResultUnshippable, TaskTimeout, WorkerCrashed
from snapfarm.happenings import Died, KillReason, Overran
from snapfarm.pool.work import Batch, Raised
from snapfarm_worker import wire
from snapfarm_worker.failures import unpack_failure
from snapfarm_worker.parcels import Codec

#: Signals that come from outside, as a rule: the system, an operator.
_FROM_OUTSIDE = frozenset({-9, -15})
#: Characters of a dead worker's output that an error shows.
_LAST_OUTPUT = 4000


def outcomes_of(
    batch: Batch,
    message: wire.TaskFinished,
    views: Sequence[memoryview],
    codec: Codec,
    late: Sequence[Overran],
    limit: float,
) -> tuple[list[object], int]:
    """Return a value or `Raised` for each call of a batch, and how many of them failed.

    `views` are the frames of the payload. A call in `late` returned when its `limit` was over.
    """
    chunk = batch.chunk
    at = message.frames
    unusable = False
    try:
        values = codec.unpack(views[:at])
        if not isinstance(values, list) or len(values) != len(batch):
            raise TypeError(f"{len(batch)} results were expected")
        outcomes: list[object] = values
    except BaseException as error:  # code of the user's makes the values
        unusable = True
        raised: BaseException = ResultUnshippable(
            f"{chunk.name(batch.index(0))}: its result can't be unpacked here: "
            f"{type(error).__name__}: {error}"
        )
        outcomes = [Raised(raised)] * len(batch)
    if not (unusable or message.failures or late):
        return outcomes, 0
    for failure in message.failures:
        frames = views[at : at + failure.frames]
        at += failure.frames
        if failure.unshipped:
            name = chunk.name(batch.index(failure.index))
            raised = ResultUnshippable(
                f"{name} returned, but its result can't travel back: {failure.message}"
            )
        else:
            raised = unpack_failure(failure, frames, codec)
        outcomes[failure.index] = Raised(raised)
    for each in late:
        if each.step:  # at step 0 it was still unpacking, which is no call's own fault
            name = chunk.name(batch.index(each.step - 1))
            outcomes[each.step - 1] = Raised(TaskTimeout(name, each.worker, limit, each.stacks))
    return outcomes, sum(isinstance(outcome, Raised) for outcome in outcomes)


def crash_of(batch: Batch, index: int, died: Died, limit: float) -> BaseException:
    """Return what a call raises that ran when its worker died, or that was killed for its time."""
    name = batch.chunk.name(index)
    if batch.key in died.condemned:
        return TaskTimeout(name, died.worker, limit, died.stacks)
    beside = sum(record.subject != "" for record in died.records) > 1
    cause = died.cause
    if died.killed is KillReason.TIMEOUT:
        cause = "killed because another of its tasks passed the time limit"
    elif died.killed is KillReason.STOPPED:
        cause = "it was stopped (SIGSTOP?) and gave no sign of life"
    return WorkerCrashed(
        name,
        died.worker,
        cause,
        exit_code=died.exit_code,
        output=died.printed[-_LAST_OUTPUT:],
        stacks=died.stacks,
        attempts=batch.attempts + 1,
        retryable=beside or died.exit_code in _FROM_OUTSIDE,
    )
