"""The key `django` of a farm: whether databases of a Django project are golden ones, and how."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast, get_type_hints

import msgspec

from snapfarm.config_values import NotEmpty, Seconds, absolute, checked, did_you_mean
from snapfarm.errors import ConfigError

#: "auto" takes part where that is possible, and leaves the rest to Django; "on" insists.
DjangoUse = Literal["auto", "on", "off"]


class DjangoConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a project says of Django."""

    #: Whether the SQLite databases of a Django project are migrated once, and handed to workers.
    use: DjangoUse = "auto"
    #: Whether rows of data migrations come back after each flush.
    restore_migration_data: bool = False
    #: Patterns of further files that migrations read: they enter the fingerprint.
    inputs: tuple[NotEmpty, ...] = ()
    #: Environment variables that migrations read: their values enter the fingerprint.
    env: tuple[NotEmpty, ...] = ()
    #: Seconds that setting up all databases may take; 0 means no limit.
    timeout: Seconds = 600.0


class DjangoProject(msgspec.Struct, frozen=True, kw_only=True):
    """A Django project as the coordinator found it, for a builder to find the same."""

    settings: str
    #: Where its process looks for modules, in order; absolute.
    search: tuple[str, ...]
    #: The working directory.
    directory: str
    #: Whether tables are made by migrations, or from models alone (`--no-migrations`).
    migrations: bool
    #: What the settings say that shapes the databases: see `snapfarm_worker.django_shape`.
    shape: dict[str, str]
    #: The sources that migrations are made of, by name: hashes, and versions of packages.
    sources: dict[str, str]
    #: The SQLite databases that are to be set up.
    aliases: tuple[str, ...]


class DjangoGolden(msgspec.Struct, frozen=True, kw_only=True):
    """One database of a Django project."""

    alias: str
    project: DjangoProject
    #: Whether rows of data migrations come back after each flush.
    restore: bool


#: Keys of the table.
DJANGO_KEYS = DjangoConfig.__struct_fields__

_TYPES = get_type_hints(DjangoConfig, include_extras=True)
_USES: Mapping[object, DjangoUse] = {
    True: "on", False: "off", "auto": "auto", "on": "on", "off": "off",
}  # fmt: skip


def django_config(where: str, value: object, base: Path) -> DjangoConfig:
    """Return what the key `django` says: true, false, "auto", or a table. Raises ConfigError."""
    if isinstance(value, bool | str) and value in _USES:
        return DjangoConfig(use=_USES[value])
    if not isinstance(value, Mapping):
        raise ConfigError(
            f'{where}: expected true, false, "auto", or a table with {", ".join(DJANGO_KEYS)}, '
            f"got {value!r}"
        )
    fields: dict[str, object] = {"use": "on"}
    for key, given in value.items():
        at = f"{where}.{key}"
        if key not in DJANGO_KEYS:
            raise ConfigError(f"{at}: unknown key{did_you_mean(str(key), DJANGO_KEYS)}")
        if key == "use" and isinstance(given, bool):
            given = _USES[given]
        fields[key] = checked(at, given, _TYPES[key])
    patterns = cast("tuple[str, ...]", fields.get("inputs", ()))
    fields["inputs"] = tuple(
        absolute(f"{where}.inputs[{index}]", pattern, base)
        for index, pattern in enumerate(patterns)
    )
    return DjangoConfig(**fields)  # type: ignore[arg-type]  # `checked` saw each value
