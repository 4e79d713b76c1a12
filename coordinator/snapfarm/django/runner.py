"""Django's test runner, with golden databases in the place of migrations.

It discovers, orders, distributes and reports as Django does. Only when test databases are created
it comes in: SQLite databases get the content of the golden ones, which are taken from the cache or
built once. `--parallel` clones them as ever, whatever the start method.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from django.test.runner import DiscoverRunner, ParallelTestSuite

from snapfarm.config import load_config
from snapfarm.errors import GoldenError, UserError
from snapfarm.golden import GoldenResult, describe, obtain
from snapfarm.golden.django_project import NotGolden, with_django
from snapfarm_worker import django_creation
from snapfarm_worker.courier import open_private
from snapfarm_worker.django_flush import copy_into, instead_of_flush, keep_no_json
from snapfarm_worker.django_receivers import repeat_receivers
from snapfarm_worker.django_shape import differences, shape

if TYPE_CHECKING:
    from snapfarm.config_django import DjangoGolden
    from snapfarm_worker.django_creation import Connection, Creation


class Images:
    """Golden databases by alias, each as a file: processes that tests are handed to open them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._undo: list[Callable[[], None]] = []
        self._restoring = False
        #: The aliases of databases whose test database was made from here.
        self.used: set[str] = set()

    def add(self, alias: str, data: bytes | bytearray) -> None:
        """Keep an image."""
        self._path(alias).write_bytes(data)

    def copy(self, connection: Connection) -> None:
        """Overwrite the database of a connection with the image of its alias."""
        data = self._path(connection.alias).read_bytes()
        with contextlib.closing(open_private(data)) as source:
            copy_into(connection, source)

    def restore_after_flush(self) -> None:
        """Restore databases where Django would flush them, from now on and in forked processes."""
        if not self._restoring:
            self._restoring = True
            self._undo.append(instead_of_flush(self._restored))

    def repeat_receivers(self) -> None:
        """Have flushes repeat what Django does after them, from now on and in forked processes."""
        self._undo.append(repeat_receivers())

    def remove(self) -> None:
        """Let flushes be, and remove the files."""
        while self._undo:
            self._undo.pop()()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _restored(self, alias: str) -> bool:
        if alias not in self.used:
            return False
        from django.db import connections

        self.copy(connections[alias])
        return True

    def _path(self, alias: str) -> Path:
        return self.folder / f"{alias.encode().hex()}.sqlite"


class _Creations:
    """Has the golden databases take the place of migrations."""

    def __init__(self, images: Images, goldens: dict[str, DjangoGolden]) -> None:
        self._images = images
        self._goldens = goldens

    def replacement(self, creation: Creation, keepdb: bool) -> django_creation.Replacement | None:
        """Return what takes the place of migrations of one database."""
        alias = creation.connection.alias
        golden = self._goldens.get(alias)
        if golden is None or differences(golden.project.shape, shape()):
            return None
        name = creation._get_test_db_name()  # noqa: SLF001  # what backends override
        if keepdb and not creation.is_in_memory_db(name) and Path(name).exists():
            return None  # it has been kept, with what is in it: Django migrates it further
        self._images.used.add(alias)
        if golden.restore:
            keep_no_json(creation)
        return _Filled(self._images, creation.connection)


class _Filled:
    name: str | None = None

    def __init__(self, images: Images, connection: Connection) -> None:
        self._images = images
        self._connection = connection

    def fill(self) -> bool:
        """Copy the image of the alias."""
        self._images.copy(self._connection)
        return True


def _set_up_process(folder: str = "", used: Iterable[str] = ()) -> None:
    """Set up a process of `--parallel` that was not forked; without a folder do nothing."""
    if folder:
        images = Images(Path(folder))
        images.used.update(used)
        images.restore_after_flush()


class FarmRunnerMixin:
    """Adds golden databases to a test runner: `class Runner(FarmRunnerMixin, MyRunner)`."""

    if TYPE_CHECKING:
        verbosity: int
        parallel_test_suite: type[ParallelTestSuite]

        def log(self, msg: str) -> None:
            """Print a line."""

    def __init__(
        self, *args: object, rebuild_golden: bool = False, use_golden: bool = True, **kwargs: object
    ) -> None:
        super().__init__(*args, **kwargs)
        self.rebuild_golden = rebuild_golden
        self.use_golden = use_golden
        self._images: Images | None = None
        suite = self.parallel_test_suite
        if suite.process_setup is ParallelTestSuite.process_setup:
            # Suites are made before databases are: what processes have to know comes later.
            self.parallel_test_suite = type(
                "FarmParallelTestSuite", (suite,), {"process_setup": _set_up_process}
            )

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the options of golden databases to those of `manage.py test`."""
        super().add_arguments(parser)  # type: ignore[misc]  # Django's runner follows in the MRO
        parser.add_argument(
            "--rebuild-golden",
            action="store_true",
            help="Build golden databases anew, not from the cache.",
        )
        parser.add_argument(
            "--no-golden",
            action="store_false",
            dest="use_golden",
            help="Run migrations, as Django's own runner does.",
        )

    def setup_databases(self, **kwargs: object) -> object:
        """Create the test databases, golden ones in the place of migrations."""
        create: Callable[..., object] = super().setup_databases  # type: ignore[misc]  # as above
        with self._golden():
            return create(**kwargs)

    def teardown_databases(self, old_config: object, **kwargs: object) -> None:
        """Destroy the test databases."""
        super().teardown_databases(old_config, **kwargs)  # type: ignore[misc]  # as above
        if self._images is not None:
            self._images.remove()
            self._images = None

    @contextlib.contextmanager
    def _golden(self) -> Iterator[None]:
        found = self._obtained() if self.use_golden else ()
        if not found:
            yield
            return
        images = self._images = Images(Path(tempfile.mkdtemp(prefix="snapfarm-django-")))
        goldens: dict[str, DjangoGolden] = {}
        for of, result in found:
            images.add(of.alias, result.snapshot.data)
            goldens[of.alias] = of
        if any(of.restore for of in goldens.values()):
            images.restore_after_flush()
            if self.parallel_test_suite.process_setup is _set_up_process:
                self.parallel_test_suite.process_setup_args = (str(images.folder), images.used)
        images.repeat_receivers()
        creations = _Creations(images, goldens)
        django_creation.install(creations)
        try:
            yield
        finally:
            django_creation.uninstall(creations)

    def _obtained(self) -> tuple[tuple[DjangoGolden, GoldenResult], ...]:
        config = load_config(Path.cwd())
        if config.django.use == "off":
            return ()
        try:
            # Whatever else is declared is for other tests than Django's.
            config = with_django(config, migrations=True)
            family = tuple(one for one in config.golden if one.django is not None)
            config = msgspec.structs.replace(config, golden=family)
            results = obtain(config, rebuild=self.rebuild_golden)
        except (NotGolden, GoldenError) as error:
            if config.django.use == "on":
                raise UserError(f"the databases of Django can't be golden ones: {error}") from None
            self._say(f"No golden databases, migrations run as ever, since {error}")
            return ()
        for result in results:
            self._say(describe(result))
        return tuple(
            (one.django, result)
            for one, result in zip(family, results, strict=True)
            if one.django is not None
        )

    def _say(self, text: str) -> None:
        if self.verbosity >= 1:
            self.log(text)


class FarmRunner(FarmRunnerMixin, DiscoverRunner):  # type: ignore[misc]  # Django has no types
    """Django's own runner, with golden databases."""
