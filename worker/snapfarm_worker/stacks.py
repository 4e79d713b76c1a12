"""Who called: the few frames of a stack that belong to the project under test."""

from __future__ import annotations

import contextlib
import os
import sys
import sysconfig
import traceback
from types import CodeType, FrameType

#: `(file, line, function)` of one caller.
Frame = tuple[str, int, str]
#: Frames whose lines nobody has asked for yet: code, and the offset of the instruction in it.
Spot = tuple[tuple[CodeType, int], ...]

_MAX_FRAMES = 8
#: Of a statement, for each of which it is found out.
_MAX_OF_SPOT = 3
_MAX_DEPTH = 100

_OWN = os.path.dirname(__file__) + os.sep  # noqa: PTH120  # plain text, compared with co_filename
_FOREIGN = tuple(
    {
        _OWN,
        "<",
        *(
            path + os.sep
            for key, path in sysconfig.get_paths().items()
            if key in ("stdlib", "platstdlib", "purelib", "platlib")
        ),
    }
)
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
#: Who closes connections when it wants to: pools, and Django, which keeps those to databases in
#: memory as long as their thread lives, whatever is asked of it.
_KEEPERS = (
    f"{os.sep}sqlalchemy{os.sep}pool{os.sep}",
    f"{os.sep}django{os.sep}db{os.sep}backends{os.sep}",
)

_getframe = sys._getframe  # noqa: SLF001  # ten times as fast as inspect.stack()
#: What is known of a file: whether it is the project's, and whether it keeps connections.
_files: dict[str, tuple[bool, bool]] = {}


def callers() -> tuple[tuple[Frame, ...], bool]:
    """Return the innermost frames of the project's own code, and whether the rest has a keeper.

    Without any such frame, the innermost foreign ones are better than nothing.
    """
    frame = _getframe(1)
    ours: list[Frame] = []
    others: list[Frame] = []
    pooled = False
    for _ in range(_MAX_DEPTH):
        if frame.f_back is None:
            break
        frame = frame.f_back
        code = frame.f_code
        known = _files.get(code.co_filename)
        if known is None:
            known = _files[code.co_filename] = _classify(code.co_filename)
        if known[0]:
            ours.append((code.co_filename, frame.f_lineno, code.co_name))
            if len(ours) == _MAX_FRAMES:
                break
        else:
            pooled = pooled or known[1]
            if len(others) < _MAX_FRAMES and not code.co_filename.startswith(_OWN):
                others.append((code.co_filename, frame.f_lineno, code.co_name))
    return tuple(ours or others), pooled


def spot(skip: int = 0, unless: tuple[str, ...] = (), most: int = _MAX_OF_SPOT) -> Spot:
    """Return the innermost frames of the project's own code that follow one another, if any.

    None are returned if a file whose path has one of `unless` in it is further inside. Much cheaper
    than `callers()`, since it stops where the project's code was called from outside, and computes
    no line. `skip` frames above the caller are surely not the project's; `most` are returned.
    """
    try:
        frame: FrameType | None = _getframe(1 + skip)
    except ValueError:  # called from C, as by a thread without a `threading.Thread`
        return ()
    there: Spot = ()
    deepest = _MAX_DEPTH
    while frame is not None and deepest:
        code = frame.f_code
        known = _files.get(code.co_filename)
        if known is None:
            known = _files[code.co_filename] = _classify(code.co_filename)
        if known[0]:
            there = (*there, (code, frame.f_lasti))
            if len(there) == most:
                break
        elif there or (unless and any(part in code.co_filename for part in unless)):
            break
        frame = frame.f_back
        deepest -= 1
    return there


def frames_of(there: Spot) -> tuple[Frame, ...]:
    """Return the frames of a spot."""
    return tuple((code.co_filename, _line(code, at), code.co_name) for code, at in there)


def _line(code: CodeType, at: int) -> int:
    for start, end, line in code.co_lines():
        if start <= at < end and line is not None:
            return line
    return code.co_firstlineno


def place(*, unless: tuple[str, ...] = ()) -> tuple[Frame, ...]:
    """Return the frames of the caller's spot."""
    return frames_of(spot(1, unless, _MAX_FRAMES))


def shown(frame: Frame) -> str:
    """Return a frame as one line for people."""
    file, line, function = frame
    return f"{file}:{line} in {function}"


def forget_failed_frames() -> None:
    """Clear the frames that Python keeps of the last failure, with whatever their locals hold.

    pytest stores a failed test's exception in `sys.last_value` until the next test is called, so
    that the test's connections and cursors outlive it.
    """
    waiting: list[BaseException | None] = [getattr(sys, "last_value", None)]
    seen: set[int] = set()
    while waiting:
        error = waiting.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        for frame, _ in traceback.walk_tb(error.__traceback__):
            with contextlib.suppress(RuntimeError):  # still running
                frame.clear()
                # Before 3.13, a dict that somebody asked for keeps the locals until asked again.
                _ = frame.f_locals
        waiting += [error.__cause__, error.__context__]
        if isinstance(error, BaseExceptionGroup):
            waiting += error.exceptions


def _classify(file: str) -> tuple[bool, bool]:
    foreign = file.startswith(_FOREIGN) or any(part in file for part in _INSTALLED)
    return not foreign, any(part in file for part in _KEEPERS)
