"""Callables, and what they are called with, as data for a process that can't import them by name.

dill takes a function with its code and with the globals that it refers to, and no more. What a
fresh process can import goes by name, modules always: only what it can't import travels by value.
"""

from __future__ import annotations

import contextlib
import dis
import enum
import functools
import importlib
import io
import pickle
import secrets
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import CodeType, FunctionType, ModuleType

import dill
import dill.detect
import msgspec

from snapfarm.golden.callables import is_importable, kind_of
from snapfarm_worker.parcels import one_class

#: Guards the patch below: it is global to the process, and several threads may ship functions.
_LOCK = threading.RLock()

#: What dill makes classes with.
_CLASS_MAKERS = frozenset(
    {dill._dill._create_type, dill._dill._create_namedtuple, types.new_class}  # noqa: SLF001  # no public names
)

#: A global of shipped functions that nobody reads: loading it imports what it lists.
_SUBMODULES = "__snapfarm_submodules__"


class Unshippable(Exception):
    """A callable can't travel; the message says why."""


def ship(
    function: object,
    search: Sequence[str],
    keep: Callable[[pickle.PickleBuffer], bool] | None = None,
) -> bytes:
    """Return a callable, or any value, as data for a process with that module search path.

    `keep` is pickle's `buffer_callback`: it may take large buffers out of the data. Raises
    Unshippable, which names the variable that is in the way.
    """
    with _precise():
        try:
            return _dumped(function, search, keep)
        except Exception as error:  # whatever the reducers of the user's classes raise
            culprit = _culprit(function, search)
            raise Unshippable(f"{culprit}{_said(error)}") from error


class _Version(msgspec.Struct, frozen=True):
    """A class as it was when it was shipped."""

    token: str
    #: Its attributes: constants as they are, of all else which object it is.
    content: dict[str, object]


#: What was shipped last of each class; a class that has changed since gets a new token.
_versions: weakref.WeakKeyDictionary[type, _Version] = weakref.WeakKeyDictionary()


def _token_of(cls: type) -> str:
    """Return what a class is known by elsewhere as long as it does not change."""
    content: dict[str, object] = {
        name: value if isinstance(value, int | str) else id(value)
        for name, value in vars(cls).items()
        if name != "__slotnames__"  # pickle leaves that there
    }
    known = _versions.get(cls)
    if known is None or known.content != content:
        known = _versions[cls] = _Version(secrets.token_hex(8), content)
    return known.token


class _Pickler(dill.Pickler):  # type: ignore[misc]  # dill has no types
    """dill's pickler, but modules go by name, and nothing that is open goes at all.

    A class that travels as data in several parcels is one class where they arrive.
    """

    def __init__(
        self,
        file: io.BytesIO,
        search: Sequence[str],
        keep: Callable[[pickle.PickleBuffer], bool] | None,
    ) -> None:
        super().__init__(file, protocol=5, recurse=True, buffer_callback=keep)
        self.search = search
        self.importable = functools.cache(lambda module: is_importable(module, search))

    def save_reduce(
        self, func: Callable[..., object], args: tuple[object, ...], *rest: object, **more: object
    ) -> None:
        """Write how a value is made again; of a class, also which one it is."""
        made = more.get("obj")
        if isinstance(made, type) and func in _CLASS_MAKERS:
            func, args = one_class, (_token_of(made), func, *args)
        super().save_reduce(func, args, *rest, **more)

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
        if (
            isinstance(value, type)
            and (isinstance(value, enum.EnumMeta) or id(value) in self._postproc)
            and not dill._dill._locate_function(value, self)  # noqa: SLF001  # as below
        ):
            # It refers to itself while it is made. dill would warn, and send a name that leads
            # nowhere.
            raise dill.PicklingError(
                f"the class {value.__qualname__!r} refers to itself, and only modules can have "
                f"such classes"
            )
        return NotImplemented


@contextlib.contextmanager
def _precise() -> Iterator[None]:
    """Within this context, dill looks at functions as we do, in this thread.

    It takes by value what a fresh process can't import; dill itself takes by name whatever this
    process has in sys.modules. It takes the globals that a function's own code names; dill looks
    into other functions for names, without an end where two call each other.
    """
    with _LOCK:
        thread = threading.get_ident()
        original_locate = dill._dill._locate_function  # noqa: SLF001  # dill has no hook for it
        original_globals = dill.detect.globalvars

        def locate(value: object, pickler: object = None) -> bool:
            if isinstance(pickler, _Pickler):
                module = getattr(value, "__module__", None)
                if isinstance(module, str) and not pickler.importable(module):
                    return False
            return bool(original_locate(value, pickler))

        def globals_of(function: object, *args: object, **kwargs: object) -> object:
            if threading.get_ident() == thread and isinstance(function, FunctionType):
                return referred(function)
            return original_globals(function, *args, **kwargs)

        dill._dill._locate_function = locate  # noqa: SLF001  # as above
        dill.detect.globalvars = globals_of
        try:
            yield
        finally:
            dill._dill._locate_function = original_locate  # noqa: SLF001  # as above
            dill.detect.globalvars = original_globals


def referred(function: FunctionType) -> dict[str, object]:
    """Return the globals that the code of a function names, by name.

    Of a package, the submodules come along that the code may mean, since importing the package
    elsewhere need not import them.
    """
    codes = [function.__code__]
    globals_named: set[str] = set()
    words: set[str] = set()
    for code in codes:  # grows on the way: functions and classes inside of functions
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        words.update(code.co_names)
        for step in dis.get_instructions(code):
            if "GLOBAL" in step.opname or step.opname == "LOAD_NAME":
                globals_named.add(str(step.argval))
    present = function.__globals__
    found = {name: present[name] for name in sorted(globals_named) if name in present}
    packages = [one.__name__ for one in found.values() if isinstance(one, ModuleType)]
    submodules = [
        module
        for name, module in sorted(sys.modules.items())
        for package in packages
        if isinstance(module, ModuleType)
        and name.startswith(f"{package}.")
        and words.issuperset(name[len(package) + 1 :].split("."))
    ]
    return found | ({_SUBMODULES: submodules} if submodules else {})


def _dumped(
    value: object,
    search: Sequence[str],
    keep: Callable[[pickle.PickleBuffer], bool] | None = None,
) -> bytes:
    file = io.BytesIO()
    _Pickler(file, search, keep).dump(value)
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
    inner = getattr(function, "__func__", function)
    if isinstance(inner, FunctionType):
        with contextlib.suppress(ValueError):  # a variable that has no value yet
            found |= _closure(inner)
        found |= referred(inner)
    return found


def _closure(function: FunctionType) -> dict[str, object]:
    names, cells = function.__code__.co_freevars, function.__closure__ or ()
    return {name: cell.cell_contents for name, cell in zip(names, cells, strict=True)}


def _said(error: Exception) -> str:
    text = str(error)
    return text if isinstance(error, dill.PicklingError) else f"{type(error).__name__}: {text}"
