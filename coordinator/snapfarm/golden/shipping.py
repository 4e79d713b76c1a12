"""Callables that travel to the builder process as data, because it can't import them by name.

dill takes a function with its code and with the globals that it refers to, and no more. What a
fresh process can import goes by name, modules always: only what it can't import travels by value.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType

import dill
import dill.detect

from snapfarm.golden.callables import is_importable, kind_of

#: Guards the patch below, and dill's look at globals, which redirects sys.stdout.
_LOCK = threading.RLock()


class Unshippable(Exception):
    """A callable can't travel; the message says why."""


def ship(function: Callable[..., object], search: Sequence[str]) -> bytes:
    """Return a callable as data for a process with that module search path.

    Raises Unshippable, which names the variable that is in the way.
    """
    with _by_value():
        try:
            return _dumped(function, search)
        except Exception as error:  # whatever the reducers of the user's classes raise
            culprit = _culprit(function, search)
            raise Unshippable(f"{culprit}{_said(error)}") from error


class _Pickler(dill.Pickler):  # type: ignore[misc]  # dill has no types
    """dill's pickler, but modules go by name, and nothing that is open goes at all."""

    def __init__(self, file: io.BytesIO, search: Sequence[str]) -> None:
        super().__init__(file, recurse=True)
        self.search = search
        self.importable = functools.cache(lambda module: is_importable(module, search))

    def reducer_override(self, value: object) -> object:
        """Return how a value is made again; NotImplemented leaves that to dill."""
        if isinstance(value, ModuleType):
            # dill would take the whole content of a module of the project along.
            if not self.importable(value.__name__):
                raise dill.PicklingError(
                    f"the module {value.__name__!r} can't be imported by another process"
                )
            return importlib.import_module, (value.__name__,)
        if isinstance(value, io.IOBase) and not isinstance(value, io.BytesIO | io.StringIO):
            # dill would open the file again, and perhaps truncate it.
            raise dill.PicklingError("an open file stays with its process")
        return NotImplemented


@contextlib.contextmanager
def _by_value() -> Iterator[None]:
    """Within this context, our pickler takes by value what a fresh process can't import.

    dill itself takes by name whatever this process has in sys.modules.
    """
    with _LOCK:
        original = dill._dill._locate_function  # noqa: SLF001  (dill has no hook for it)

        def locate(value: object, pickler: object = None) -> bool:
            if isinstance(pickler, _Pickler):
                module = getattr(value, "__module__", None)
                if isinstance(module, str) and not pickler.importable(module):
                    return False
            return bool(original(value, pickler))

        dill._dill._locate_function = locate  # noqa: SLF001
        try:
            yield
        finally:
            dill._dill._locate_function = original  # noqa: SLF001


def _dumped(value: object, search: Sequence[str]) -> bytes:
    file = io.BytesIO()
    _Pickler(file, search).dump(value)
    return file.getvalue()


def _culprit(function: object, search: Sequence[str]) -> str:
    """Say which variable can't travel; empty where that is none of the function's own."""
    for name, value in _variables(function).items():
        try:
            _dumped(value, search)
        except Exception:
            return f"it refers to {name!r}, a {kind_of(value)}: "
    return ""


def _variables(function: object) -> Mapping[str, object]:
    """Return what a callable refers to, by the names that the user gave."""
    if isinstance(function, functools.partial):
        arguments = {f"argument {index}": value for index, value in enumerate(function.args)}
        return {"func": function.func, **arguments, **function.keywords}
    owner = getattr(function, "__self__", None)
    found: dict[str, object] = {}
    if owner is not None and not isinstance(owner, ModuleType):
        found |= {f"self.{name}": value for name, value in getattr(owner, "__dict__", {}).items()}
    elif not hasattr(function, "__code__"):
        found |= getattr(function, "__dict__", {})
    for cells in (_closure, dill.detect.globalvars):
        with contextlib.suppress(Exception):
            found |= cells(getattr(function, "__func__", function))
    return found


def _closure(function: object) -> dict[str, object]:
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    cells = getattr(function, "__closure__", None) or ()
    return {name: cell.cell_contents for name, cell in zip(names, cells, strict=True)}


def _said(error: Exception) -> str:
    text = str(error)
    return text if isinstance(error, dill.PicklingError) else f"{type(error).__name__}: {text}"
