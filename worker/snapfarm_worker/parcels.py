"""Packs functions, arguments and results for another process, and unpacks them there.

A parcel is a list of frames: a pickle, then its large buffers, which travel without being copied
(pickle protocol 5). pickle comes first, because it is quick; dill only where pickle refuses, or
where it would name something in `__main__`, which the other process does not have. Unpacking runs
code: only parcels of an authenticated peer may be unpacked.

Where code is not to travel, `PlainCodec` packs plain data instead (see `plain`).
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from snapfarm_worker import plain
from snapfarm_worker.errors import ParcelError, PlainDataError

Frame: TypeAlias = "bytes | memoryview"
Parcel: TypeAlias = "list[bytes | memoryview]"

#: Buffers from this size on, in bytes, travel in a frame of their own.
_OUT_OF_BAND = 64 * 1024
_MAIN = b"__main__"


class Codec(Protocol):
    """How values become frames and back."""

    def pack(self, value: object) -> Parcel:
        """Return the frames of a value. Raises ParcelError, which says what can't travel."""

    def unpack(self, frames: Sequence[Frame]) -> object:
        """Return the value in some frames; raises whatever the code in them raises."""


class PickleCodec:
    """Any object that pickle or dill can ship."""

    def pack(self, value: object) -> Parcel:
        """Return the frames of a value. Raises ParcelError, which says what can't travel."""
        buffers: list[memoryview] = []
        try:
            data = pickle.dumps(value, protocol=5, buffer_callback=_keeping(buffers))
            if _MAIN not in data:
                return [data, *buffers]
        except Exception:  # whatever reducers raise; dill may know better
            buffers.clear()
        buffers.clear()
        try:
            return [_dill_dumps(value, _keeping(buffers)), *buffers]
        except Exception as error:
            culprit = blame(value, "", _ships)
            raise ParcelError(culprit or _told(error)) from error

    def unpack(self, frames: Sequence[Frame]) -> object:
        """Return the value in some frames; raises whatever the code in them raises."""
        return pickle.loads(frames[0], buffers=frames[1:])


class PlainCodec:
    """Plain data only: nothing in it can run code."""

    def pack(self, value: object) -> Parcel:
        """Return the frames of a value. Raises ParcelError, which says what can't travel."""
        try:
            return [plain.encode(value)]
        except PlainDataError as error:
            raise ParcelError(str(error)) from error

    def unpack(self, frames: Sequence[Frame]) -> object:
        """Return the value in some frames."""
        return plain.decode(frames[0])


def size_of(parcel: Sequence[Frame]) -> int:
    """Return the bytes of all frames."""
    return sum(memoryview(frame).nbytes for frame in parcel)


def _keeping(buffers: list[memoryview]) -> Callable[[pickle.PickleBuffer], bool]:
    """Return a callback that takes large contiguous buffers out of the pickle."""

    def keep(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:
            return True  # not contiguous: inside the pickle
        if raw.nbytes < _OUT_OF_BAND:
            return True
        buffers.append(raw)
        return False

    return keep


def _dill_dumps(value: object, keep: Callable[[pickle.PickleBuffer], bool]) -> bytes:
    import dill  # most parcels need none, and it takes a while

    file = io.BytesIO()
    # With `recurse`, a function takes along the globals that it names, not all of its module.
    pickler = dill.Pickler(file, protocol=5, recurse=True, buffer_callback=keep)
    pickler.dump(value)
    return file.getvalue()


# ---------------------------------------------------------------- who is to blame


def blame(value: object, path: str, ships: Callable[[object], bool], depth: int = 6) -> str | None:
    """Return where in a value the part is that can't travel, and what it is; None if all can."""
    if ships(value):
        return None
    if depth:
        for name, part in _parts(value):
            found = blame(part, f"{path}{name}" if path else name, ships, depth - 1)
            if found is not None:
                return found
    what = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    return f"{path.lstrip('.') or 'it'} is a {what}, which can't travel to another process"


def _ships(value: object) -> bool:
    try:
        pickle.dumps(value, protocol=5)
    except Exception:
        try:
            _dill_dumps(value, lambda buffer: True)
        except Exception:
            return False
    return True


def _parts(value: object) -> list[tuple[str, object]]:
    """Return the parts of a value by which it may be unable to travel."""
    if isinstance(value, dict):
        return [(f"[{key!r}]", part) for key, part in value.items()]
    if isinstance(value, list | tuple | set | frozenset):
        return [(f"[{index}]", part) for index, part in enumerate(value)]
    found: list[tuple[str, object]] = []
    code = getattr(value, "__code__", None)
    if code is not None:
        cells = getattr(value, "__closure__", None) or ()
        for name, cell in zip(code.co_freevars, cells, strict=False):
            try:
                found.append((f".{name} (of its closure)", cell.cell_contents))
            except ValueError:  # not bound yet
                continue
        scope = getattr(value, "__globals__", {})
        names = [name for name in code.co_names if name in scope]
        found += [(f".{name} (a global)", scope[name]) for name in names]
        found += [(".<defaults>", getattr(value, "__defaults__", None) or ())]
    for name in ("func", "args", "keywords", "__self__", "__func__"):
        if hasattr(value, name) and not isinstance(value, type):
            found.append((f".{name}", getattr(value, name)))
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict) and code is None and not isinstance(value, type):
        found += [(f".{name}", part) for name, part in attributes.items()]
    return found


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
