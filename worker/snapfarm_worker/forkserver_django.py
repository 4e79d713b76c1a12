"""Imports what each Django project imports, for the fork server's copies to have it.

Nothing here reads settings, of which the server knows none; what reads them when it is imported, as
models do, is left to the copies. So are the applications of `django.contrib` and the database's
backend, which a project may not have: that of SQLite brings `statistics` and multiprocessing along.
"""

from __future__ import annotations

import contextlib
import importlib

_MODULES = (
    "django.test",
    "django.core.management.commands.flush",
    "django.core.management.commands.migrate",
    "django.core.serializers.json",
    "django.db.models",
    "django.forms",
    "django.http",
    "django.middleware.common",
    "django.middleware.csrf",
    "django.shortcuts",
    "django.template.backends.django",
    "django.template.loaders.app_directories",
    "django.template.loaders.cached",
    "django.template.loaders.filesystem",
    "django.urls",
    "django.utils.translation.trans_real",
    "django.views.debug",
)

for _name in _MODULES:
    # One that another version of Django has elsewhere is imported by whoever needs it.
    with contextlib.suppress(Exception):
        importlib.import_module(_name)
