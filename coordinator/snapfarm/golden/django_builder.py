"""The builder of Django's test databases: Django sets them up, as its own test runner would.

All SQLite databases of a project are set up at once, in the order that their dependencies ask for,
since a migration of one may write to another. The builders of the others take what is there then.
"""

from __future__ import annotations

import importlib
import os
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from snapfarm.config_django import DjangoGolden, DjangoProject
from snapfarm.errors import GoldenBuildError
from snapfarm.golden.usercode import project_traceback, raised
from snapfarm_worker import django_creation
from snapfarm_worker.django_shape import differences, shape

if TYPE_CHECKING:
    from snapfarm.golden.builders import LineReached
    from snapfarm_worker.django_creation import Connection, Creation


class DjangoBuilder:
    """Takes over one test database that Django has set up."""

    def __init__(self, golden: DjangoGolden, root: Path, scratch: Path | None) -> None:
        self.alias = golden.alias
        self.project = golden.project
        self.root = root
        self.scratch = scratch
        self.title = f"Django's database {golden.alias!r}"

    def fingerprint(self) -> Mapping[str, str]:
        """Return the project's settings and sources, and which of its databases this is."""
        project = self.project
        return {
            "Django alias": self.alias,
            "Django aliases": ", ".join(project.aliases),
            "Django settings": project.settings,
            "Django migrations": "run" if project.migrations else "not run",
            **{f"setting {name}": value for name, value in project.shape.items()},
            **project.sources,
        }

    def build(self, conn: sqlite3.Connection, reached: LineReached) -> Sequence[str]:
        """Copy the database, after all of the project have been set up by the first builder."""
        try:
            _set_up(self.project, self.scratch)
            _copy(self.alias, conn)
        except GoldenBuildError as error:
            raise GoldenBuildError(f"{self.title}: {error}") from None
        except BaseException as error:
            raise GoldenBuildError(
                f"{self.title}: {raised(error)}\n{project_traceback(error)}"
            ) from None
        return ()


#: The project whose databases this process has set up.
_done: list[DjangoProject] = []


def _set_up(project: DjangoProject, scratch: Path | None) -> None:
    if project in _done:
        return
    sys.path[:] = project.search
    os.chdir(project.directory)
    if os.environ.get("DJANGO_CONFIGURATION"):
        # Settings as classes; pytest-django loads them in this way too.
        importlib.import_module("configurations.importer").install()
    import django
    from django.conf import settings

    settings.DEBUG = False
    django.setup()
    if not project.migrations:
        settings.MIGRATION_MODULES = _NoMigrations()
    if differs := differences(project.shape, shape()):
        raise GoldenBuildError(
            f"the settings module {project.settings} alone does not make the databases that tests "
            f"have: {differs} differs in a process of its own, so a conftest may have changed it"
        )
    from django.test.utils import setup_databases, setup_test_environment

    setup_test_environment(debug=False)
    _keep_out_of(project)
    _depend_on_those_alone(project)
    creations = _Elsewhere(scratch)
    django_creation.install(creations)
    setup_databases(
        verbosity=0, interactive=False, aliases=set(project.aliases), serialized_aliases=set()
    )
    django_creation.uninstall(creations)
    _done.append(project)


class _NoMigrations:
    """What pytest-django's `--no-migrations` makes of MIGRATION_MODULES."""

    def __contains__(self, app: str) -> bool:
        return True

    def __getitem__(self, app: str) -> None:
        return None


class _Elsewhere:
    """Gives test databases of the builder places of their own, and runs all migrations."""

    def __init__(self, scratch: Path | None) -> None:
        self._scratch = scratch

    def replacement(self, creation: Creation, keepdb: bool) -> django_creation.Replacement | None:
        """Put a database that the project wants in a file into another file."""
        del keepdb
        name = creation._get_test_db_name()  # noqa: SLF001  # what backends override
        if creation.is_in_memory_db(name) or self._scratch is None:
            return None
        return _File(self._scratch / f"django-{len(list(self._scratch.iterdir()))}.sqlite")


class _File:
    def __init__(self, path: Path) -> None:
        self.name: str | None = str(path)

    def fill(self) -> bool:
        """Let migrations run."""
        return False


def _keep_out_of(project: DjangoProject) -> None:
    """Let nothing connect to a database that was not set up: it would be the real one."""
    from django.db import connections

    for alias in connections:
        connection = connections[alias]
        if alias in project.aliases or connection.settings_dict["TEST"]["MIRROR"] in (
            project.aliases
        ):
            continue

        def connect(alias: str = alias) -> None:
            raise GoldenBuildError(
                f"a migration uses the database {alias!r}, which snapfarm does not set up"
            )

        connection.connect = connect


def _depend_on_those_alone(project: DjangoProject) -> None:
    """Wait for no database that is left to Django; without a word, all wait for the default."""
    from django.db import DEFAULT_DB_ALIAS, connections

    for alias in project.aliases:
        test = connections[alias].settings_dict["TEST"]
        wanted = test.get("DEPENDENCIES", [] if alias == DEFAULT_DB_ALIAS else [DEFAULT_DB_ALIAS])
        test["DEPENDENCIES"] = [other for other in wanted if other in project.aliases]


def _copy(alias: str, conn: sqlite3.Connection) -> None:
    from django.db import connections

    connection: Connection = connections[alias]
    connection.ensure_connection()
    source = connection.connection
    if not isinstance(source, sqlite3.Connection):
        raise GoldenBuildError("its connections are none of Python's sqlite3")
    if source.in_transaction:
        raise GoldenBuildError("its migrations left a transaction open")
    source.backup(conn)
