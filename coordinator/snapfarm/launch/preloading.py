"""What the fork server imports beside what every worker needs: what the session's plugins need.

Plugins of installed packages, and what `-p` names, are loaded by the coordinator before the server
is started, and by each worker again, before any conftest. So their part of the standard library may
as well be there when a worker begins, and of Django what pytest-django loads before any code of the
project. The plugins are not: pytest rewrites the assertions in them while it imports them. Nor is
what only the coordinator imports: a project may have a module of that name.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Mapping
from types import ModuleType

#: They replace parts of the standard library, for modules that are imported later.
_PATCHING = ("gevent", "eventlet")
#: Do something when they are imported, or keep something that is a process's own.
_LEFT_OUT = frozenset(
    {
        "__main__", "antigravity", "cmd", "code", "codeop", "curses", "idlelib", "lib2to3",
        "multiprocessing", "pdb", "readline", "rlcompleter", "test", "this", "tkinter", "turtle",
    }
)  # fmt: skip
#: Where the standard library comes from; what else it has is there in each process.
_STANDARD = tuple(
    path + os.sep for path in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
)


class Preload:
    """A module that a server imports; what it imports of `package` has to be what we import."""

    def __init__(self, module: str, package: str = "") -> None:
        self.module = module
        self._package = package
        self._expected = _place_of(package) if package else None

    def is_misplaced(self) -> bool:
        """Tell whether this process has got the package from elsewhere than the server has."""
        loaded = sys.modules.get(self._package) if self._package else None
        return loaded is not None and getattr(loaded, "__file__", None) != self._expected


def preloads(loaded: Mapping[str, ModuleType], *, django: bool = False) -> list[Preload]:
    """Return what to import where these modules are loaded once the plugins are.

    `django` tells whether pytest-django will load Django: in other projects, a module of theirs may
    have the name of one that Django would bring along.
    """
    if any(name in loaded for name in _PATCHING):
        return []
    found = [Preload(name) for name, module in loaded.items() if _is_standard(name, module)]
    if django and "pytest_django" in loaded:
        found.append(Preload("snapfarm_worker.forkserver_django", "django"))
    return found


def _is_standard(name: str, module: ModuleType) -> bool:
    package = name.partition(".")[0]
    if package not in sys.stdlib_module_names or package in _LEFT_OUT:
        return False
    # A file of the project may have the name of a module of the standard library.
    origin = getattr(getattr(module, "__spec__", None), "origin", None) or ""
    return origin.startswith(_STANDARD)


def _place_of(package: str) -> str | None:
    with contextlib.suppress(ImportError, ValueError):
        found = importlib.util.find_spec(package)
        return None if found is None else found.origin
    return None
