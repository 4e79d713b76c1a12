"""Repeats quickly what Django's own receivers of `post_migrate` do after each flush of a test.

A flush, the end of each `TransactionTestCase`, sends `post_migrate` once for each app. Then Django
writes the app's content types and permissions again, query by query: nearly all that a flush of
small tables costs. What it writes depends on nothing but the app's models and what is there
already. So the first time Django does it, and what it did is done again from then on: the same
rows under the numbers that Django would have given them, and the same content types in their cache.

Receivers of others are sent the signal as ever, each app in its turn. Where anything is not as it
was the first time, or not as Django has it, Django does it.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Protocol, TypeAlias, cast

import msgspec

#: What the signal says when a flush sends it; `migrate` says more.
_OF_A_FLUSH = frozenset({"signal", "sender", "app_config", "verbosity", "interactive", "using"})
#: So many different beginnings are known of one app and database.
_KEPT = 4

#: The columns of the two tables.
_TYPE = ("app_label", "id", "model")
_PERMISSION = ("codename", "content_type_id", "id", "name")

Receiver: TypeAlias = Callable[..., object]


class _App(Protocol):
    """What is used of Django's configuration of an app."""

    label: str

    def get_models(self) -> Iterable[type]: ...


class _Options(Protocol):
    """What is used of the options of a model."""

    default_permissions: Iterable[str]
    permissions: Iterable[object]
    verbose_name_raw: str


class _Signal(Protocol):
    """What is used of Django's signals, which have no types."""

    lock: threading.Lock
    receivers: list[tuple[object, ...]]
    sender_receivers_cache: dict[object, object]


class _Found(msgspec.Struct, frozen=True):
    """What an app has of the two tables: models by the number of their type, permissions."""

    types: dict[str, int]
    permissions: frozenset[tuple[str, str]]


class _Done(msgspec.Struct, frozen=True):
    """What a receiver did: what it inserted, in order, and which models' types it left cached."""

    models: list[tuple[object, ...]]
    types: tuple[str, ...]
    #: The name of each permission, the model of its type, its codename.
    permissions: tuple[tuple[str, str, str], ...]
    cached: tuple[str, ...]


def repeat_receivers() -> Callable[[], None]:
    """Do again, instead of Django, what it does after each flush; return the undoing."""
    from django.apps import apps
    from django.db.models.signals import post_migrate

    if not apps.is_installed("django.contrib.contenttypes"):
        return _nothing
    from django.contrib.contenttypes.management import create_contenttypes

    known: list[Receiver] = [create_contenttypes]
    if apps.is_installed("django.contrib.auth"):
        from django.contrib.auth.management import create_permissions

        known.append(create_permissions)
    ours = {receiver: _repeating(receiver) for receiver in known}
    theirs = {replacement: receiver for receiver, replacement in ours.items()}
    _replace(post_migrate, ours)
    return lambda: _replace(post_migrate, theirs)


def _nothing() -> None:
    """Undo nothing."""


def _replace(signal: _Signal, others: dict[Receiver, Receiver]) -> None:
    """Put others into the place of receivers, which no public method does: it keeps their order."""
    with signal.lock:
        for index, entry in enumerate(signal.receivers):
            reference = entry[1]
            found = reference() if isinstance(reference, weakref.ref) else reference
            other = others.get(found) if callable(found) else None
            if other is not None:
                # Held by `_kept`, as Django holds it by a weak reference.
                _kept.add(other)
                signal.receivers[index] = (entry[0], weakref.ref(other), *entry[2:])
        signal.sender_receivers_cache.clear()


_kept: set[Receiver] = set()


def _repeating(original: Receiver) -> Receiver:
    known: dict[tuple[str, str], dict[object, _Done]] = {}

    def receiver(**named: object) -> object:
        alias = str(named.get("using"))
        tables = _Tables(alias) if _is_plain(named) else None
        if tables is None or not tables.are_usual():
            return original(**named)
        app = cast("_App", named["app_config"])
        label, models = app.label, [_granted(model) for model in app.get_models()]
        before = tables.of(label)
        begun = known.setdefault((label, alias), {})
        state = (tuple(before.types), before.permissions)
        done = begun.get(state)
        if done is not None and done.models == models:
            tables.repeat(label, before, done)
            return None
        numbers = tables.last_numbers()
        result = original(**named)
        done = tables.done(label, models, before, numbers)
        if done is not None:
            while len(begun) >= _KEPT:
                del begun[next(iter(begun))]
            begun[state] = done
        return result

    return receiver


def _granted(model: type) -> tuple[object, ...]:
    """Return a model with what its permissions are made of."""
    options: _Options = model._meta  # type: ignore[attr-defined]  # noqa: SLF001  # its public name
    default, further = tuple(options.default_permissions), tuple(options.permissions)
    return model, default, further, options.verbose_name_raw


def _is_plain(named: dict[str, object]) -> bool:
    app = named.get("app_config")
    return (
        named.keys() == _OF_A_FLUSH
        and named["verbosity"] == 0
        and getattr(app, "models_module", None) is not None
    )


class _Tables:
    """The tables of content types and permissions in one database."""

    def __init__(self, alias: str) -> None:
        from django.apps import apps
        from django.contrib.contenttypes.models import ContentType
        from django.db import connections

        self._alias = alias
        self._connection = connections[alias]
        self._type = ContentType
        self._permission = None
        if apps.is_installed("django.contrib.auth"):
            from django.contrib.auth.models import Permission

            self._permission = Permission

    def are_usual(self) -> bool:
        """Tell whether they are in this database, SQLite's, and have the columns Django gives."""
        from django.db import router

        if self._connection.vendor != "sqlite" or self._connection.in_atomic_block:
            return False
        return all(
            router.allow_migrate_model(self._alias, model)
            and tuple(sorted(f.column for f in model._meta.local_concrete_fields)) == columns  # noqa: SLF001  # its public name
            for model, columns in ((self._type, _TYPE), (self._permission, _PERMISSION))
            if model is not None
        )

    def of(self, label: str) -> _Found:
        """Return what is there of an app."""
        types, permissions = self._names()
        rows = self._rows(f"SELECT model, id FROM {types} WHERE app_label = %s ORDER BY id", label)
        if permissions is None or not rows:
            return _Found({str(model): int(str(number)) for model, number in rows}, frozenset())
        pairs = self._rows(
            f"SELECT t.model, p.codename FROM {permissions} p JOIN {types} t "
            "ON p.content_type_id = t.id WHERE t.app_label = %s",
            label,
        )
        return _Found(
            {str(model): int(str(number)) for model, number in rows},
            frozenset((str(model), str(codename)) for model, codename in pairs),
        )

    def last_numbers(self) -> tuple[int, int]:
        """Return the last numbers that types and permissions were given."""
        rows = self._rows("SELECT name, seq FROM sqlite_sequence")
        last = {str(name): int(str(number)) for name, number in rows}
        of_permissions = "" if self._permission is None else self._permission._meta.db_table  # noqa: SLF001  # Django's public name
        return last.get(self._type._meta.db_table, 0), last.get(of_permissions, 0)  # noqa: SLF001  # Django's public name

    def done(
        self, label: str, models: list[tuple[object, ...]], before: _Found, numbers: tuple[int, int]
    ) -> _Done | None:
        """Return what Django has done to an app since; None if it is not to be repeated."""
        types, permissions = self._names()
        # Whatever was written since, also of other apps: that would be somebody else's work.
        new = self._rows(
            f"SELECT id, app_label, model FROM {types} WHERE id > %s ORDER BY id", numbers[0]
        )
        expected = [(numbers[0] + turn, label) for turn in range(1, len(new) + 1)]
        if [(number, app) for number, app, _ in new] != expected:
            return None
        granted: list[tuple[object, ...]] = []
        if permissions is not None:
            granted = self._rows(
                f"SELECT p.id, t.app_label, p.name, t.model, p.codename FROM {permissions} p "
                f"LEFT JOIN {types} t ON p.content_type_id = t.id WHERE p.id > %s ORDER BY p.id",
                numbers[1],
            )
        expected = [(numbers[1] + turn, label) for turn in range(1, len(granted) + 1)]
        if [(number, app) for number, app, *_ in granted] != expected:
            return None
        cache = self._type.objects._cache.get(self._alias, {})  # noqa: SLF001  # there is no public way
        cached = [kind for key, kind in cache.items() if isinstance(key, int)]
        if any(kind.app_label != label for kind in cached):
            return None
        return _Done(
            models,
            tuple(str(model) for _, _, model in new),
            tuple((str(name), str(model), str(code)) for _, _, name, model, code in granted),
            tuple(kind.model for kind in cached),
        )

    def repeat(self, label: str, before: _Found, done: _Done) -> None:
        """Do it again."""
        from django.db.transaction import atomic

        numbers = dict(before.types)
        if done.types or done.permissions:
            types, permissions = self._names()
            last_type, last_permission = self.last_numbers()
            numbers |= {model: last_type + turn for turn, model in enumerate(done.types, 1)}
            with atomic(self._alias), self._connection.cursor() as cursor:
                cursor.executemany(
                    f"INSERT INTO {types} (id, app_label, model) VALUES (%s, %s, %s)",
                    [(numbers[model], label, model) for model in done.types],
                )
                if done.permissions:
                    cursor.executemany(
                        f"INSERT INTO {permissions} (id, name, content_type_id, codename) "
                        "VALUES (%s, %s, %s, %s)",
                        [
                            (last_permission + turn, name, numbers[model], codename)
                            for turn, (name, model, codename) in enumerate(done.permissions, 1)
                        ],
                    )
        manager = self._type.objects
        manager.clear_cache()
        for model in done.cached:
            kind = self._type.from_db(self._alias, _TYPE, (label, numbers[model], model))
            manager._add_to_cache(self._alias, kind)  # noqa: SLF001  # there is no public way

    def _rows(self, sql: str, *parameters: object) -> list[tuple[object, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            rows: list[tuple[object, ...]] = cursor.fetchall()
            return rows

    def _names(self) -> tuple[str, str | None]:
        quote = self._connection.ops.quote_name
        permission = self._permission
        return (
            quote(self._type._meta.db_table),  # noqa: SLF001  # its public name
            None if permission is None else quote(permission._meta.db_table),  # noqa: SLF001  # Django's public name
        )
