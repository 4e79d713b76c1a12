"""Golden databases from migrations of Alembic, with env.py files as projects have them."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapfarm.config_alembic import AlembicConfig, alembic_config
from snapfarm.errors import ConfigError, GoldenBuildError
from snapfarm.golden.alembic_files import alembic_files
from snapfarm.golden.migrations import AlembicBuilder
from support.alembic_project import write_revisions, write_tests
from support.golden_project import build_golden, opened, write_files
from support.pytest_runs import Runs

#: Six revisions in two branches.
COUNT = 6
HEADS = {"catalog0003", "sales0003"}

RUN = """
def run(connection):
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""

HEAD = """
import asyncio
import os
import sqlalchemy as sa
from alembic import context
from sqlalchemy.ext.asyncio import async_engine_from_config, create_async_engine
"""

#: How env.py files get at their database, and what the configuration says for it.
ENVS: dict[str, tuple[str, dict[str, object]]] = {
    "the option": (
        """
        url = context.config.get_main_option("sqlalchemy.url")
        with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
            run(connection)
        """,
        {},
    ),
    "a connection": (
        """
        context.config.set_main_option("sqlalchemy.url", "sqlite:///of_the_app.sqlite")
        run(context.config.attributes["connection"])
        """,
        {},
    ),
    "a connection taken for an engine": (
        """
        with context.config.attributes["connection"].connect() as connection:
            run(connection)
        """,
        {},
    ),
    "an asynchronous engine": (
        """
        async def run_async():
            section = context.config.get_section(context.config.config_ini_section)
            engine = async_engine_from_config(section, prefix="sqlalchemy.")
            async with engine.connect() as connection:
                await connection.run_sync(run)
            await engine.dispose()
        asyncio.run(run_async())
        """,
        {},
    ),
    "a variable": (
        """
        url = os.environ["DATABASE_URL"]
        with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
            run(connection)
        """,
        {"set_env": {"DATABASE_URL": "{url}"}},
    ),
    "a variable, asynchronous": (
        """
        async def run_async():
            engine = create_async_engine(os.environ["DATABASE_URL"])
            async with engine.begin() as connection:
                await connection.run_sync(run)
            await engine.dispose()
        asyncio.run(run_async())
        """,
        {"set_env": {"DATABASE_URL": "{async_url}"}},
    ),
    "an argument": (
        """
        url = "sqlite:///" + context.get_x_argument(as_dictionary=True)["file"]
        with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
            run(connection)
        """,
        {"x": {"file": "{path}"}},
    ),
}

#: env.py files that do not use the golden database, and what the error says.
MISSED = {
    "a file of its own": (
        'run(sa.create_engine("sqlite:///of_the_app.sqlite").connect())',
        r"migrations/env\.py connects to another database, .*/of_the_app\.sqlite \(sqlite\)",
    ),
    "one that swallows what stops it": (
        """
        try:
            run(sa.create_engine("sqlite://").connect())
        except Exception:
            pass
        """,
        r"connects to another database, :memory: \(sqlite\)",
    ),
    "nothing at all": ("", r"left no alembic_version .*, whose tables are: none"),
    "a variable that is not set": (
        'os.environ["DATABASE_URL_OF_THE_APP"]',
        r"migrations/env\.py raised KeyError: 'DATABASE_URL_OF_THE_APP'",
    ),
    "a driver that is not there": (
        'run(sa.create_engine("postgresql+nodriver://localhost/shop").connect())',
        r"migrations/env\.py raised NoSuchModuleError",
    ),
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project whose migrations run in this process."""
    root = tmp_path / "a shop"
    write_revisions(root, COUNT)
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield root
    sys.modules.pop("shop", None)


def builder(root: Path, **keys: object) -> AlembicBuilder:
    alembic = alembic_config("alembic", keys, root)
    # A name that is awkward in a URL, and in the option that holds it.
    scratch = root / "50% off"
    scratch.mkdir(exist_ok=True)
    return AlembicBuilder(alembic, "alembic", root, (str(root), *sys.path), scratch)


def stamps(conn: sqlite3.Connection) -> set[str]:
    return {revision for (revision,) in conn.execute("SELECT version_num FROM alembic_version")}


@contextlib.contextmanager
def empty() -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        yield conn


def write_env(root: Path, text: str) -> None:
    write_files(root, {"migrations/env.py": HEAD + RUN + textwrap.dedent(text)})


@pytest.mark.parametrize("env", ENVS)
def test_an_env_that_gets_the_database_from(project: Path, env: str) -> None:
    text, keys = ENVS[env]
    write_env(project, text)
    before = dict(os.environ)
    with empty() as conn:
        assert builder(project, **keys).build(conn, print) == ()
        assert stamps(conn) == HEADS
        rows = conn.execute("SELECT name, price FROM sales_1").fetchall()
        assert rows == [("from sales0001", 1)]
    assert dict(os.environ) == before
    assert not list(project.rglob("*.sqlite"))


def test_another_database_that_is_not_needed_is_a_note(project: Path) -> None:
    probe = """
        try:
            sa.create_engine("sqlite:///cache.sqlite").connect()
        except Exception:
            pass
    """
    write_env(project, textwrap.dedent(probe) + textwrap.dedent(ENVS["the option"][0]))
    with empty() as conn:
        (note,) = builder(project).build(conn, print)
        assert stamps(conn) == HEADS
    assert note.endswith("/cache.sqlite (sqlite) was not connected")
    assert not (project / "cache.sqlite").exists()


@pytest.mark.parametrize("env", MISSED)
def test_an_env_that_misses_the_database(project: Path, env: str) -> None:
    text, message = MISSED[env]
    write_env(project, text)
    advice = 'in the table `alembic`, as in\n  set_env = { DATABASE_URL = "{url}" }'
    with empty() as conn, pytest.raises(GoldenBuildError, match=message) as caught:
        builder(project).build(conn, print)
    assert advice in str(caught.value)
    assert str(caught.value).startswith("alembic alembic.ini: ")
    assert not (project / "of_the_app.sqlite").exists()


@pytest.mark.parametrize(
    ("upgrade", "message"),
    [
        ("op.drop_table('none')", r"raised OperationalError: .*no such table: none"),
        ("1 / 0", "raised ZeroDivisionError: division by zero"),
    ],
)
def test_the_revision_that_fails_is_named(project: Path, upgrade: str, message: str) -> None:
    name = "migrations/sales/sales_0002.py"
    text = (project / name).read_text("utf-8").partition("def upgrade")[0]
    (project / name).write_text(f"{text}def upgrade():\n    {upgrade}\n", "utf-8")
    with (
        empty() as conn,
        pytest.raises(
            GoldenBuildError, match=rf"revision sales0002 \({name}\) {message}"
        ) as caught,
    ):
        builder(project).build(conn, print)
    text = str(caught.value)
    assert 'sales_0002.py", line' in text
    assert "site-packages" not in text
    assert "DATABASE_URL" not in text


def test_scripts_that_do_not_fit(project: Path) -> None:
    write_files(project, {"migrations/sales/sales_0009.py": "def upgrade(:\n"})
    with (
        empty() as conn,
        pytest.raises(
            GoldenBuildError, match=r"migrations/sales/sales_0009\.py raised SyntaxError"
        ),
    ):
        builder(project).build(conn, print)
    (project / "migrations/sales/sales_0009.py").unlink()
    with empty() as conn, pytest.raises(GoldenBuildError, match="Multiple head revisions"):
        builder(project, target="head").build(conn, print)


def test_an_older_database_is_upgraded_from_where_it_is(project: Path) -> None:
    with contextlib.closing(sqlite3.connect(project / "old.sqlite", isolation_level=None)) as conn:
        builder(project, target="catalog0001").build(conn, print)
        assert stamps(conn) == {"catalog0001"}
        conn.execute("UPDATE catalog_1 SET name = 'kept'")
    built = build_golden(
        project,
        file=str(project / "old.sqlite"),
        alembic=AlembicConfig(config=str(project / "alembic.ini")),
    )
    with opened(built.snapshot) as conn:
        assert stamps(conn) == HEADS
        assert conn.execute("SELECT name, price FROM catalog_1").fetchall() == [("kept", 1)]


def test_the_fingerprint(project: Path) -> None:
    write_files(
        project, {"migrations/sales/rows.sql": "--", "migrations/sales/__pycache__/x.pyc": ""}
    )
    parts = builder(project).fingerprint()
    versions = [f"migrations/{b}/{b}_{n:04}.py" for b in ("catalog", "sales") for n in (1, 2, 3)]
    assert {name for name in parts if not name.startswith("package")} == {
        "alembic settings",
        "file alembic.ini",
        "file migrations/sales/rows.sql",
        "module migrations/env.py",
        "module shop.py",
        *(f"module {name}" for name in versions),
    }
    assert {"package alembic", "package sqlalchemy"} <= parts.keys()
    for keys in ({"target": "catalog@head"}, {"set_env": {"A": "b"}}, {"x": {"A": "b"}}):
        changed = builder(project, **keys).fingerprint()
        assert {name for name in parts if parts[name] != changed[name]} == {"alembic settings"}


# ---------------------------------------------------------------- where the files are

INI = "[alembic]\nscript_location = {}\n"


@pytest.mark.filterwarnings("ignore:.*path_separator:DeprecationWarning")
@pytest.mark.parametrize(
    ("ini", "toml", "locations", "prepended"),
    [
        (INI.format("m"), "", ["m/versions"], []),
        (INI.format("%(here)s/m") + "version_locations = %(here)s/a, b c\n", "", list("abc"), []),
        (
            INI.format("m") + "version_locations = a;b\nversion_path_separator = ;\n",
            "",
            ["a", "b"],
            [],
        ),
        (
            INI.format("m") + "version_locations =\n  a x\n  b\npath_separator = newline\n",
            "",
            ["a x", "b"],
            [],
        ),
        (
            INI.format("pack:m") + "prepend_sys_path = .:src\n",
            "",
            ["src/pack/m/versions"],
            ["", "src"],
        ),
        ("[loggers]\nkeys = root\n", "script_location = '%(here)s/m'", ["m/versions"], []),
        (
            "",
            "script_location = 'm'\nversion_locations = ['a', 'b']\nprepend_sys_path = ['src']",
            ["a", "b"],
            ["src"],
        ),
    ],
)
def test_files_are_where_alembic_looks(
    tmp_path: Path, ini: str, toml: str, locations: list[str], prepended: list[str]
) -> None:
    write_files(tmp_path, {"m/env.py": "", "src/pack/__init__.py": "", "src/pack/m/env.py": ""})
    if toml:
        write_files(tmp_path, {"pyproject.toml": f"[tool.alembic]\n{toml}\n"})
    if ini:
        write_files(tmp_path, {"alembic.ini": ini})
    config = tmp_path / ("alembic.ini" if ini else "pyproject.toml")
    files = alembic_files("alembic", AlembicConfig(config=str(config)), tmp_path, (str(tmp_path),))
    assert files.locations == tuple(tmp_path / name for name in locations)
    assert files.prepended == tuple(os.path.normpath(tmp_path / name) for name in prepended)

    # Alembic itself is the oracle.
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    with contextlib.chdir(tmp_path):
        path, sys.path[:] = list(sys.path), [str(tmp_path / "src"), *sys.path]
        try:
            oracle = ScriptDirectory.from_config(
                Config(config if ini else None, toml_file=tmp_path / "pyproject.toml")
            )
            theirs = [Path(each).absolute() for each in oracle._version_locations]
        finally:
            sys.path[:] = path
            sys.modules.pop("pack", None)
    assert tuple(theirs) == files.locations


@pytest.mark.parametrize(
    ("files", "config", "message"),
    [
        ({}, "alembic.ini", r"alembic\.ini does not exist; expected the configuration of Alembic"),
        ({"alembic.ini": "[db]\n"}, "alembic.ini", r"has no section \[alembic\]"),
        ({"alembic.ini": "[alembic]\n"}, "alembic.ini", "has no key script_location"),
        ({"alembic.ini": "[alembic]\na"}, "alembic.ini", r"is no alembic\.ini"),
        ({"alembic.ini": INI.format("%(x)s")}, "alembic.ini", "script_location of Alembic: "),
        ({"alembic.ini": INI.format("m")}, "alembic.ini", r"m/env\.py does not exist"),
        ({"pyproject.toml": "[tool]\n"}, "pyproject.toml", r"has no table \[tool\.alembic\]"),
    ],
)
def test_what_is_not_there_is_named(
    tmp_path: Path, files: dict[str, str], config: str, message: str
) -> None:
    write_files(tmp_path, files)
    with pytest.raises(ConfigError, match=f"^here: .*{message}"):
        alembic_files("here", AlembicConfig(config=str(tmp_path / config)), tmp_path, ())


# ---------------------------------------------------------------- a whole suite


def test_a_suite_on_migrations_passes_alike_with_a_farm_and_without(tmp_path: Path) -> None:
    tmp_path = tmp_path / "shop"
    write_revisions(tmp_path)
    write_tests(tmp_path, 20)
    plain, farm = Runs(tmp_path).compare("-q", env={"FARM_START_METHOD": "fork"})
    assert plain.shown == farm.shown
    assert farm.counts == "1 failed, 19 passed", farm.text
