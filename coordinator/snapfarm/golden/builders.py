"""The builders of a golden database: an existing file, SQL scripts, Python callables, and others.

A builder is two methods, `fingerprint` and `build`; `builders_of` makes those of one golden
database, in the order in which they run: `file`, `alembic`, `metadata`, `schema`, `seed`.
"""

from __future__ import annotations

import glob
import inspect
import os
import sqlite3
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from snapfarm.config import FarmConfig
from snapfarm.config_golden import GoldenConfig, is_script
from snapfarm.errors import ConfigError, GoldenBuildError, InternalError
from snapfarm.golden.django_builder import DjangoBuilder
from snapfarm.golden.files import backup_file
from snapfarm.golden.hashing import file_hash, matching, shown
from snapfarm.golden.metadata import MetadataBuilder
from snapfarm.golden.migrations import AlembicBuilder
from snapfarm.golden.order import Below, Caller, Shipped
from snapfarm.golden.scripts import run_script
from snapfarm.golden.sources import project_search, source_parts
from snapfarm.golden.usercode import attribute, raised, reclaim, user_traceback

#: Called by a builder with the line that it is about to run.
LineReached = Callable[[int], None]


class Builder(Protocol):
    """One step of building a golden database."""

    @property
    def title(self) -> str:
        """How messages name this builder: a path, or `module:function`."""

    def fingerprint(self) -> Mapping[str, str]:
        """Return what the result depends on: the name of each input -> the hash of its content.

        Runs in the coordinator, so it may neither import nor run user code.
        """

    def build(self, conn: sqlite3.Connection, reached: LineReached) -> Sequence[str]:
        """Add to the database and return notes for the user.

        Runs in the builder process. The connection is in autocommit mode with no transaction
        open, and has to be so afterwards. Raises GoldenBuildError.
        """


class FileBuilder:
    """Starts from an existing SQLite file, whose content is copied and which is never written."""

    def __init__(self, path: Path, root: Path) -> None:
        self.path = path
        self.title = shown(path, root)

    def fingerprint(self) -> Mapping[str, str]:
        """Return the hashes of the file and of the journals beside it that hold content."""
        parts = {f"file {self.title}": file_hash(self.path)}
        for suffix in ("-wal", "-journal"):
            journal = self.path.with_name(self.path.name + suffix)
            if journal.is_file() and journal.stat().st_size:
                parts[f"file {self.title}{suffix}"] = file_hash(journal)
        return parts

    def build(self, conn: sqlite3.Connection, reached: LineReached) -> Sequence[str]:
        """Copy the file's content into the (still empty) database."""
        backup_file(self.path, conn, self.title)
        return ()


class GroundBuilder:
    """Starts a layer from what it is built on."""

    def __init__(self, below: Below, image: Path) -> None:
        self.title = below.title
        self.digest = below.digest
        self.image = image

    def fingerprint(self) -> Mapping[str, str]:
        """Return the digest of what is below: a layer of another ground is another layer."""
        return {self.title: self.digest}

    def build(self, conn: sqlite3.Connection, reached: LineReached) -> Sequence[str]:
        """Copy the content of the image into the (still empty) database."""
        backup_file(self.image, conn, self.title)
        return ()


class ScriptBuilder:
    """Runs an SQL script, statement by statement."""

    def __init__(self, path: Path, root: Path) -> None:
        self.path = path
        self.title = shown(path, root)

    def fingerprint(self) -> Mapping[str, str]:
        """Return the hash of the script."""
        return {f"script {self.title}": file_hash(self.path)}

    def build(self, conn: sqlite3.Connection, reached: LineReached) -> Sequence[str]:
        """Run the script; a transaction that it leaves open is committed and noted."""
        run_script(conn, self.path, self.title, reached)
        if conn.in_transaction:
            conn.execute("COMMIT")
            return (f"{self.title} left a transaction open: it was committed",)
        return ()


class CallableBuilder:
    """Calls `module:function` with the connection."""

    def __init__(self, entry: str, root: Path, search: Sequence[str]) -> None:
        self.title = entry
        self.root = root
        self.search = search

    def fingerprint(self) -> Mapping[str, str]:
        """Return the hashes of the module and of the project's modules that it imports."""
        return source_parts(self.title.partition(":")[0], self.root, self.search)

    def build(self, conn: sqlite3.Connection, reached: LineReached) -> Sequence[str]:
        """Call the function; what it leaves uncommitted is committed and noted."""
        function = self._resolved()
        # The mode that sqlite3.connect() has by default, which user code is written for.
        conn.isolation_level = ""  # type: ignore[assignment]  # its stub lacks the default
        self._call(function, conn)
        if reclaim(conn, f"callable {self.title}"):
            return (f"callable {self.title} left changes uncommitted: they were committed",)
        return ()

    def _call(self, function: Callable[[sqlite3.Connection], object], conn: object) -> None:
        builder = os.getpid()
        try:
            result = function(conn)  # type: ignore[arg-type]  # user code says what it takes
        except BaseException as error:
            if os.getpid() != builder:
                traceback.print_exc()
                os._exit(1)
            raise GoldenBuildError(
                f"callable {self.title} {raised(error)}\n{user_traceback(error)}"
            ) from None
        if os.getpid() != builder:
            # A child that the callable forked came back here instead of ending. There must be
            # one builder only, and what the child has to say is none of the parent's business.
            os._exit(0)
        if inspect.iscoroutine(result):
            result.close()
            raise GoldenBuildError(
                f"callable {self.title} is async, its body never ran: pass a plain function that "
                f"calls asyncio.run()"
            )
        if inspect.isgenerator(result) or inspect.isasyncgen(result):
            raise GoldenBuildError(
                f"callable {self.title} is a generator, its body never ran: pass a plain function"
            )

    def _resolved(self) -> Callable[[sqlite3.Connection], object]:
        found = attribute(f"callable {self.title}", self.title, self.root)
        if not callable(found):
            raise GoldenBuildError(
                f"callable {self.title} is no function but {type(found).__name__}"
            )
        return found


class ShippedBuilder(CallableBuilder):
    """Calls a function that came as data, since the builder process can't import it."""

    def __init__(self, shipped: Shipped, root: Path, search: Sequence[str]) -> None:
        super().__init__(shipped.title, root, search)
        self.data = shipped.data

    def fingerprint(self) -> Mapping[str, str]:
        """Refuse: equal functions may have different data, and the other way round."""
        raise InternalError(f"callable {self.title} has no fingerprint: it travels as data")

    def _resolved(self) -> Callable[[sqlite3.Connection], object]:
        import dill  # only here: it takes longer to import than most goldens take to build

        try:
            # By default, dill looks for classes of the caller's script in the builder's.
            found: object = dill.loads(self.data, ignore=True)
        except BaseException as error:
            raise GoldenBuildError(
                f"callable {self.title} can't be loaded by the builder process, which "
                f"{raised(error)}\n{user_traceback(error)}"
            ) from None
        if not callable(found):
            raise GoldenBuildError(
                f"callable {self.title} came to the builder process as {type(found).__name__}"
            )
        return found


def builders_of(
    config: FarmConfig,
    golden: GoldenConfig,
    caller: Caller | None = None,
    *,
    below: Below | None = None,
    ground: Path | None = None,
    scratch: Path | None = None,
) -> tuple[Builder, ...]:
    """Return the builders of a golden database, or of a layer, in the order in which they run.

    `caller` is the Python code that asks for it, if any does; `scratch` is where builders put
    temporary files; a layer lies on what is `below`, whose image is in the file `ground`.
    Raises ConfigError for a file that does not exist, with the key that names it.
    """
    root = config.root
    search = caller.search if caller is not None else project_search(root)
    shipped = caller.shipped if caller is not None else {}

    def named(key: str) -> str:
        if below is not None:
            return f"{below.where}.{key}"
        return f"{caller.call}: {key}" if caller is not None else _key(config, golden, key)

    builders: list[Builder] = []
    if golden.django is not None:
        builders.append(DjangoBuilder(golden.django, root, scratch))
    if below is not None:
        builders.append(GroundBuilder(below, ground or Path()))
    if golden.file is not None:
        path = root / golden.file
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise ConfigError(f"{named('file')}: {path} {what}; expected a SQLite database file")
        builders.append(FileBuilder(path, root))
    if golden.alembic is not None:
        builders.append(AlembicBuilder(golden.alembic, named("alembic"), root, search, scratch))
    if golden.metadata is not None:
        builders.append(MetadataBuilder(golden.metadata, root, search))
    for key, entries in (("schema", golden.schema), ("seed", golden.seed)):
        for index, entry in enumerate(entries):
            if is_script(entry):
                where = named(f"{key}[{index}]")
                builders += [ScriptBuilder(path, root) for path in _scripts(root / entry, where)]
            elif entry in shipped:
                builders.append(ShippedBuilder(shipped[entry], root, search))
            else:
                builders.append(CallableBuilder(entry, root, search))
    return tuple(builders)


def _scripts(path: Path, where: str) -> Iterable[Path]:
    if path.is_file():
        return (path,)
    if not glob.has_magic(str(path)):
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ConfigError(f"{where}: {path} {what}; expected an SQL script")
    found = matching(path)
    if not found:
        raise ConfigError(f"{where}: no file matches {path}; expected at least one SQL script")
    return found


def _key(config: FarmConfig, golden: GoldenConfig, key: str) -> str:
    if config.source is None:
        return f"golden.{golden.name}.{key}"
    prefix = "tool.farm." if config.source.name == "pyproject.toml" else ""
    return f"{config.source}: {prefix}golden.{golden.name}.{key}"
