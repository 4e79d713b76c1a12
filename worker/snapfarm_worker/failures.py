"""An exception's way to another process: as itself where that can be, as text in any case.

Unpickling an exception calls its `__init__` with `args`, which many classes do not expect. So an
exception is only sent as itself if it comes out equal here: by pickle's own way, else rebuilt
without `__init__`. What does neither arrives as `TaskError`, with the same text.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence

from snapfarm_worker.errors import ParcelError, RemoteTraceback, TaskError
from snapfarm_worker.parcels import Codec, Frame, Parcel
from snapfarm_worker.wire import CallFailure


def pack_failure(index: int, error: BaseException, codec: Codec) -> tuple[CallFailure, Parcel]:
    """Return what to send of an exception that a call raised, with the frames that hold it."""
    parcel = _pack_error(error, codec)
    kind = type(error)
    # The first frame is the worker's own.
    trace = error.__traceback__.tb_next if error.__traceback__ else None
    try:
        text = "".join(traceback.format_exception(kind, error, trace))
    except BaseException:  # code of the user's makes parts of it
        text = f"{kind.__qualname__} (its traceback can't be shown)\n"
    failure = CallFailure(
        index=index,
        type=f"{kind.__module__}.{kind.__qualname__}",
        message=_message(error),
        traceback=text,
        frames=len(parcel),
    )
    return failure, parcel


def unpack_failure(failure: CallFailure, frames: Sequence[Frame], codec: Codec) -> BaseException:
    """Return the exception to raise, whose cause shows where it was raised."""
    error: BaseException | None = None
    if frames:
        try:
            error = _unpack_error(codec.unpack(frames))
        except BaseException:  # its class is not to be found here, say
            error = None
    if error is None:
        error = TaskError(failure.type, failure.message)
    error.__cause__ = RemoteTraceback(failure.traceback)
    return error


def _pack_error(error: BaseException, codec: Codec) -> Parcel:
    for content in (error, (type(error), error.args, dict(vars(error)))):
        try:
            parcel = codec.pack(content)
            copy = _unpack_error(codec.unpack([memoryview(frame) for frame in parcel]))
        except BaseException:  # all of it is code of the user's
            continue
        if type(copy) is type(error) and _message(copy) == _message(error):
            return parcel
    return []


def _unpack_error(content: object) -> BaseException:
    if isinstance(content, BaseException):
        return content
    if not isinstance(content, tuple):
        raise ParcelError(f"an exception was expected, not {content!r}")
    kind, args, attributes = content
    error: BaseException = kind.__new__(kind, *args)
    error.args = args
    vars(error).update(attributes)
    return error


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as raised:
        return f"<str() of it raised {type(raised).__qualname__}>"
