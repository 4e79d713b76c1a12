"""The pool's side of shipping: functions and arguments out, results and exceptions in.

pickle comes first, because it is quick. dill ships what a worker can't import by name: what stands
in `__main__` or in a notebook, lambdas, closures, modules that only this process has.
"""

from __future__ import annotations

import functools
import io
import itertools
import os
import pickle
import sys
import threading
from collections.abc import Callable, Sequence
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType

from snapfarm.golden.callables import is_importable, kind_of
from snapfarm.pool.work import Shipped, pack_function
from snapfarm.shipping import Unshippable, ship
from snapfarm_worker.errors import ParcelError
from snapfarm_worker.parcels import Frame, Parcel, Reduction, keeping

#: How deep in a value the part at fault is looked for.
_DEEPEST = 6


#: So many functions are kept packed.
_KEPT = 64
#: Values of these types never change, and are the same where they are equal.
_ATOMS = frozenset({type(None), bool, int, str, bytes})


class TaskCodec:
    """Packs for workers that look for modules where this process does."""

    def __init__(self) -> None:
        here = os.getcwd()  # noqa: PTH109  # what an empty entry of sys.path means
        self._search = tuple(os.path.join(here, entry) for entry in sys.path)  # noqa: PTH118  # for each call: text is quicker
        self._importable = functools.cache(lambda name: is_importable(name, self._search))

    def goes_by_name(self, value: FunctionType | type) -> bool:
        """Return whether a worker imports this class or function."""
        module = value.__module__
        found: object = sys.modules.get(module)
        for name in value.__qualname__.split("."):
            found = getattr(found, name, None)
        return found is value and self._importable(module)

    def pack(self, value: object) -> Parcel:
        """Return the frames of a value. Raises ParcelError, which says what can't travel."""
        buffers: list[memoryview] = []
        file = io.BytesIO()
        try:
            _NamePickler(file, keeping(buffers), self._importable).dump(value)
            return [file.getvalue(), *buffers]
        except Exception:  # whatever reducers raise; dill may know better
            buffers.clear()
        try:
            return [ship(value, self._search, keeping(buffers)), *buffers]
        except Unshippable as error:
            culprit = None if callable(value) else self._blame(value, "", _DEEPEST)
            raise ParcelError(culprit or str(error)) from error

    def unpack(self, frames: Sequence[Frame]) -> object:
        """Return the value in some frames; raises whatever the code in them raises."""
        return pickle.loads(frames[0], buffers=frames[1:])

    def _blame(self, value: object, path: str, depth: int) -> str | None:
        """Return which part of a value can't travel, and what it is; None if all can."""
        try:
            ship(value, self._search)
        except Unshippable as error:
            for name, part in _parts(value) if depth else ():
                if (found := self._blame(part, path + name, depth - 1)) is not None:
                    return found
            return f"{path.lstrip('.')}{' is ' if path else ''}a {kind_of(value)}: {error}"
        return None


class FunctionPacker:
    """Packs functions, and knows one again that has not changed since.

    What dill has to ship takes a millisecond, and its worker some time to unpack. A function is the
    same as before if all that it refers to is the same and can't change, or goes by its name.
    """

    def __init__(self, codec: TaskCodec) -> None:
        self._codec = codec
        self._numbers = itertools.count(1)
        #: By key: the function on its way, and the objects whose ids are in the key.
        self._known: dict[tuple[object, ...], tuple[Shipped, list[object]]] = {}
        self._lock = threading.Lock()

    def pack(self, function: object) -> Shipped:
        """Return a function on its way. Raises TaskUnshippable, which names the part at fault."""
        kept: list[object] = []
        key = self._key(function, kept, ())
        if key is not None and (known := self._known.get(key)) is not None:
            return known[0]
        shipped = pack_function(self._codec, function, next(self._numbers))
        if key is not None:
            with self._lock:
                if len(self._known) >= _KEPT:
                    del self._known[next(iter(self._known))]
                self._known[key] = (shipped, kept)
        return shipped

    def _key(
        self, value: object, kept: list[object], inside: tuple[object, ...]
    ) -> tuple[object, ...] | None:
        """Return what a value can be known by as long as `kept` lives; None if it may change."""
        if type(value) in _ATOMS:
            return (type(value), value)
        kept.append(value)
        if isinstance(value, ModuleType):
            return (id(value),)
        if isinstance(value, BuiltinFunctionType) and isinstance(value.__self__, ModuleType):
            return (id(value),)
        if isinstance(value, type | FunctionType) and self._codec.goes_by_name(value):
            return (id(value),)
        found: list[object] = [id(value)]
        parts: dict[str, object]
        if isinstance(value, tuple):
            parts = {str(index): part for index, part in enumerate(value)}
        elif isinstance(value, FunctionType):
            if any(value is outer for outer in inside):
                return ()
            try:
                parts = _parts_of(value)
            except ValueError:  # a variable that is not bound yet
                return None
            kept.append(value.__code__)
            found.append(id(value.__code__))
            inside = (*inside, value)
        else:
            return None
        for name, part in parts.items():
            key = self._key(part, kept, inside)
            if key is None:
                return None
            found.append((name, key))
        return tuple(found)


def _parts_of(function: FunctionType) -> dict[str, object]:
    """Return all that a function refers to. Raises ValueError where a variable is not bound."""
    code, scope = function.__code__, function.__globals__
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    return {
        **{f"closure {name}": cell.cell_contents for name, cell in cells},
        **{f"global {name}": scope[name] for name in _globals_named(code) if name in scope},
        **{f"keyword {name}": value for name, value in (function.__kwdefaults__ or {}).items()},
        **{f"attribute {name}": value for name, value in vars(function).items()},
        "defaults": function.__defaults__,
    }


@functools.lru_cache(maxsize=_KEPT)
def _globals_named(code: CodeType) -> tuple[str, ...]:
    """Return the names that may be globals in a function's code, and in the code inside of it."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names.update(_globals_named(constant))
    return tuple(sorted(names))


class _NamePickler(pickle.Pickler):
    """Refuses classes and functions that a worker can't import by their name."""

    def __init__(
        self,
        file: io.BytesIO,
        keep: Callable[[pickle.PickleBuffer], bool],
        importable: Callable[[str], bool],
    ) -> None:
        super().__init__(file, protocol=5, buffer_callback=keep)
        self._importable = importable

    def reducer_override(self, value: object) -> Reduction:
        """Leave all else to pickle."""
        if isinstance(value, type | FunctionType) and not self._importable(value.__module__):
            raise pickle.PicklingError(f"{value!r} can't be imported elsewhere")
        return NotImplemented  # type: ignore[no-any-return]  # pickle's word for "not me"


def _parts(value: object) -> list[tuple[str, object]]:
    """Return the parts of a value by which it may be unable to travel."""
    if isinstance(value, dict):
        return [(f"[{key!r}]", part) for key, part in value.items()]
    if isinstance(value, list | tuple | set | frozenset):
        return [(f"[{index}]", part) for index, part in enumerate(value)]
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict) and not isinstance(value, type):
        return [(f".{name}", part) for name, part in attributes.items()]
    return []
