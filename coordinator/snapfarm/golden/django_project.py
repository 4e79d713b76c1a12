"""Finds the databases of a Django project that can be golden ones, in a process that has set it up.

pytest-django has loaded the settings by the time that this is asked, from wherever it takes them:
`--ds`, the variable DJANGO_SETTINGS_MODULE, or pytest's configuration. Nothing is imported here
that was not imported then.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from snapfarm.config import FarmConfig
from snapfarm.config_django import DjangoGolden, DjangoProject
from snapfarm.config_golden import GoldenConfig
from snapfarm.errors import ConfigError
from snapfarm.golden.callables import caller_search
from snapfarm.golden.hashing import file_hash, shown
from snapfarm.golden.sources import is_installed, spec_of, walk_parts
from snapfarm_worker.django_creation import is_set_up, is_sqlite
from snapfarm_worker.django_shape import shape


class NotGolden(Exception):
    """Why the databases of a Django project can't be golden ones."""


def with_django(config: FarmConfig, *, migrations: bool) -> FarmConfig:
    """Return a configuration with the SQLite databases of the Django project of this process.

    Without `migrations` tables are made from models. Raises NotGolden, whose message is empty where
    there is nothing to tell of, and ConfigError.
    """
    if not is_set_up():
        raise NotGolden("")
    project = _project(config, migrations)
    taken = {golden.name: golden for golden in config.golden}
    goldens = []
    for alias in project.aliases:
        name = golden_name(alias)
        if name in taken:
            where = config.source or config.root
            raise ConfigError(
                f"{where}: golden.{name} has the name of a database of Django, whose alias is "
                f"{alias!r}: rename the table, or write django = false"
            )
        of = DjangoGolden(
            alias=alias, project=project, restore=config.django.restore_migration_data
        )
        taken[name] = GoldenConfig(
            name=name,
            django=of,
            inputs=config.django.inputs,
            env=config.django.env,
            timeout=config.django.timeout,
            # Django tells a database in memory by its name.
            ring="shared-cache",
            reset="never",
        )
        goldens.append(taken[name])
    return msgspec.structs.replace(config, golden=(*config.golden, *goldens))


def golden_name(alias: str) -> str:
    """Return the name of the golden database of an alias, which may be any text."""
    name = re.sub(r"[^A-Za-z0-9_-]", "_", alias)
    return name if name[:1].isalpha() else f"django-{name}"


def _project(config: FarmConfig, migrations: bool) -> DjangoProject:
    from django.conf import settings
    from django.db import connections

    module = os.environ.get("DJANGO_SETTINGS_MODULE", "")
    if getattr(settings, "SETTINGS_MODULE", None) != module or not module:
        raise NotGolden("its settings come from no module, which another process could import")
    aliases = []
    for alias in connections:
        connection = connections[alias]
        if is_sqlite(connection) and not connection.settings_dict["TEST"]["MIRROR"]:
            aliases.append(alias)
    if not aliases:
        raise NotGolden("")
    search = caller_search(config.root)
    return DjangoProject(
        settings=module,
        search=search,
        directory=str(Path.cwd()),
        migrations=migrations,
        shape=shape(migrations=None if migrations else False),
        sources=_sources(config.root, search, module, migrations),
        aliases=tuple(aliases),
    )


def _sources(
    root: Path, search: tuple[str, ...], settings_module: str, migrations: bool
) -> dict[str, str]:
    """Return the parts of the fingerprint that stand for what migrations consist of.

    An installed app counts with the version of its distribution, one of the project with its
    migrations and fixtures, and all modules of the project that those and its AppConfig import.
    """
    from django.apps import apps
    from django.conf import settings
    from django.db.migrations.loader import MigrationLoader

    modules = ["django", settings_module]
    files: list[Path] = [Path(folder) for folder in settings.FIXTURE_DIRS]
    modules += [
        router.rpartition(".")[0] if isinstance(router, str) else _module_of(router)
        for router in settings.DATABASE_ROUTERS
    ]
    for database in settings.DATABASES.values():
        modules += [f"{database['ENGINE']}.{name}" for name in ("base", "creation", "schema")]
    for config in apps.get_app_configs():
        named, explicit = MigrationLoader.migrations_module(config.label)
        folder = _folder(named, search) if named is not None and migrations else None
        modules += [config.name, type(config).__module__]
        if not is_installed(Path(config.path) / "apps.py"):
            modules += [f"{config.name}.management", f"{config.name}.management.commands.migrate"]
            files.append(Path(config.path) / "fixtures")
        if folder is None:
            modules.append(f"{config.name}.models")
        elif explicit or not is_installed(folder / "__init__.py"):
            files.append(folder)
    scripts = list(_files(files))
    parts = walk_parts(modules, [path for path in scripts if path.suffix == ".py"], root, search)
    for path in scripts:
        if path.suffix != ".py":
            parts[f"file {shown(path, root)}"] = file_hash(path)
    return parts


def _module_of(thing: object) -> str:
    return type(thing).__module__


def _folder(module: str, search: tuple[str, ...]) -> Path | None:
    """Return the folder of a package, imported or not; None where there is none."""
    if module in sys.modules:
        found: object = next(iter(getattr(importlib.import_module(module), "__path__", ())), None)
        return None if found is None else Path(str(found))
    spec = spec_of(module, search)
    locations = () if spec is None else spec.submodule_search_locations or ()
    return next((Path(location) for location in locations), None)


def _files(folders: list[Path]) -> Iterator[Path]:
    for folder in dict.fromkeys(folders):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path
