"""Brings a Django database back to its golden state where Django would flush it after a test.

A flush leaves the tables empty, but for what receivers of `post_migrate` put there; rows that data
migrations wrote are gone. Django's own remedy, `serialized_rollback`, keeps them as JSON and loads
that before each test.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snapfarm_worker.django_creation import Connection, Creation


def instead_of_flush(restored: Callable[[str], bool]) -> Callable[[], None]:
    """Let `restored(alias)` have the first say in each flush after a test; return the undoing."""
    from django.test import testcases

    original: Callable[..., object] = testcases.call_command

    def call_command(command: object, *args: object, **options: object) -> object:
        if command == "flush":
            alias = options.get("database")
            if isinstance(alias, str) and restored(alias):
                _forget_content_types()
                return None
        return original(command, *args, **options)

    def undo() -> None:
        testcases.call_command = original

    testcases.call_command = call_command
    return undo


def keep_no_json(creation: Creation) -> None:
    """Keep no rows of a database as JSON: each flush brings them back."""
    creation.serialize_db_to_string = lambda: "[]"


def copy_into(connection: Connection, source: sqlite3.Connection) -> None:
    """Overwrite the database of one of Django's connections; nobody may be in a transaction."""
    connection.ensure_connection()
    target = connection.connection
    assert isinstance(target, sqlite3.Connection)
    source.backup(target)


def close_for_good(connection: Connection) -> None:
    """Close a connection of Django's, also one to a database in memory."""
    from django.db.backends.base.base import BaseDatabaseWrapper

    BaseDatabaseWrapper.close(connection)


def _forget_content_types() -> None:
    """Forget what was cached of rows that are not there any more, as `flush` would."""
    from django.apps import apps

    if apps.is_installed("django.contrib.contenttypes"):
        from django.contrib.contenttypes.models import ContentType

        ContentType.objects.clear_cache()
