"""What a test leaves different in its process: the suspects of a search for polluters.

A look, not a proof: what is named here is tried first, and what is not named may pollute as well.
"""

from __future__ import annotations

import locale
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TypeAlias

#: A name of some state, and what can be compared of it.
State: TypeAlias = Mapping[str, object]

#: Modules of the project that are looked into; more would cost more than they tell.
_MODULES = 300
#: Written by pytest for each test.
_PYTEST_OWN = frozenset({"PYTEST_CURRENT_TEST", "PYTEST_VERSION"})
_CONTAINERS = (dict, list, set, bytearray)


class Residue:
    """Takes pictures of a process's state, and compares two of them."""

    def __init__(self, root: Path) -> None:
        self._root = f"{root}{os.sep}"

    def taken(self) -> State:
        """Return a picture of the state that tests are known to leave behind."""
        state: dict[str, object] = {
            f"variable {name}": value
            for name, value in os.environ.items()
            if name not in _PYTEST_OWN
        }
        state["working directory"] = _directory()
        state["sys.path"] = tuple(sys.path)
        state["warning filters"] = len(warnings.filters)
        state["logging"] = (logging.root.level, logging.root.manager.disable)
        state["locale"] = locale.setlocale(locale.LC_ALL)
        state["threads"] = threading.active_count()
        state["descriptors"] = _descriptors()
        for module in self._modules():
            for name, value in vars(module).items():
                if not name.startswith(("__", "@py")):
                    state[f"{module.__name__}.{name}"] = _seen(value)
                    if isinstance(value, type) and value.__module__ == module.__name__:
                        state.update(_of_class(module, name, value))
        return state

    def compared(self, before: State) -> Iterator[str]:
        """Yield the names of what differs now from what it was."""
        now = self.taken()
        for name in sorted(before.keys() | now.keys()):
            if before.get(name, self) != now.get(name, self):
                yield name

    def _modules(self) -> list[ModuleType]:
        """Return the modules of the project, the latest first."""
        found: list[ModuleType] = []
        for module in reversed(list(sys.modules.values())):
            path = getattr(module, "__file__", None)
            if isinstance(path, str) and path.startswith(self._root):
                if "site-packages" not in path:
                    found.append(module)
                if len(found) >= _MODULES:
                    break
        return found


def _of_class(module: ModuleType, name: str, value: type) -> Iterator[tuple[str, object]]:
    for inner, attribute in list(vars(value).items()):
        if not inner.startswith("__"):
            yield f"{module.__name__}.{name}.{inner}", _seen(attribute)


def _seen(value: object) -> object:
    """Return what tells one value from another without calling the project's code."""
    if type(value) in _CONTAINERS:
        return id(value), len(value)  # type: ignore[arg-type]  # each has a length
    if type(value) in {int, float, bool, str, bytes, type(None)}:
        return value
    if isinstance(value, FunctionType) or not hasattr(value, "__dict__"):
        return id(value)
    fields = vars(value)
    # An object's own fields, one level deep: singletons are changed in place.
    shown = tuple((key, id(inner)) for key, inner in list(fields.items())[:20])
    return (id(value), shown) if not isinstance(value, type | ModuleType) else id(value)


def _directory() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return "(removed)"


def _descriptors() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # a count, and 3 times as fast
    except OSError:
        return 0
