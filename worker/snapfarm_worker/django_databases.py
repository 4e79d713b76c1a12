"""The golden databases of a Django project in a process that runs tests.

A test database in memory is a ring, under the ring's name: whatever joins it by Django's settings,
a thread, a mirror, a live server, is in the ring. One that the project puts into a file
(TEST.NAME) gets the content of the golden database there. Between tests Django rolls back and
flushes as ever; the farm resets nothing, but for what a project asks for (`restore`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from snapfarm_worker import django_creation
from snapfarm_worker.django_flush import close_for_good, copy_into, instead_of_flush, keep_no_json
from snapfarm_worker.django_live import stop_at_once
from snapfarm_worker.django_receivers import repeat_receivers
from snapfarm_worker.django_shape import differences, shape
from snapfarm_worker.warning import warn

if TYPE_CHECKING:
    from snapfarm_worker.django_creation import Connection, Creation
    from snapfarm_worker.ring import Ring
    from snapfarm_worker.wire import DjangoOrder


class Held:
    """A golden database of a Django project: its ring, and what tests do with it."""

    def __init__(self, order: DjangoOrder, ring: Ring) -> None:
        self.order = order
        self.ring = ring
        #: The file that has the content of the golden database; None where the ring is used.
        self.file: str | None = None
        #: Whether Django has set up its test database from it.
        self.used = False

    def begin_anew(self) -> None:
        """Be what Django makes a test database from, as before the first time."""
        if self.used:
            self.ring.reset()
        self.used, self.file = False, None

    def restore(self, connection: Connection) -> None:
        """Bring the test database back to the golden state; nobody may be in a transaction."""
        if self.file is not None:
            self.copy(connection)
        elif self.ring.reset().tier == "retired":
            # Django never closes a database in memory: that would be its end.
            close_for_good(connection)

    def copy(self, connection: Connection) -> None:
        """Copy the golden database over what the connection has, a file."""
        with contextlib.closing(self.ring.connect()) as source:
            copy_into(connection, source)


class _InMemory:
    """The ring is the test database."""

    def __init__(self, held: Held) -> None:
        self.name: str | None = held.ring.uri

    def fill(self) -> bool:
        """Do nothing: the ring has its content."""
        return True


class _InFile:
    """The golden database is copied into the file that Django has chosen."""

    name: str | None = None

    def __init__(self, held: Held, connection: Connection) -> None:
        self._held = held
        self._connection = connection

    def fill(self) -> bool:
        """Copy it."""
        self._held.copy(self._connection)
        return True


class DjangoDatabases:
    """The pytest plugin by which Django gets its test databases from the farm."""

    def __init__(self, held: Iterable[tuple[DjangoOrder, Ring]]) -> None:
        self._held = {order.alias: Held(order, ring) for order, ring in held}
        self._told = False
        #: The names of the databases and of their test databases in the settings, by alias.
        self._names: dict[str, tuple[str, str | None]] = {}
        self._undo: list[Callable[[], None]] = []

    # The set-up of databases is a fixture's: the first test that needs one calls for it.
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Have a say in the creation of databases while tests run."""
        if not django_creation.is_set_up():
            return (yield)
        self.install()
        try:
            return (yield)
        finally:
            self.uninstall()

    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[object]) -> None:
        """Let the databases be set up anew, should a test come after they were torn down.

        That happens on a farm where a worker is handed a test that it had not reckoned with.
        pytest-django would add the worker's name to the names of its files once more.
        """
        if fixturedef.argname == "django_db_setup":
            for held in self._held.values():
                held.begin_anew()
        elif fixturedef.argname == "django_db_modify_db_settings_xdist_suffix":
            self._restore_names()

    def install(self) -> None:
        """Take part from now on."""
        self._names = names()
        django_creation.install(self)
        self._undo.append(lambda: django_creation.uninstall(self))
        self._undo.append(repeat_receivers())
        self._undo.append(stop_at_once())
        if any(held.order.restore for held in self._held.values()):
            self._undo.append(instead_of_flush(self._restored))

    def _restore_names(self) -> None:
        from django.db import connections

        for alias, (name, test_name) in self._names.items():
            # Django leaves one that mirrors another with the other's name.
            connections[alias].settings_dict["NAME"] = name
            connections[alias].settings_dict["TEST"]["NAME"] = test_name

    def uninstall(self) -> None:
        """Leave Django as it was."""
        while self._undo:
            self._undo.pop()()

    def replacement(self, creation: Creation, keepdb: bool) -> django_creation.Replacement | None:
        """Return what takes the place of migrations, once for each database."""
        held = self._held.get(creation.connection.alias)
        if held is None or held.used or not self._fits(held):
            return None
        name = creation._get_test_db_name()  # noqa: SLF001  # what backends override
        in_memory = creation.is_in_memory_db(name)
        if keepdb and not in_memory and Path(name).exists():
            return None  # it has been kept, with what is in it: Django migrates it further
        held.used = True
        if held.order.restore:
            keep_no_json(creation)
        if in_memory:
            return _InMemory(held)
        held.file = name
        return _InFile(held, creation.connection)

    def _fits(self, held: Held) -> bool:
        """Tell whether the project is still the one that the database was made for."""
        if not (differs := differences(held.order.shape, shape())):
            return True
        if not self._told:
            self._told = True
            warn(
                f"snapfarm: Django migrates its test databases itself, since the golden ones do "
                f"not fit here: {differs} changed after the settings were loaded"
            )
        return False

    def _restored(self, alias: str) -> bool:
        """Restore a database instead of flushing it, where that was asked for."""
        held = self._held.get(alias)
        if held is None or not held.used or not held.order.restore:
            return False
        from django.db import connections

        held.restore(connections[alias])
        return True


def names() -> dict[str, tuple[str, str | None]]:
    """Return the names of the databases and of their test databases, as the settings have them."""
    from django.db import connections

    found = {alias: connections[alias].settings_dict for alias in connections}
    return {alias: (each["NAME"], each["TEST"]["NAME"]) for alias, each in found.items()}
