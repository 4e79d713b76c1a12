"""The builder that runs the migrations of Alembic, with the project's own env.py.

env.py files differ in where they take the database from. The golden database is a temporary file
here, since any engine can open that, and it is offered in each way that is in use:

    engine_from_config, get_main_option      the option `sqlalchemy.url`
    config.attributes["connection"]          a connection, which also answers `connect()`
    async_engine_from_config                 the option again, with the driver aiosqlite
    os.environ, settings of the application  `set_env` of the configuration
    context.get_x_argument()                 `x` of the configuration

An env.py that takes another database all the same is stopped before it is connected.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sqlite3
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from snapfarm.config_alembic import PLACES, AlembicConfig
from snapfarm.errors import GoldenBuildError
from snapfarm.golden.alembic_files import AlembicFiles, alembic_files, toml_beside
from snapfarm.golden.files import backup_file
from snapfarm.golden.hashing import file_hash, shown, text_hash
from snapfarm.golden.metadata import require
from snapfarm.golden.sources import file_parts, source_parts
from snapfarm.golden.usercode import project_traceback, raised
from snapfarm_worker.snapshot import quoted

if TYPE_CHECKING:
    import sqlalchemy as sa
    from alembic.config import Config

    from snapfarm.golden.builders import LineReached


_ADVICE = """\
  Where env.py does not get at the golden database: let it take the option sqlalchemy.url, or
  config.attributes["connection"]; or name the variable that it reads in the table `alembic`, as in
  set_env = { DATABASE_URL = "{url}" }, or "{async_url}" for an asynchronous engine."""


class _Elsewhere(Exception):
    """env.py was about to connect to another database, which the text names."""


class AlembicBuilder:
    """Upgrades the database, and keeps the stamps that Alembic leaves."""

    def __init__(
        self,
        alembic: AlembicConfig,
        where: str,
        root: Path,
        search: Sequence[str],
        scratch: Path | None = None,
    ) -> None:
        self.alembic = alembic
        self.root = root
        self.search = search
        #: The folder for the temporary file; who watches over the builder removes it.
        self.scratch = scratch
        self.title = f"alembic {shown(Path(alembic.config), root)}"
        self.files: AlembicFiles = alembic_files(where, alembic, root, search)

    def fingerprint(self) -> Mapping[str, str]:
        """Return the hashes of configuration, env.py, version scripts and what these import."""
        files, root = self.files, self.root
        search = (*files.prepended, *self.search)
        versions = files.versions()
        scripts = [path for path in versions if path.suffix == ".py"]
        alembic = self.alembic
        settings = [alembic.target, alembic.section, alembic.set_env, alembic.x]
        return {
            **source_parts("alembic", root, search),
            **source_parts("sqlalchemy", root, search),
            **{f"file {shown(path, root)}": file_hash(path) for path in files.configuration},
            # A hash: the variables may be secrets.
            "alembic settings": text_hash(json.dumps(settings, sort_keys=True)),
            **file_parts([files.env, *scripts], root, search),
            **{
                f"file {shown(path, root)}": file_hash(path)
                for path in versions
                if path.suffix != ".py"
            },
        }

    def build(self, conn: sqlite3.Connection, reached: LineReached) -> Sequence[str]:
        """Run `upgrade` on a file that has the content of the database, and take it over."""
        for module in ("sqlalchemy", "alembic"):
            require(module, self.title)
        with tempfile.TemporaryDirectory(prefix="snapfarm-alembic-", dir=self.scratch) as folder:
            path = Path(folder) / "golden.sqlite"
            with contextlib.closing(sqlite3.connect(path)) as file:
                conn.backup(file)
            elsewhere = self._upgrade(path)
            self._check(path, elsewhere)
            backup_file(path, conn, self.title)
        return tuple(f"{self.title}: {place} was not connected" for place in elsewhere)

    def _upgrade(self, path: Path) -> list[str]:
        """Run the migrations; return the other databases that somebody was kept from."""
        import sqlalchemy as sa

        urls = {
            driver: sa.URL.create(driver, database=str(path)).render_as_string()
            for driver in ("sqlite", "sqlite+aiosqlite")
        }
        places = dict(zip(PLACES, (*urls.values(), str(path)), strict=True))
        given = _filled(self.alembic.x, places)
        with _variables(_filled(self.alembic.set_env, places)), _only(path) as elsewhere:
            try:
                try:
                    self._run(urls["sqlite"], given)
                except sa.exc.InvalidRequestError as error:
                    if "async driver" not in str(error):
                        raise
                    require("aiosqlite", self.title)
                    self._run(urls["sqlite+aiosqlite"], given)
            except GoldenBuildError:
                raise
            except BaseException as error:
                if elsewhere:
                    raise self._missed(f"connects to {elsewhere[0]}") from None
                raise self._failed(error) from None
            return elsewhere

    def _run(self, url: str, given: Mapping[str, str]) -> None:
        import sqlalchemy as sa
        from alembic import command

        config = self._config()
        # What is set here goes through the interpolation of ConfigParser.
        config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
        if given:
            config.cmd_opts = argparse.Namespace(x=[f"{key}={text}" for key, text in given.items()])
        plain = sa.make_url(url).set(drivername="sqlite")
        engine = sa.create_engine(plain, poolclass=sa.NullPool)
        with _connection(engine) as shared:
            config.attributes["connection"] = shared
            command.upgrade(config, self.alembic.target)
            shared.commit()

    def _config(self) -> Config:
        from alembic.config import Config

        path = Path(self.alembic.config)
        ini = path if path.suffix != ".toml" else None
        toml = toml_beside(path)
        if toml is None:
            return Config(ini, ini_section=self.alembic.section)
        try:
            return Config(ini, toml_file=toml, ini_section=self.alembic.section)
        except TypeError:
            raise GoldenBuildError(
                f"{self.title}: this Alembic reads no {toml.name}: install Alembic 1.16 or later"
            ) from None

    def _failed(self, error: BaseException) -> GoldenBuildError:
        from alembic.util import CommandError

        ran = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        files = {os.path.realpath(frame.f_code.co_filename): frame for frame in ran}
        place = ""
        for path in self.files.versions():
            frame = files.get(os.path.realpath(path))
            if frame is not None:
                revision = frame.f_globals.get("revision")
                name = shown(path, self.root)
                place = f"revision {revision} ({name}) " if revision is not None else f"{name} "
            elif isinstance(error, SyntaxError) and error.filename == str(path):
                place = f"{shown(path, self.root)} "
        advice = ""
        if not place and os.path.realpath(self.files.env) in files:
            place = f"{self._env} "
            advice = f"{_ADVICE}\n" if not isinstance(error, CommandError) else ""
        text = f"{self.title}: {place}{raised(error)}\n{advice}"
        return GoldenBuildError(text + project_traceback(error))

    def _check(self, path: Path, elsewhere: Sequence[str]) -> None:
        with contextlib.closing(sqlite3.connect(path)) as conn:
            tables = [
                name
                for (name,) in conn.execute("SELECT name FROM sqlite_schema WHERE type='table'")
            ]
            stamped = any(
                [column[1] for column in conn.execute(f"PRAGMA table_info({quoted(name)})")]
                == ["version_num"]
                for name in tables
            )
        if not stamped and elsewhere:
            raise self._missed(f"connects to {elsewhere[0]}")
        if not stamped:
            raise self._missed(
                f"left no alembic_version in the golden database, whose tables are: "
                f"{', '.join(tables) or 'none'}"
            )

    def _missed(self, what: str) -> GoldenBuildError:
        return GoldenBuildError(f"{self.title}: {self._env} {what}.\n{_ADVICE}")

    @property
    def _env(self) -> str:
        return shown(self.files.env, self.root)


def _filled(texts: Mapping[str, str], places: Mapping[str, str]) -> dict[str, str]:
    """Return the texts with values for the places in them."""
    found = {}
    for name, text in texts.items():
        for place, value in places.items():
            text = text.replace(place, value)
        found[name] = text
    return found


@contextlib.contextmanager
def _variables(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            if name in before:
                os.environ[name] = before[name]
            else:
                os.environ.pop(name, None)


@contextlib.contextmanager
def _connection(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Open a connection for `config.attributes`, where some look for an engine."""
    import sqlalchemy as sa

    class Shared(sa.Connection):
        """A connection on which `connect()` gives the connection itself."""

        def connect(self) -> contextlib.AbstractContextManager[sa.Connection]:
            return contextlib.nullcontext(self)

    with Shared(engine) as shared:
        yield shared


@contextlib.contextmanager
def _only(path: Path) -> Iterator[list[str]]:
    """Stop every engine that is about to connect to another database; the list names these."""
    from sqlalchemy import Engine, event

    elsewhere: list[str] = []

    def connects(
        dialect: sa.Dialect,
        record: object,
        arguments: Sequence[object],
        options: Mapping[str, object],
    ) -> None:
        file = str(arguments[0]) if dialect.name == "sqlite" and arguments else ""
        file = file.removeprefix("file:").partition("?")[0] if file.startswith("file:") else file
        if file and os.path.realpath(file) == os.path.realpath(path):
            return
        place = file or options.get("database") or options.get("dbname") or options.get("db")
        host = f" on {options['host']}" if options.get("host") else ""
        elsewhere.append(f"another database, {place} ({dialect.name}{host})")
        raise _Elsewhere(elsewhere[-1])

    def connected(connection: sa.engine.interfaces.DBAPIConnection, record: object) -> None:
        # The file lives as long as the build: nothing is gained by waiting for the disk.
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous = OFF")
        cursor.close()

    event.listen(Engine, "do_connect", connects)
    event.listen(Engine, "connect", connected)
    try:
        yield elsewhere
    finally:
        event.remove(Engine, "do_connect", connects)
        event.remove(Engine, "connect", connected)
