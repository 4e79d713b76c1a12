"""Packs functions, arguments and results for another process, and unpacks them there.

A parcel is a list of frames: a pickle, then its large buffers, which travel without being copied
(pickle protocol 5). Unpacking runs code: only parcels of an authenticated peer may be unpacked.
Where code is not to travel, `PlainCodec` packs plain data instead (see `plain`).
"""

from __future__ import annotations

import io
import pickle
import sys
import weakref
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Protocol, TypeAlias

from snapfarm_worker import plain
from snapfarm_worker.errors import ParcelError, PlainDataError

Frame: TypeAlias = "bytes | memoryview"
Parcel: TypeAlias = "list[bytes | memoryview]"

#: How pickle makes an object again: a function and its arguments.
Reduction: TypeAlias = tuple[Callable[..., object], tuple[object, ...]]

#: Buffers from this size on, in bytes, travel in a frame of their own.
_OUT_OF_BAND = 64 * 1024


class Codec(Protocol):
    """How values become frames and back."""

    def pack(self, value: object) -> Parcel:
        """Return the frames of a value. Raises ParcelError, which says what can't travel."""

    def unpack(self, frames: Sequence[Frame]) -> object:
        """Return the value in some frames; raises whatever the code in them raises."""


class PickleCodec:
    """A worker's codec: any object that pickle or dill can ship back home.

    What a task's class or function is called at home, the worker may not be able to import: those
    of `__main__`, for one. They came as data, and go back by name, to be the same object there.
    """

    def pack(self, value: object) -> Parcel:
        """Return the frames of a value. Raises ParcelError, which says what can't travel."""
        buffers: list[memoryview] = []
        try:
            data = pickle.dumps(value, protocol=5, buffer_callback=keeping(buffers))
            return [data, *buffers]
        except BaseException:  # whatever reducers raise; the others may know better
            pass
        for pickler in (_HomePickler, _dill_pickler):
            buffers.clear()
            file = io.BytesIO()
            try:
                pickler(file, keeping(buffers)).dump(value)
            except BaseException as error:
                failed = error
            else:
                return [file.getvalue(), *buffers]
        raise ParcelError(f"{type(failed).__name__}: {failed}") from failed

    def unpack(self, frames: Sequence[Frame]) -> object:
        """Return the value in some frames; raises whatever the code in them raises."""
        return pickle.loads(frames[0], buffers=frames[1:])


#: Classes that came as data, by the token of the process that they came from.
_classes: weakref.WeakValueDictionary[str, type] = weakref.WeakValueDictionary()


def one_class(token: str, make: Callable[..., type], *args: object) -> type:
    """Return the class that is known by a token; make it if it has not come before.

    So an argument's class is the one that the function knows, though each came by itself.
    """
    known = _classes.get(token)
    return _classes.setdefault(token, make(*args)) if known is None else known


#: Classes and functions that came as data, by module and qualified name.
_from_home: dict[tuple[str, str], object] = {}


class _HomePickler(pickle.Pickler):
    """Sends what this process can't import by the name that it has in the coordinator."""

    def __init__(self, file: io.BytesIO, keep: Callable[[pickle.PickleBuffer], bool]) -> None:
        super().__init__(file, protocol=5, buffer_callback=keep)

    def reducer_override(self, value: object) -> Reduction:
        """Return how a class or function is found at home; NotImplemented for all else."""
        if not isinstance(value, type | FunctionType):
            return NotImplemented  # type: ignore[no-any-return]  # pickle's word for "not me"
        module, name = value.__module__, value.__qualname__
        if _found(module, name) is value or "<" in name:
            return NotImplemented  # type: ignore[no-any-return]  # pickle's word for "not me"
        _from_home[module, name] = value
        return at_home, (module, name)


def at_home(module: str, name: str) -> object:
    """Return a class or function by its name in this process. Raises AttributeError."""
    known = _from_home.get((module, name))
    if known is None:
        known = _found(module, name)
    if known is None:
        raise AttributeError(f"this process has no {name!r} in its module {module!r}")
    return known


def _found(module: str, name: str) -> object:
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _dill_pickler(file: io.BytesIO, keep: Callable[[pickle.PickleBuffer], bool]) -> pickle.Pickler:
    import dill  # most results need none, and it takes a while

    pickler: pickle.Pickler = dill.Pickler(file, protocol=5, recurse=True, buffer_callback=keep)
    return pickler


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


def keeping(buffers: list[memoryview]) -> Callable[[pickle.PickleBuffer], bool]:
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
