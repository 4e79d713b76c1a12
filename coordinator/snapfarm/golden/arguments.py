"""The arguments of `Golden.build` and `Golden.load`, checked as a configuration is.

What comes out is a configuration that has no file, and the caller: whatever builds the golden
databases of a configuration builds this one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from snapfarm.config import FarmConfig
from snapfarm.config_golden import (
    GoldenConfig,
    check_name,
    golden_config,
    is_callable_name,
    is_script,
)
from snapfarm.config_values import absolute, checked
from snapfarm.errors import ConfigError
from snapfarm.golden.callables import caller_search, kind_of, name_of, title_of
from snapfarm.golden.order import Caller, Shipped

#: Stands for a callable that travels as data. Nobody else can own a name in this package.
_STAND_IN = "snapfarm.golden.shipping:{}_{}"

_ENTRY = "the path of an SQL script that ends in .sql, module:function, or a callable"


class Arguments(msgspec.Struct, frozen=True):
    """What a golden database is built from."""

    config: FarmConfig
    golden: GoldenConfig
    caller: Caller
    #: Why it can't have a fingerprint, and so no place in the cache; None where it can.
    hidden: str | None
    #: Whether the cache may be read and written.
    keep: bool


def build_arguments(
    *,
    schema: object,
    seed: object,
    file: object,
    alembic: object,
    metadata: object,
    name: object,
    root: object,
    inputs: object,
    env: object,
    timeout: object,
    cache: object,
) -> Arguments:
    """Return the checked arguments of `Golden.build`. Raises ConfigError."""
    call = "Golden.build"
    folder = _root(f"{call}: root", root)
    search = caller_search(folder)
    shipped: dict[str, Shipped] = {}
    table: dict[str, object] = {"timeout": timeout}
    for key, given in (("schema", schema), ("seed", seed)):
        table[key] = [
            _entry(f"{call}: {key}[{index}]", one, _STAND_IN.format(key, index), search, shipped)
            for index, one in enumerate(_listed(f"{call}: {key}", given, _ENTRY))
        ]
    patterns = _listed(f"{call}: inputs", inputs, "a pattern of files")
    table["inputs"] = [_text(one) for one in patterns]
    table["env"] = _listed(f"{call}: env", env, "the name of a variable")
    if file is not None:
        table["file"] = _text(file)
    if alembic is not None:
        table["alembic"] = alembic
    if metadata is not None:
        table["metadata"] = _metadata(f"{call}: metadata", metadata, search)
    golden = golden_config(f"{call}: ", _name(call, name), table, folder)
    config = FarmConfig(root=folder, golden=(golden,))
    if not isinstance(cache, bool):
        where = f"{call}: cache"
        if not isinstance(cache, str | os.PathLike) or not _text(cache):
            raise ConfigError(f"{where}: expected True, False or a folder, got {cache!r}")
        config = msgspec.structs.replace(
            config, cache_dir=absolute(where, str(_text(cache)), folder)
        )
    hidden = None
    if shipped:
        titles = ", ".join(one.title for one in shipped.values())
        hidden = f"no other process can import {titles}"
    elif golden.file is not None and _is_open_here(Path(golden.file)):
        # Reading it for the fingerprint would drop the locks that this process has on it.
        hidden = f"this process has {golden.file} open"
    caller = Caller(call=call, search=search, shipped=shipped)
    return Arguments(config, golden, caller, hidden, keep=cache is not False)


def load_arguments(path: object, *, name: object, timeout: object) -> Arguments:
    """Return the checked arguments of `Golden.load`. Raises ConfigError."""
    call = "Golden.load"
    where = f"{call}: path"
    if not isinstance(path, str | os.PathLike) or not isinstance(_text(path), str):
        raise ConfigError(f"{where}: expected the path of a SQLite file, got {path!r}")
    folder = Path.cwd()
    file = Path(absolute(where, str(_text(path)), folder))
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "is no file" if file.exists() else ""
        raise ConfigError(
            f"{where}: {file} {what or 'does not exist'}; expected a SQLite database file"
        )
    table = {"file": str(file), "timeout": timeout}
    golden = golden_config(f"{call}: ", _name(call, name), table, folder)
    caller = Caller(call=call, search=caller_search(folder), shipped={})
    config = FarmConfig(root=folder, golden=(golden,))
    # As above; and the content of one file is quickly had again.
    hidden = "files that are loaded are read by the builder process alone"
    return Arguments(config, golden, caller, hidden, keep=False)


def checked_name(call: str, name: object) -> str:
    """Return the name of a golden database as it was given to `call`. Raises ConfigError."""
    return _name(call, name)


def _name(call: str, name: object) -> str:
    where = f"{call}: name"
    text = str(checked(where, name, str))
    check_name(where, text)
    return text


def _root(where: str, root: object) -> Path:
    if root is None:
        return Path.cwd()
    if not isinstance(root, str | os.PathLike) or not isinstance(_text(root), str):
        raise ConfigError(f"{where}: expected a folder, got {root!r}")
    folder = Path(absolute(where, str(_text(root)), Path.cwd()))
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise ConfigError(f"{where}: {folder} {what}; expected a folder")
    return folder


def _entry(
    where: str, given: object, stand_in: str, search: Sequence[str], shipped: dict[str, Shipped]
) -> str:
    """Return an entry in the notation of a configuration; what must travel goes into `shipped`."""
    if isinstance(given, str | os.PathLike):
        entry = _text(given)
        is_name = isinstance(given, str) and is_callable_name(given)
        if not isinstance(entry, str) or not (is_script(entry) or is_name):
            raise ConfigError(f"{where}: expected {_ENTRY}, got {given!r}")
        if entry.startswith("__main__:"):
            raise ConfigError(
                f"{where}: {entry!r} is in the running script, which the builder process does "
                f"not import: pass the function itself"
            )
        return entry
    if not callable(given):
        raise ConfigError(f"{where}: expected {_ENTRY}, got {given!r}")
    name = name_of(given, search)
    if name is None:
        shipped[stand_in] = _shipped(where, given, search)
        return stand_in
    return name


def _metadata(where: str, given: object, search: Sequence[str]) -> object:
    """Return the name of SQLAlchemy's tables in the notation of a configuration."""
    name = given if isinstance(given, str) else name_of(given, search)
    if name is None or name.startswith("__main__:"):
        raise ConfigError(
            f"{where}: expected module:attribute, or a class that the builder process can import, "
            f"got {given!r}: models go there by name only, so move them into a module"
        )
    return name


def _shipped(where: str, function: Callable[..., object], search: Sequence[str]) -> Shipped:
    # Most callables are functions of modules, and dill takes a while to import.
    from snapfarm.shipping import Unshippable, ship

    title = title_of(function)
    try:
        return Shipped(title, ship(function, search))
    except Unshippable as error:
        raise ConfigError(
            f"{where}: {title} can't travel to the builder process: {error}; make it inside of "
            f"the function, or move the function into a module and pass that"
        ) from error


def _listed(where: str, given: object, expected: str) -> list[object]:
    """Return one entry or a sequence of entries as a list."""
    if isinstance(given, str | os.PathLike) or callable(given):
        return [given]
    if isinstance(given, list | tuple):
        return list(given)
    raise ConfigError(f"{where}: expected {expected}, or a list of such, got {kind_of(given)}")


def _text(value: object) -> object:
    """Return a path as a text; anything else as it is, for the checks to refuse."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _is_open_here(file: Path) -> bool:
    """Tell whether this process has a file open; only Linux says so without opening it."""
    try:
        wanted = file.stat()
    except OSError:
        return False
    return any(os.path.samestat(wanted, one) for one in _open_files())


def _open_files() -> Iterator[os.stat_result]:
    folder = Path("/proc/self/fd")
    if folder.is_dir():
        for link in folder.iterdir():
            with contextlib.suppress(OSError):
                yield os.fstat(int(link.name))
