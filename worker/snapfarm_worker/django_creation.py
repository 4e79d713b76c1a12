"""Stands in for `migrate` while Django sets up its test databases.

Django stays in charge: names, mirrors, dependencies, cache tables, serialization and whatever a
project's own set-up adds run as ever. Of `create_test_db` only one thing is different: where there
is a golden database that fits, its content takes the place of the call of `migrate`.

Works for each Django from 4.2 on: all of them look `call_command` up when they create a database.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from typing import Protocol

#: Who is told of each database that is about to be created; see `Creations`.
_listeners: list[Creations] = []


class Connection(Protocol):
    """What is used of Django's connections, which have no types."""

    alias: str
    vendor: str
    settings_dict: dict[str, object]
    connection: object

    def ensure_connection(self) -> None: ...

    def close(self) -> None: ...


class Creation(Protocol):
    """What is used of the object that creates the test database of a connection."""

    connection: Connection
    serialize_db_to_string: Callable[[], str]

    def _get_test_db_name(self) -> str: ...

    def is_in_memory_db(self, database_name: str) -> bool: ...


class Creations(Protocol):
    """Has a say in how test databases are created."""

    def replacement(self, creation: Creation, keepdb: bool) -> Replacement | None:
        """Return what takes the place of migrations; None leaves them to Django."""


class Replacement(Protocol):
    """Takes the place of migrations for one database."""

    #: What the test database is called instead of what Django would call it.
    name: str | None

    def fill(self) -> bool:
        """Give the database, which Django has made, its content; False lets migrations run."""


def install(creations: Creations) -> None:
    """Have a say from now on; the one who came last is asked first. Needs Django."""
    if not _listeners:
        _patch()
    _listeners.insert(0, creations)


def uninstall(creations: Creations) -> None:
    """Have no say any more."""
    _listeners.remove(creations)
    if not _listeners:
        _unpatch()


def is_set_up() -> bool:
    """Tell whether this process uses Django."""
    if "django.apps" not in sys.modules:
        return False
    from django.apps import apps

    return bool(apps.ready)


def undo_inherited_block() -> None:
    """Let this process connect again, if it was forked from one where pytest-django forbids it.

    The plugin of this process will forbid it anew, and takes what it finds for Django's own.
    """
    base = sys.modules.get("django.db.backends.base.base")
    if base is None:
        return
    blocker = getattr(base.BaseDatabaseWrapper.ensure_connection, "__self__", None)
    while blocker is not None and blocker.is_active:
        blocker.restore()


def is_sqlite(connection: Connection) -> bool:
    """Tell whether a connection of Django's is one of SQLite that creates databases as usual."""
    from django.db.backends.sqlite3.creation import DatabaseCreation

    return connection.vendor == "sqlite" and isinstance(
        getattr(connection, "creation", None), DatabaseCreation
    )


def import_management() -> None:
    """Import the `management` of each app, as `migrate` does: receivers register there."""
    from django.apps import apps

    for config in apps.get_app_configs():
        if importlib.util.find_spec(f"{config.name}.management") is not None:
            importlib.import_module(f"{config.name}.management")


_original: Callable[..., object] | None = None


def _patch() -> None:
    from django.db.backends.base.creation import BaseDatabaseCreation

    global _original  # the patch is as global as what it patches
    _original = BaseDatabaseCreation.create_test_db
    BaseDatabaseCreation.create_test_db = _create_test_db


def _unpatch() -> None:
    from django.db.backends.base.creation import BaseDatabaseCreation

    if BaseDatabaseCreation.create_test_db is _create_test_db:
        BaseDatabaseCreation.create_test_db = _original


def _create_test_db(
    self: Creation, verbosity: int = 1, autoclobber: bool = False, *args: object, **more: object
) -> object:
    """Stand in for `create_test_db`, whose further parameters differ between versions."""
    assert _original is not None
    keepdb = bool(more.get("keepdb", args[1] if len(args) > 1 else False))
    replacement = None
    if is_sqlite(self.connection):
        found = (each.replacement(self, keepdb) for each in _listeners)
        replacement = next((each for each in found if each is not None), None)
    if replacement is None:
        return _original(self, verbosity, autoclobber, *args, **more)
    with _named(self, replacement.name), _no_migrate(self.connection.alias, replacement):
        return _original(self, verbosity, autoclobber, *args, **more)


@contextlib.contextmanager
def _named(creation: Creation, name: str | None) -> Iterator[None]:
    if name is None:
        yield
        return
    creation._get_test_db_name = lambda: name  # type: ignore[method-assign]  # noqa: SLF001
    try:
        yield
    finally:
        del creation._get_test_db_name  # noqa: SLF001  # set above


@contextlib.contextmanager
def _no_migrate(alias: str, replacement: Replacement) -> Iterator[None]:
    from django.core import management

    original: Callable[..., object] = management.call_command

    filled = False

    def call_command(command: object, *args: object, **options: object) -> object:
        nonlocal filled
        if command == "migrate" and options.get("database") == alias and replacement.fill():
            filled = True
            import_management()
            return None
        if command == "createcachetable" and filled:
            options["verbosity"] = 0  # it would print that its tables are there already
        return original(command, *args, **options)

    management.call_command = call_command
    try:
        yield
    finally:
        management.call_command = original
