"""What was found in a project; paths are relative to its folder, with `/`."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

#: What a name stands for that holds tables of SQLAlchemy.
Holder: TypeAlias = Literal["declarative base", "MetaData", "Flask-SQLAlchemy", "SQLModel"]


class PytestFact(msgspec.Struct, frozen=True):
    """Where pytest's settings are, and what they say of workers; None where nothing."""

    path: str
    addopts: tuple[str, ...] = ()
    workers: str | None = None
    dist: str | None = None


class AlembicFact(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration of Alembic, with its env.py."""

    path: str
    #: How many files its version locations have.
    revisions: int
    env: str
    #: Environment variables in env.py and its imports that look like the URL of a database.
    variables: tuple[str, ...] = ()
    #: Keys that env.py takes from `get_x_argument`.
    x_keys: tuple[str, ...] = ()
    #: Whether env.py makes an asynchronous engine.
    asynchronous: bool = False
    #: Why it can't be used; empty where it can.
    fault: str = ""


class MetadataFact(msgspec.Struct, frozen=True, kw_only=True):
    """A holder of tables: where it is defined, and from where all its tables can be imported."""

    path: str
    line: int
    name: str
    kind: Holder
    tables: int
    #: `module:attribute` whose import brings the most tables; empty where none can be imported.
    target: str
    #: Files with tables that importing the target does not bring.
    missing: tuple[str, ...] = ()


class ScriptFact(msgspec.Struct, frozen=True):
    """A script of SQL: how many statements make tables, and whether any inserts rows.

    `defines` is whether it makes anything else than rows, a view or trigger say; the body of a
    trigger may insert, too.
    """

    path: str
    creates: int
    inserts: bool
    defines: bool = True


class FileFact(msgspec.Struct, frozen=True):
    """An SQLite database; `size` in bytes."""

    path: str
    size: int


class FixtureFact(msgspec.Struct, frozen=True):
    """A fixture that makes a database: which call shows it, and what to use instead."""

    path: str
    line: int
    name: str
    does: str
    advice: str


class EngineFact(msgspec.Struct, frozen=True, kw_only=True):
    """A call that makes an SQLAlchemy engine of a database in memory.

    `pool` is the class that is given as `poolclass`, empty where none is.
    """

    path: str
    line: int
    function: str
    url: str
    pool: str


class DjangoFact(msgspec.Struct, frozen=True):
    """A Django project: its settings, which file names them, and whether they name SQLite."""

    settings: str
    path: str
    sqlite: bool


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was found in a project."""

    pytest: PytestFact | None = None
    alembic: tuple[AlembicFact, ...] = ()
    metadata: tuple[MetadataFact, ...] = ()
    scripts: tuple[ScriptFact, ...] = ()
    files: tuple[FileFact, ...] = ()
    fixtures: tuple[FixtureFact, ...] = ()
    engines: tuple[EngineFact, ...] = ()
    django: DjangoFact | None = None
    #: How many Python files were read.
    modules: int = 0
    #: What kept something from being seen.
    notes: tuple[str, ...] = ()
