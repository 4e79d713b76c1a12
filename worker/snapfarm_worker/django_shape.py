"""What the settings of a Django project say that shapes its databases, as far as it is known.

A golden database fits where the shape is the one that it was made with. So it is taken three times:
in the coordinator, for the fingerprint; in the builder, which has to have found the same project;
and in each worker just before the tables would be made, when conftests and fixtures had their say.
What tests give a database of their own (TEST.NAME, a suffix for each worker) is no part of it.

Django has to be set up. It is imported here only: it is the suite's, not the farm's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import PurePath

#: Settings that tables or the rows of usual migrations depend on.
_SETTINGS = (
    "DATABASE_ROUTERS",
    "DEFAULT_AUTO_FIELD",
    "DEFAULT_INDEX_TABLESPACE",
    "DEFAULT_TABLESPACE",
    "FIXTURE_DIRS",
    "LANGUAGE_CODE",
    "SITE_ID",
    "TIME_ZONE",
    "USE_I18N",
    "USE_TZ",
)
#: What of the settings of one database matters.
_DATABASE = ("ENGINE", "OPTIONS", "TIME_ZONE", "AUTOCOMMIT")
#: What of its TEST does not.
_OWN = ("NAME",)


def shape(*, migrations: bool | None = None) -> dict[str, str]:
    """Return the shape by the names of settings; values are hashes, since some may be secrets.

    `migrations=False` tells what it will be once pytest-django has switched migrations off.
    """
    import django
    from django.apps import apps
    from django.conf import settings
    from django.db import connections
    from django.db.migrations.loader import MigrationLoader

    found: dict[str, object] = {"Django": django.get_version()}
    configs = list(apps.get_app_configs())
    found["INSTALLED_APPS"] = [
        [config.label, config.name, _auto_field(config)] for config in configs
    ]
    modules = {
        config.label: None
        if migrations is False
        else MigrationLoader.migrations_module(config.label)[0]
        for config in configs
    }
    found["MIGRATION_MODULES"] = modules
    models = [name for name in dir(settings) if name.isupper() and name.endswith("_MODEL")]
    for name in (*_SETTINGS, *models):
        found[name] = getattr(settings, name, None)
    for alias in connections:
        database: Mapping[str, object] = connections[alias].settings_dict
        test = database.get("TEST")
        said: dict[str, object] = {key: database.get(key) for key in _DATABASE}
        if isinstance(test, Mapping):
            said["TEST"] = {key: value for key, value in test.items() if key not in _OWN}
        found[f"DATABASES[{alias!r}]"] = said
    return {name: _hash(value) for name, value in found.items()}


def differences(first: Mapping[str, str], second: Mapping[str, str]) -> str:
    """Name the settings in which two shapes differ; empty where they are the same."""
    names = sorted(first.keys() | second.keys())
    return ", ".join(name for name in names if first.get(name) != second.get(name))


def _auto_field(config: object) -> str:
    return str(getattr(config, "default_auto_field", ""))


def _hash(value: object) -> str:
    text = json.dumps(as_plain(value), sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def as_plain(value: object) -> object:
    """Return a value as JSON that is the same in each process: an object counts by its class."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): as_plain(inner) for key, inner in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, Sequence):
        return [as_plain(inner) for inner in value]
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"
