"""Writes the suites that are run: trivial tests, and tests that commit to a database."""

from __future__ import annotations

from pathlib import Path

from support import alembic_project
from support.golden_project import write_files

#: Tables of the database, and rows of each: 5 MB in all.
TABLES = 30
ROWS = 1_250

_INI = "[pytest]\naddopts = -q\n"

_FARM = '[golden.default]\nschema = ["golden:build"]\n'

_GOLDEN = f'''\
"""Builds the database: the same function for each way of giving it to a test."""

import random
import sqlite3

TABLES, ROWS = {TABLES}, {ROWS}
_random = random.Random(7)
_DATA = [
    (f"C{{n:06d}}", f"name {{_random.getrandbits(64):x}}", _random.random(), n % 97, "x" * 60)
    for n in range(ROWS)
]


def build(conn: sqlite3.Connection) -> None:
    for table in range(TABLES):
        parent = f"REFERENCES t{{table - 1}}(id)" if table else ""
        conn.execute(
            f"CREATE TABLE t{{table}}(id INTEGER PRIMARY KEY, code TEXT NOT NULL, name TEXT, "
            f"amount REAL, parent INTEGER {{parent}}, remark TEXT)"
        )
        conn.executemany(
            f"INSERT INTO t{{table}}(code, name, amount, parent, remark) "
            "VALUES (?, ?, ?, ? + 1, ?)",
            _DATA,
        )
        conn.execute(f"CREATE INDEX t{{table}}_code ON t{{table}}(code)")
    conn.commit()
'''

_CONFTEST = '''\
"""Gives tests their database in the way that BENCH_DATABASE names."""

import os
import shutil
import sqlite3

import golden
import pytest

if os.environ["BENCH_DATABASE"] == "farm":

    @pytest.fixture
    def db(farm_db):
        return farm_db

elif os.environ["BENCH_DATABASE"] == "template":

    @pytest.fixture(scope="session")
    def template(tmp_path_factory):
        path = tmp_path_factory.mktemp("template") / "template.sqlite"
        conn = sqlite3.connect(path)
        golden.build(conn)
        conn.close()
        return path

    @pytest.fixture
    def db(template):
        path = template.with_name("test.sqlite")
        shutil.copyfile(template, path)
        conn = sqlite3.connect(path)
        yield conn
        conn.close()
        path.unlink()

else:

    @pytest.fixture
    def db():
        conn = sqlite3.connect(":memory:")
        golden.build(conn)
        yield conn
        conn.close()
'''

_DATABASE_TEST = """
def test_{number}(db):
    db.execute("INSERT INTO t{table}(code, name) VALUES ('new', 'test {number}')")
    db.commit()
    assert db.execute("SELECT COUNT(*) FROM t{table}").fetchone()[0] == {rows} + 1
"""

_TRIVIAL_TEST = """
def test_{number}():
    assert {number} + 1 == {next}
"""


_ALEMBIC_CONFTEST = '''\
"""Gives tests their database in the way that BENCH_DATABASE names."""

import os
import shutil

import pytest
from alembic import command
from alembic.config import Config


def upgraded(path):
    url = f"sqlite:///{path}"
    config = Config("alembic.ini")
    config.set_main_option("sqlalchemy.url", url)
    command.upgrade(config, "heads")
    return url


if os.environ["BENCH_DATABASE"] == "upgrade":

    @pytest.fixture(autouse=True)
    def database(tmp_path_factory, monkeypatch):
        path = tmp_path_factory.getbasetemp() / "test.sqlite"
        monkeypatch.setenv("FARM_SQLALCHEMY_URL", upgraded(path))
        yield
        path.unlink()

elif os.environ["BENCH_DATABASE"] == "template":

    @pytest.fixture(scope="session")
    def template(tmp_path_factory):
        path = tmp_path_factory.mktemp("template") / "template.sqlite"
        upgraded(path)
        return path

    @pytest.fixture(autouse=True)
    def database(template, monkeypatch):
        path = template.with_name("test.sqlite")
        shutil.copyfile(template, path)
        monkeypatch.setenv("FARM_SQLALCHEMY_URL", f"sqlite:///{path}")
        yield
        path.unlink()
'''


def write_alembic(folder: Path, tests: int) -> None:
    """Write a project with 40 revisions, and tests that each commit and need a fresh database."""
    folder.mkdir()
    alembic_project.write_revisions(folder)
    alembic_project.write_tests(folder, tests, fails=None)
    write_files(
        folder,
        {
            "pytest.ini": _INI + "pythonpath = .\n",
            "conftest.py": _ALEMBIC_CONFTEST,
        },
    )


def write_trivial(folder: Path, tests: int, files: int) -> None:
    """Write tests that do nothing, so that all that is left is what a runner costs."""
    folder.mkdir()
    (folder / "pytest.ini").write_text(_INI)
    for index in range(files):
        numbers = range(index, tests, files)
        body = "\n".join(_TRIVIAL_TEST.format(number=n, next=n + 1) for n in numbers)
        (folder / f"test_trivial_{index:02}.py").write_text(body)


def write_database(folder: Path, tests: int, files: int) -> None:
    """Write tests that each commit to the database and need it as it was built."""
    folder.mkdir()
    (folder / "pytest.ini").write_text(_INI + "pythonpath = .\n")
    (folder / "farm.toml").write_text(_FARM)
    (folder / "golden.py").write_text(_GOLDEN)
    (folder / "conftest.py").write_text(_CONFTEST)
    for index in range(files):
        numbers = range(index, tests, files)
        body = "\n".join(
            _DATABASE_TEST.format(number=n, table=n % TABLES, rows=ROWS) for n in numbers
        )
        (folder / f"test_database_{index:02}.py").write_text(body)
