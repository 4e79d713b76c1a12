"""Golden databases from SQLAlchemy's metadata, as applications declare it."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapfarm.errors import ConfigError, GoldenBuildError
from snapfarm.golden.handle import Golden
from snapfarm.golden.metadata import MetadataBuilder
from support.golden_project import build_golden, opened, write_files

MODELS = """
import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlmodel import Field, SQLModel

import meta_names


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = meta_names.TABLE
    id: Mapped[int] = mapped_column(primary_key=True)


@event.listens_for(User.__table__, "after_create")
def fill(target, connection, **options):
    connection.execute(target.insert(), [{"id": 1}])


class Hero(SQLModel, table=True):
    __tablename__ = "users"
    id: int = Field(primary_key=True)


metadata = sa.MetaData()
sa.Table("users", metadata, sa.Column("id", sa.Integer, primary_key=True))


class Holder:
    tables = metadata


db = SQLAlchemy()


class Account(db.Model):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)


empty = sa.MetaData()
foreign = sa.MetaData()
sa.Table("users", foreign, sa.Column("id", sa.Integer), schema="elsewhere")


def create_app():
    return db


@event.listens_for(sa.Engine, "connect")
def pragmas(connection, record):
    connection.execute("PRAGMA foreign_keys = ON")
"""

FILES = {
    "meta_models.py": MODELS,
    "meta_names.py": "TABLE = 'users'\n",
    "meta_broken.py": "raise LookupError('no settings')\n",
    "meta_seeds.py": "def add(conn):\n    conn.execute('INSERT INTO users VALUES (2)')\n",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose models this process can import."""
    root = tmp_path_factory.mktemp("project")
    write_files(root, FILES)
    sys.path.insert(0, str(root))
    yield root
    sys.path.remove(str(root))
    import sqlalchemy as sa

    if "meta_models" in sys.modules:
        sa.event.remove(sa.Engine, "connect", sys.modules["meta_models"].pragmas)
    for name in ("meta_models", "meta_names"):
        sys.modules.pop(name, None)


def builder(project: Path, entry: str) -> MetadataBuilder:
    return MetadataBuilder(entry, project, (str(project), *sys.path))


@pytest.mark.parametrize(
    "entry",
    ["Base", "User", "SQLModel", "metadata", "Holder.tables", "db"],
)
def test_what_applications_have(project: Path, entry: str) -> None:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        assert builder(project, f"meta_models:{entry}").build(conn, print) == ()
        assert conn.execute("SELECT name FROM sqlite_schema").fetchall() == [("users",)]
        assert not conn.in_transaction
        assert conn.execute("PRAGMA foreign_keys").fetchone() == (0,)
        with pytest.raises(sqlite3.OperationalError, match="no such function: REGEXP"):
            conn.execute("SELECT 'a' REGEXP 'a'")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("nowhere.models:Base", "there is no module 'nowhere' in /"),
        ("meta_broken:Base", "importing meta_broken raised LookupError: no settings"),
        ("meta_models:Bases", r"/meta_models\.py has no 'Bases'"),
        ("meta_models:create_app", "found a function: expected a MetaData"),
        ("meta_models:Holder", "found the class Holder: expected a MetaData, or what has one"),
        ("meta_models:empty", r"found a sqlalchemy\..*MetaData without any table: name a module"),
        ("meta_models:foreign", "create_all raised OperationalError: .*unknown database"),
    ],
)
def test_the_error_names_key_module_attribute_and_what_is_there(
    project: Path, entry: str, message: str
) -> None:
    with (
        contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as conn,
        pytest.raises(GoldenBuildError, match=f"^metadata {entry}: .*{message}"),
    ):
        builder(project, entry).build(conn, print)


def test_without_sqlalchemy(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "sqlalchemy")
    with (
        contextlib.closing(sqlite3.connect(":memory:")) as conn,
        pytest.raises(GoldenBuildError, match=r"needs sqlalchemy, which .* pip install sqlalchemy"),
    ):
        builder(project, "meta_models:Base").build(conn, print)


def test_the_fingerprint_has_models_what_they_import_and_the_version(project: Path) -> None:
    parts = builder(project, "meta_models:Base").fingerprint()
    assert {"module meta_models.py", "module meta_names.py", "package sqlalchemy"} <= parts.keys()


def test_tables_come_between_the_file_and_the_scripts(project: Path) -> None:
    with contextlib.closing(sqlite3.connect(project / "old.sqlite")) as conn:
        conn.execute("CREATE TABLE old (x)")
    built = build_golden(
        project,
        file=str(project / "old.sqlite"),
        metadata="meta_models:Base",
        seed=("meta_seeds:add",),
    )
    with opened(built.snapshot) as conn:
        assert conn.execute("SELECT id FROM users").fetchall() == [(1,), (2,)]
        assert conn.execute("SELECT count(*) FROM old").fetchone() == (0,)


def test_python_code_passes_the_class_or_its_name(project: Path) -> None:
    import meta_models  # type: ignore[import-not-found]  # made by the test

    golden = Golden.build(metadata=meta_models.Base, root=project)
    assert golden.manifest.rows == {"users": 1}
    assert Golden.build(metadata="meta_models:Base", root=project).cached
    with pytest.raises(ConfigError, match="metadata: expected module:attribute, or a class that"):
        Golden.build(metadata=meta_models.metadata, root=project)
    with pytest.raises(ConfigError, match="metadata: expected SQLAlchemy's tables as module:attr"):
        Golden.build(metadata="meta_models", root=project)
