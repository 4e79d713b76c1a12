"""The configuration of golden databases and layers: what they are made of, and its checks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast, get_type_hints

import msgspec

from snapfarm.config_alembic import AlembicConfig, alembic_config
from snapfarm.config_django import DjangoGolden
from snapfarm.config_values import NotEmpty, Seconds, absolute, checked, did_you_mean
from snapfarm.errors import ConfigError
from snapfarm_worker.snapshot import BASE

RingKind = Literal["shared-cache", "memdb", "private"]
ResetPolicy = Literal["test", "module", "session", "never"]


class GoldenConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One golden database: what it is built from, and how tests use it."""

    #: The key of its table, `[golden.<name>]`; the rest of the variable FARM_URI_<NAME>.
    name: str
    #: An existing SQLite file to start from; read, never written.
    file: NotEmpty | None = None
    #: Migrations that run on it.
    alembic: AlembicConfig | None = None
    #: `module:attribute` of SQLAlchemy's tables; those that are not there yet are created.
    metadata: NotEmpty | None = None
    #: Builders that run next, in order: paths of SQL scripts, or `module:function`.
    schema: tuple[NotEmpty, ...] = ()
    #: Builders that run after all of `schema`, in the same notation.
    seed: tuple[NotEmpty, ...] = ()
    #: Patterns of further files that a builder reads: they enter the fingerprint.
    inputs: tuple[NotEmpty, ...] = ()
    #: Environment variables that a builder reads: their values enter the fingerprint.
    env: tuple[NotEmpty, ...] = ()
    #: Seconds that the whole build may take; 0 means no limit.
    timeout: Seconds = 600.0
    #: Kind of the ring of this database; None takes the farm's.
    ring: RingKind | None = None
    #: When a ring goes back to the golden state; None takes the farm's.
    reset: ResetPolicy | None = None
    #: Made of an alias of a Django project; no file says this, the project's settings do.
    django: DjangoGolden | None = None


class LayerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A named state on top of a golden database, or of another layer."""

    #: The key of its table, `[layers.<name>]`, or what its decorator says.
    name: str
    #: Where it is declared, for messages.
    where: str
    #: The layer that it is built on; None builds it on the golden database.
    on: NotEmpty | None = None
    #: The golden database that it belongs to; None takes that of `on`, or the default.
    database: NotEmpty | None = None
    #: What adds its rows, in order: paths of SQL scripts, or `module:function`.
    seed: tuple[NotEmpty, ...] = ()
    #: As for a golden database.
    inputs: tuple[NotEmpty, ...] = ()
    env: tuple[NotEmpty, ...] = ()
    timeout: Seconds = 600.0


#: Keys of the table of one golden database.
GOLDEN_KEYS = tuple(
    name for name in GoldenConfig.__struct_fields__ if name not in {"name", "django"}
)

#: Keys of the table of one layer.
LAYER_KEYS = tuple(name for name in LayerConfig.__struct_fields__ if name not in {"name", "where"})

_GOLDEN_TYPES = get_type_hints(GoldenConfig, include_extras=True)

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_VARIABLE = re.compile(r"[^=$\0]+")
_CALLABLE = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*(?:\.[^\W\d]\w*)*")


def uri_variable(name: str) -> str:
    """Return the name of the variable that holds the URI of a golden database's ring."""
    return "FARM_URI_" + name.upper().replace("-", "_")


def is_script(entry: str) -> bool:
    """Tell whether an entry of `schema` or `seed` is an SQL script rather than a callable."""
    return entry.lower().endswith(".sql")


def is_callable_name(entry: str) -> bool:
    """Tell whether an entry of `schema`, `seed` or `metadata` has the form `module:name`."""
    return _CALLABLE.fullmatch(entry) is not None


def check_name(where: str, name: str) -> None:
    """Check the name of a golden database. Raises ConfigError, which starts with `where`."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{where}: the name {name!r} can't be part of a variable's name: expected a letter, "
            f"then letters, digits, '-' and '_', at most 64 in all"
        )


def golden_config(prefix: str, name: str, table: Mapping[str, object], base: Path) -> GoldenConfig:
    """Return a golden database as `table` declares it, its relative paths taken from `base`.

    Messages name a key with `prefix` before it. Raises ConfigError.
    """
    fields: dict[str, object] = {}
    for key, value in table.items():
        if key not in GOLDEN_KEYS:
            raise ConfigError(f"{prefix}{key}: unknown key{did_you_mean(key, GOLDEN_KEYS)}")
        if key == "alembic":
            fields[key] = alembic_config(f"{prefix}{key}", value, base)
        else:
            fields[key] = checked(f"{prefix}{key}", value, _GOLDEN_TYPES[key])
    if not is_callable_name(str(fields.get("metadata") or "module:name")):
        raise ConfigError(
            f"{prefix}metadata: expected SQLAlchemy's tables as module:attribute, such as "
            f"app.models:Base, got {fields['metadata']!r}"
        )
    for key in ("schema", "seed"):
        entries = cast("tuple[str, ...]", fields.get(key, ()))
        for index, entry in enumerate(entries):
            if not is_script(entry) and not is_callable_name(entry):
                raise ConfigError(
                    f"{prefix}{key}[{index}]: expected the path of an SQL script that ends in "
                    f".sql, or a callable as module:function, got {entry!r}"
                )
        fields[key] = tuple(
            absolute(f"{prefix}{key}[{index}]", entry, base) if is_script(entry) else entry
            for index, entry in enumerate(entries)
        )
    patterns = cast("tuple[str, ...]", fields.get("inputs", ()))
    fields["inputs"] = tuple(
        absolute(f"{prefix}inputs[{index}]", pattern, base)
        for index, pattern in enumerate(patterns)
    )
    for index, variable in enumerate(cast("tuple[str, ...]", fields.get("env", ()))):
        if not _VARIABLE.fullmatch(variable):
            raise ConfigError(
                f"{prefix}env[{index}]: expected the name of a variable, got {variable!r}: write "
                f"the bare name, without its '$' or value"
            )
    if isinstance(file := fields.get("file"), str):
        fields["file"] = absolute(f"{prefix}file", file, base)
    return GoldenConfig(name=name, **fields)  # type: ignore[arg-type]  # as in load_config


def layer_config(where: str, name: str, table: Mapping[str, object], base: Path) -> LayerConfig:
    """Return a layer as `table` declares it, its relative paths taken from `base`.

    Messages begin with `where`. Raises ConfigError.
    """
    if not _NAME.fullmatch(name) or name == BASE:
        raise ConfigError(
            f"{where}: a layer can't be named {name!r}: expected a letter, then letters, digits, "
            f"'-' and '_', at most 64 in all, and another name than {BASE!r}"
        )
    for key in table:
        if key not in LAYER_KEYS:
            raise ConfigError(f"{where}.{key}: unknown key{did_you_mean(key, LAYER_KEYS)}")
    on = checked(f"{where}.on", table.get("on"), NotEmpty | None)
    database = checked(f"{where}.database", table.get("database"), NotEmpty | None)
    built = {key: value for key, value in table.items() if key not in {"on", "database"}}
    golden = golden_config(f"{where}.", name, built, base)
    return LayerConfig(
        name=name,
        where=where,
        on=cast("str | None", on),
        database=cast("str | None", database),
        seed=golden.seed,
        inputs=golden.inputs,
        env=golden.env,
        timeout=golden.timeout,
    )
