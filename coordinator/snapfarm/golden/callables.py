"""Names of callables: under which one a fresh process finds the very same object, if there is any.

A callable goes to the builder process by its name wherever that is possible. The builder then
imports its module, and the sources on disk are all that counts: so there is a fingerprint.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from snapfarm.config_golden import is_callable_name
from snapfarm.golden.sources import spec_of


def caller_search(root: Path) -> tuple[str, ...]:
    """Return where this process looks for modules, as absolute paths, and the root after that.

    The order is the caller's own, so that the builder finds the modules that the caller has.
    """
    here = Path.cwd()
    entries = [str(here / entry) for entry in sys.path if isinstance(entry, str)]
    return tuple(entry for entry in dict.fromkeys([*entries, str(root)]) if _is_unicode(entry))


def name_of(function: object, search: Sequence[str]) -> str | None:
    """Return `module:qualname` if a fresh process gets this very object under that name."""
    module = getattr(function, "__module__", None)
    path = getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(path, str):
        return None
    name = f"{module}:{path}"
    found: object = sys.modules.get(module)
    if found is None or not is_callable_name(name) or not is_importable(module, search):
        return None
    for attribute in path.split("."):
        found = getattr(found, attribute, None)
    return name if found is function else None


def is_importable(module: str, search: Sequence[str]) -> bool:
    """Tell whether a fresh process imports as `module` what this process has under that name."""
    if module == "__main__":
        return False  # each process has another
    package, _, _ = module.rpartition(".")
    if module.partition(".")[0] in sys.stdlib_module_names:
        return True
    present = sys.modules.get(module)
    file = getattr(present, "__file__", None)
    spec = spec_of(module, search)
    if present is None:
        return spec is not None
    if spec is None:
        # Some modules are made by the package that they are in, as `six.moves` is.
        return file is None and bool(package) and is_importable(package, search)
    if spec.origin is None or not isinstance(file, str):
        return spec.origin is None and file is None
    return os.path.realpath(spec.origin) == os.path.realpath(file)


def title_of(function: Callable[..., object]) -> str:
    """Return how messages name a callable that has no importable name."""
    if isinstance(function, functools.partial):
        return f"partial of {title_of(function.func)}"
    code = getattr(function, "__code__", None)
    if code is None:
        kind = type(function)
        return getattr(function, "__qualname__", None) or f"{kind.__qualname__} object"
    name = getattr(function, "__qualname__", code.co_name)
    return f"{name} ({Path(code.co_filename).name}, line {code.co_firstlineno})"


def kind_of(value: object) -> str:
    """Return the type of a value in the form that code would write it."""
    if isinstance(value, ModuleType):
        return f"module {value.__name__}"
    kind = type(value)
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False  # the order for the builder could not carry it
    return True
