"""Who called: the few frames of a stack that belong to the project under test."""

from __future__ import annotations

import contextlib
import os
import sys
import sysconfig
import traceback
from types import FrameType

#: `(file, line, function)` of one caller.
Frame = tuple[str, int, str]

_MAX_FRAMES = 8
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

#: What is known of a file: whether it is the project's, and whether it keeps connections.
_files: dict[str, tuple[bool, bool]] = {}


def callers() -> tuple[tuple[Frame, ...], bool]:
    """Return the innermost frames of the project's own code, and whether the rest has a keeper.

    Without any such frame, the innermost foreign ones are better than nothing.
    """
    frame = sys._getframe(1)  # noqa: SLF001  # ten times as fast as inspect.stack()
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


def place(*, unless: tuple[str, ...] = ()) -> tuple[Frame, ...]:
    """Return the innermost frames of the project's own code that follow one another, if any.

    None are returned if a file whose path has one of `unless` in it is further inside. Much cheaper
    than `callers()`, since it stops where the project's code was called from outside.
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # as above
    ours: list[Frame] = []
    for _ in range(_MAX_DEPTH):
        if frame is None or len(ours) == _MAX_FRAMES:
            break
        code = frame.f_code
        known = _files.get(code.co_filename)
        if known is None:
            known = _files[code.co_filename] = _classify(code.co_filename)
        if known[0]:
            ours.append((code.co_filename, frame.f_lineno, code.co_name))
        elif ours or (unless and any(part in code.co_filename for part in unless)):
            break
        frame = frame.f_back
    return tuple(ours)


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
