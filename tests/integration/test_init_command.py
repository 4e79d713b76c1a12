"""`farm init` writes what builds, and says what it found, chose and left."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from snapfarm.config import load_config
from snapfarm.errors import EXIT_OK, EXIT_USAGE
from snapfarm.golden import obtain
from snapfarm.init_command import init
from support.golden_project import write_files

MODELS = """
from sqlalchemy import Column, Integer
from sqlalchemy.orm import DeclarativeBase

class Base(DeclarativeBase): pass

class User(Base):
    __tablename__ = "user"
    id = Column(Integer, primary_key=True)
"""
CONFTEST = """
import pytest
from app.models import Base

@pytest.fixture
def engine():
    engine = sa.create_engine("sqlite://")
    Base.metadata.create_all(engine)
"""


def farm_init(root: Path, *args: str) -> Result:
    return CliRunner().invoke(init, ["--root", str(root), *args])


def test_a_project_with_models_and_scripts(tmp_path: Path) -> None:
    write_files(
        tmp_path,
        {
            "pyproject.toml": "[tool.pytest.ini_options]\naddopts = '-n 3'",
            "app/models.py": MODELS,
            "conftest.py": CONFTEST,
            # The first choice of all, but it does not build.
            "alembic.ini": "[alembic]\nscript_location = migrations\n",
            "migrations/env.py": "raise ValueError('not here')\n",
            "migrations/versions/1.py": "revision, down_revision = '1', None\n",
            "dump.sql": "CREATE TABLE a(x);",
        },
    )
    shown = farm_init(tmp_path, "--dry-run")
    assert shown.exit_code == EXIT_OK
    assert "would be added to pyproject.toml\n[tool.farm]\n" in shown.stdout
    assert 'alembic = "alembic.ini"' in shown.stdout
    assert not (tmp_path / ".farm").exists()

    done = farm_init(tmp_path)
    assert done.exit_code == EXIT_OK, done.output
    assert "golden  default   8.2 kB   1 table   built " in done.stdout
    assert (
        "\nchosen\n  the tables of app.models:Base: it holds 1 table of SQLAlchemy" in done.stdout
    )
    assert (
        "  the migrations of alembic.ini: can't be built: golden database 'default'" in done.stdout
    )
    assert "  the SQL scripts in the project folder: possible too, but the tables of" in done.stdout
    _, _, last = done.stdout.partition("written: ")
    assert last.splitlines() == [
        "pyproject.toml, table [tool.farm]",
        "next",
        "  farm golden show",
        "  farm run",
        "  farm compare",
        "  pyproject.toml: take -n 3 out of addopts; farm run refuses it, and plain pytest shall "
        "be plain",
        "  conftest.py:6: fixture engine: use farm_engine, or farm_async_engine",
    ]
    config = load_config(tmp_path)
    assert (config.workers, config.source) == (3, tmp_path / "pyproject.toml")
    # What was built to see whether it can be is in the cache for the first run.
    (result,) = obtain(config)
    assert result.cached

    again = farm_init(tmp_path)
    assert again.exit_code == EXIT_USAGE
    assert "configures the farm already: change the table [tool.farm] there" in again.stderr


def test_nothing_is_written_where_nothing_builds(tmp_path: Path) -> None:
    write_files(tmp_path, {"dump.sql": "CREATE TABLE a(x); CREATE EXTENSION citext;"})
    failed = farm_init(tmp_path)
    assert failed.exit_code == EXIT_USAGE
    assert 'dump.sql, line 1: near "EXTENSION": syntax error' in failed.stdout
    assert "no golden database of this project could be built, so nothing was written" in (
        failed.stderr
    )
    assert not (tmp_path / "farm.toml").exists()

    done = farm_init(tmp_path, "--no-check")
    assert (done.exit_code, "written: farm.toml" in done.stdout) == (EXIT_OK, True)
    assert load_config(tmp_path).golden[0].schema == (str(tmp_path / "dump.sql"),)


def test_a_project_without_databases_is_run_in_parallel(tmp_path: Path) -> None:
    write_files(tmp_path, {"test_a.py": "def test_a(): pass\n"})
    done = farm_init(tmp_path)
    assert done.exit_code == EXIT_OK
    assert "found\n  nothing that makes a database\nwritten: farm.toml\n" in done.stdout
    config = load_config(tmp_path)
    assert (config.golden, config.source) == ((), tmp_path / "farm.toml")
