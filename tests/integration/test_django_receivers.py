"""What Django's receivers of `post_migrate` do after a flush is the same where it is repeated.

Two processes do the same to the same project, one of them with Django's own receivers only. Both
print all rows, the cached content types, and what a receiver of the project has seen.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import json
import sys

import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "shop", "django.contrib.contenttypes"],
    DATABASES={
        alias: {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
        for alias in ("default", "bare")
    },
    DATABASE_ROUTERS=["shop.Router"],
    MIGRATION_MODULES={"auth": None, "contenttypes": None, "shop": None},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

from django.apps import apps
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connections, models
from django.db.models.signals import post_migrate
from snapfarm_worker.django_receivers import repeat_receivers

SEEN = []
#: What Django's receivers have created by themselves.
CREATED = []


def look(app_config, using, **rest):
    permissions = Permission.objects.using(using).count() if using == "default" else 0
    SEEN.append([app_config.label, using, permissions])


original = models.QuerySet.bulk_create


def bulk_create(self, found, *args, **options):
    CREATED.extend(found)
    return original(self, found, *args, **options)


models.QuerySet.bulk_create = bulk_create
post_migrate.connect(look)
for alias in connections:
    call_command("migrate", run_syncdb=True, verbosity=0, database=alias)
before = [entry[1]() for entry in post_migrate.receivers]
undo = repeat_receivers() if sys.argv[1] == "repeated" else lambda: None


def state(alias):
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        names = [name for name, in cursor.fetchall() if name != "django_migrations"]
        rows = {}
        for name in names:
            cursor.execute(f'SELECT * FROM "{name}"')
            rows[name] = cursor.fetchall()
    cached = {
        str(key): [kind.pk, kind.app_label, kind.model, kind._state.db, kind._state.adding]
        for key, kind in ContentType.objects._cache.get(alias, {}).items()
    }
    return [rows, cached]


def flush(alias):
    call_command("flush", verbosity=0, interactive=False, database=alias, reset_sequences=False,
                 allow_cascade=False, inhibit_post_migrate=False)


def left_over():
    kind = ContentType.objects.get_for_model(Permission)
    Permission.objects.create(name="more", codename="more", content_type=kind)
    ContentType.objects.create(app_label="nobody", model="nothing")


def new_model():
    type("Later", (models.Model,), {"__module__": "shop.models", "Meta": type("Meta", (), {
        "app_label": "shop", "managed": False})})


def half_there():
    # A flush is not all that sends the signal: here the rows are there already, but for some.
    Permission.objects.filter(codename__startswith="add").delete()
    ContentType.objects.filter(model="proxied").delete()


def renamed():
    # The app is the same, and what it grants is not.
    apps.get_model("shop", "Thing")._meta.permissions = [("sell", "Sell a thing")]


def extended():
    # A list of the model's own, changed in place.
    apps.get_model("shop", "Box")._meta.default_permissions.append("shut")


def nothing():
    pass


for change in (nothing, nothing, left_over, nothing, new_model, nothing, renamed, nothing,
               extended, nothing):
    change()
    SEEN.clear()
    CREATED.clear()
    flush("default")
    flush("bare")
    print(json.dumps([change.__name__, len(CREATED), [state("default"), state("bare")], SEEN]))
half_there()
call_command("migrate", run_syncdb=True, verbosity=0)
print(json.dumps(["half_there", 0, [state("default"), state("bare")], SEEN]))
undo()
assert [entry[1]() for entry in post_migrate.receivers] == before
"""

MODELS = """
from django.db import models


class Thing(models.Model):
    name = models.CharField(max_length=10)

    class Meta:
        permissions = [("weigh", "Weigh a thing")]


class Proxied(Thing):
    class Meta:
        proxy = True


class Box(models.Model):
    things = models.ManyToManyField(Thing)

    class Meta:
        default_permissions = ["open"]
"""

ROUTER = """
class Router:
    def allow_migrate(self, db, app_label, **hints):
        return db == "default" or app_label == "shop"
"""


def test_what_is_repeated_is_what_django_does(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text(ROUTER)
    (tmp_path / "shop" / "models.py").write_text(MODELS)
    (tmp_path / "script.py").write_text(SCRIPT)
    django, ours = (
        [
            json.loads(line)
            for line in subprocess.run(
                [sys.executable, "script.py", way],
                cwd=tmp_path,
                check=True,
                capture_output=True,
                text=True,
            ).stdout.splitlines()
        ]
        for way in ("django", "repeated")
    )
    for expected, found in zip(django, ours, strict=True):
        assert (found[0], found[2:]) == (expected[0], expected[2:])
    # The rows are there, and the numbers go up with each flush.
    permissions = [turn[2][0][0]["auth_permission"] for turn in ours]
    assert [len(rows) for rows in permissions[:2]] == [len(permissions[0])] * 2
    assert permissions[1][0][0] > permissions[0][-1][0]
    # Django creates them at first, and where models are others than before.
    created = [turn[1] > 0 for turn in ours[:-1]]
    assert created == [True, False, False, False, True, False, True, False, True, False]
    assert all(turn[1] > 0 for turn in django[:-1])
