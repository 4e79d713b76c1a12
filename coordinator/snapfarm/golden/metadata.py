"""The builder that creates the tables of SQLAlchemy's metadata."""

from __future__ import annotations

import contextlib
import importlib.util
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from snapfarm.errors import GoldenBuildError
from snapfarm.golden.callables import kind_of
from snapfarm.golden.sources import source_parts
from snapfarm.golden.usercode import attribute, project_traceback, raised, user_traceback

if TYPE_CHECKING:
    import sqlalchemy as sa

    from snapfarm.golden.builders import LineReached


class MetadataBuilder:
    """Calls `create_all` of the MetaData that `module:attribute` is, or has."""

    def __init__(self, entry: str, root: Path, search: Sequence[str]) -> None:
        self.entry = entry
        self.root = root
        self.search = search
        self.title = f"metadata {entry}"

    def fingerprint(self) -> Mapping[str, str]:
        """Return the hashes of the module and of what it imports, and SQLAlchemy's version."""
        module = self.entry.partition(":")[0]
        return {
            **source_parts("sqlalchemy", self.root, self.search),
            **source_parts(module, self.root, self.search),
        }

    def build(self, conn: sqlite3.Connection, reached: LineReached) -> Sequence[str]:
        """Create the tables that are not there yet, through an engine."""
        require("sqlalchemy", self.title)
        metadata = self._metadata()
        try:
            # A connection of the engine's own: SQLAlchemy gives it functions that can't be taken
            # off, and applications often set pragmas on every connection of every engine.
            with contextlib.closing(sqlite3.connect(":memory:")) as own:
                conn.backup(own)
                _create(metadata, own)
                own.backup(conn)
        except BaseException as error:
            raise GoldenBuildError(
                f"{self.title}: create_all {raised(error)}\n{project_traceback(error)}"
            ) from None
        return ()

    def _metadata(self) -> sa.MetaData:
        import sqlalchemy as sa

        found = attribute(self.title, self.entry, self.root)
        try:
            inner: object = getattr(found, "metadata", None)
        except Exception as error:
            raise GoldenBuildError(
                f"{self.title}: its attribute `metadata` {raised(error)}\n{user_traceback(error)}"
            ) from None
        metadata = found if isinstance(found, sa.MetaData) else inner
        if not isinstance(metadata, sa.MetaData):
            raise GoldenBuildError(
                f"{self.title}: found {_shown(found)}: expected a MetaData, or what has one as its "
                f"attribute `metadata`: a declarative base, SQLModel, the db of Flask-SQLAlchemy"
            )
        if not metadata.tables:
            raise GoldenBuildError(
                f"{self.title}: found {_shown(found)} without any table: name a module that "
                f"imports all modules with models, such as app.models:Base"
            )
        return metadata


def require(module: str, title: str) -> None:
    """Check that a library is installed which a builder needs. Raises GoldenBuildError."""
    if module not in sys.modules and importlib.util.find_spec(module) is None:
        raise GoldenBuildError(
            f"{title}: needs {module}, which {sys.executable} does not have: python -m pip install "
            f"{module}"
        )


def _create(metadata: sa.MetaData, conn: sqlite3.Connection) -> None:
    import sqlalchemy as sa

    engine = sa.create_engine("sqlite://", creator=lambda: conn, poolclass=sa.StaticPool)
    # Not disposed of: that would close the connection.
    with engine.begin() as opened:
        metadata.create_all(opened)


def _shown(found: object) -> str:
    return f"the class {found.__qualname__}" if isinstance(found, type) else f"a {kind_of(found)}"
