"""The key `alembic` of a golden database: which migrations make it, and how env.py is told."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import get_type_hints

import msgspec

from snapfarm.config_values import NotEmpty, absolute, checked, did_you_mean
from snapfarm.errors import ConfigError

#: What `set_env` and `x` may hold: the URL for a synchronous and an asynchronous engine, the file.
PLACES = ("{url}", "{async_url}", "{path}")

_VARIABLE = re.compile(r"[^=\0]+")


class AlembicConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Migrations that make a golden database, run with the project's own env.py."""

    #: The configuration file of Alembic: alembic.ini, or a pyproject.toml with `[tool.alembic]`.
    config: NotEmpty = "alembic.ini"
    #: The revisions that the database is upgraded to, as `alembic upgrade` takes them.
    target: NotEmpty = "heads"
    #: The section of alembic.ini, as `alembic --name` takes it.
    section: NotEmpty = "alembic"
    #: Variables that are set while the migrations run, for an env.py that reads its URL there.
    set_env: dict[str, str] = {}
    #: Arguments that env.py gets from `context.get_x_argument()`, as from `alembic -x key=value`.
    x: dict[str, str] = {}


#: Keys of the table.
ALEMBIC_KEYS = AlembicConfig.__struct_fields__

_TYPES = get_type_hints(AlembicConfig, include_extras=True)


def alembic_config(where: str, value: object, base: Path) -> AlembicConfig:
    """Return what the key `alembic` says, a path or a table. Raises ConfigError."""
    if isinstance(value, str | os.PathLike):
        value = {"config": os.fspath(value)}
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{where}: expected the path of an alembic.ini, or a table with "
            f"{', '.join(ALEMBIC_KEYS)}, got {value!r}"
        )
    fields: dict[str, object] = {}
    for key, given in value.items():
        at = f"{where}.{key}"
        if key not in ALEMBIC_KEYS:
            raise ConfigError(f"{at}: unknown key{did_you_mean(str(key), ALEMBIC_KEYS)}")
        if key in ("set_env", "x"):
            fields[key] = _texts(at, given)
        else:
            fields[key] = checked(at, given, _TYPES[key])
    config = str(fields.get("config", "alembic.ini"))
    fields["config"] = absolute(f"{where}.config", config, base)
    return AlembicConfig(**fields)  # type: ignore[arg-type]  # `checked` saw each value


def _texts(where: str, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected a table of texts, got {value!r}")
    for name, text in value.items():
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise ConfigError(f"{where}: expected names without '=' as keys, got {name!r}")
        if not isinstance(text, str) or "\0" in text:
            raise ConfigError(f"{where}.{name}: expected a text, got {text!r}")
    return dict(value)
