"""What `farm init` sees in a project, what it decides, and how it writes that."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from snapfarm.config import load_config
from snapfarm.errors import ConfigError
from snapfarm.init import syntax, writing
from snapfarm.init.choice import Candidate, Choice, choose
from snapfarm.init.facts import (
    AlembicFact,
    DjangoFact,
    Facts,
    FileFact,
    FixtureFact,
    MetadataFact,
    PytestFact,
    ScriptFact,
)
from snapfarm.init.survey import survey
from support.golden_project import write_files

# ---------------------------------------------------------------- a project's files


def test_models_in_several_modules_are_found_with_the_module_that_imports_them_all(
    tmp_path: Path,
) -> None:
    write_files(
        tmp_path,
        {
            "shop/__init__.py": "",
            "shop/base.py": "from sqlalchemy.orm import DeclarativeBase\n"
            "class Base(DeclarativeBase): pass\n",
            "shop/users.py": "from sqlalchemy.orm import Mapped, mapped_column\n"
            "from .base import Base\n"
            "class Dated(Base):\n    __abstract__ = True\n    at: Mapped[int] = mapped_column()\n"
            "class User(Dated):\n    __tablename__ = 'user'\n",
            "shop/bills.py": "from shop.base import Base\n"
            "from sqlalchemy import Table, Column\nclass Mixin:\n    x = Column()\n"
            "class Bill(Mixin, Base):\n    id = Column()\n"
            "links = Table('links', Base.metadata)\n",
            "shop/models.py": "from shop import users\nfrom shop.bills import Bill\n"
            "from shop.base import Base\n",
            "other.py": "import sqlalchemy as sa\nmetadata = sa.MetaData()\n"
            "a = sa.Table('a', metadata)\n",
            "alone.py": "from sqlalchemy.orm import declarative_base\nBase = declarative_base()\n"
            "class One(Base):\n    __tablename__ = 'one'\n",
            "tests/models.py": "from shop.base import Base\nclass T(Base):\n    __table__ = 1\n",
        },
    )
    facts = survey(tmp_path)
    assert facts.metadata == (
        MetadataFact(
            path="shop/base.py", line=2, name="Base", kind="declarative base", tables=3,
            target="shop.models:Base",
        ),
        MetadataFact(
            path="alone.py", line=2, name="Base", kind="declarative base", tables=1,
            target="alone:Base",
        ),
        MetadataFact(
            path="other.py", line=2, name="metadata", kind="MetaData", tables=1,
            target="other:metadata",
        ),
    )  # fmt: skip

    # Where nobody imports all of them, what is left out is named.
    (tmp_path / "shop/models.py").unlink()
    (best, *_) = survey(tmp_path).metadata
    assert (best.target, best.missing) == ("shop.bills:Base", ("shop/users.py",))


def test_flask_sqlalchemy_and_sqlmodel(tmp_path: Path) -> None:
    write_files(
        tmp_path,
        {
            "web.py": "from flask_sqlalchemy import SQLAlchemy\ndb = SQLAlchemy()\n"
            "class Page(db.Model):\n    id = db.Column(db.Integer)\n",
            "heroes.py": "from sqlmodel import SQLModel\nclass Read(SQLModel): name: str\n"
            "class Hero(SQLModel, table=True): id: int\n"
            "class Team(SQLModel, table=True): id: int\n",
        },
    )
    assert [(each.kind, each.target, each.tables) for each in survey(tmp_path).metadata] == [
        ("SQLModel", "heroes:SQLModel", 2),
        ("Flask-SQLAlchemy", "web:db", 1),
    ]


def test_modules_that_cannot_be_imported_from_the_root_are_no_target(tmp_path: Path) -> None:
    text = (
        "from sqlalchemy import MetaData, Table\nmetadata = MetaData()\nt = Table('t', metadata)\n"
    )
    write_files(tmp_path, {"my-app/models.py": text})
    facts = survey(tmp_path)
    assert [(each.path, each.target) for each in facts.metadata] == [("my-app/models.py", "")]
    choice = choose(facts, knows_django=False)
    assert choice.candidates == ()
    assert "install the project (python -m pip install -e .)" in choice.rejected[0]


def test_alembic_with_what_its_env_reads(tmp_path: Path) -> None:
    ini = "[alembic]\nscript_location = %(here)s/m\n"
    write_files(
        tmp_path,
        {
            "alembic.ini": ini,
            "m/env.py": "from settings import Settings\nfrom alembic import context\n"
            "args = context.get_x_argument(as_dictionary=True)\nurl = args.get('db_url')\n"
            "async_engine_from_config({})\n",
            "settings.py": "class Settings(BaseSettings):\n    database_url: str = ''\n",
            "m/versions/1.py": "",
            "old/alembic.ini": ini,
            "sub/alembic.ini": ini,
            "sub/m/env.py": "import os\nurl = os.environ['SHOP_DB_URL'] or os.getenv('HOME')\n",
            "sub/m/versions/1.py": "",
            "sub/m/versions/2.py": "",
        },
    )
    first, old, sub = survey(tmp_path).alembic
    assert first == AlembicFact(
        path="alembic.ini", revisions=1, env="m/env.py", variables=("DATABASE_URL",),
        x_keys=("db_url",), asynchronous=True,
    )  # fmt: skip
    assert "env.py does not exist" in old.fault
    assert (sub.revisions, sub.variables) == (2, ("SHOP_DB_URL",))

    choice = choose(Facts(alembic=(first, old, sub)), knows_django=False)
    assert [each.table for each in choice.candidates] == [
        {"alembic": {"config": "sub/alembic.ini", "set_env": {"SHOP_DB_URL": "{url}"}}},
        {
            "alembic": {
                "config": "alembic.ini",
                "set_env": {"DATABASE_URL": "{async_url}"},
                "x": {"db_url": "{async_url}"},
            }
        },
    ]


def test_scripts_files_and_folders_of_others(tmp_path: Path) -> None:
    write_files(
        tmp_path,
        {
            "db/1.sql": "-- CREATE TABLE no(x);\nCREATE TABLE a(x); create table b(x);",
            "db/2_rows.sql": "INSERT OR IGNORE INTO a VALUES (1);",
            "db/3.sql": "SELECT 1;",
            "db/4.sql": "CREATE TRIGGER t AFTER UPDATE ON a BEGIN INSERT INTO b SELECT 1; END",
            "db/5.sql": "CREATE UNIQUE INDEX i ON a(x);",
            "old/rows.sql": "INSERT INTO a VALUES (2);",
            "extra.sql": "CREATE VIRTUAL TABLE c USING fts5(x);",
            ".venv/x.sql": "CREATE TABLE no(x);",
            "env3/pyvenv.cfg": "",
            "env3/y.py": "no python at all",
            "broken.py": "def",
            "text.db": "no database",
        },
    )
    (tmp_path / "app.sqlite3").write_bytes(b"SQLite format 3\0" + b"\0" * 84)
    facts = survey(tmp_path)
    assert facts.scripts == (
        ScriptFact("extra.sql", 1, inserts=False),
        ScriptFact("db/1.sql", 2, inserts=False),
        ScriptFact("db/2_rows.sql", 0, inserts=True, defines=False),
        ScriptFact("db/3.sql", 0, inserts=False, defines=False),
        ScriptFact("db/4.sql", 0, inserts=True),
        ScriptFact("db/5.sql", 0, inserts=False),
        ScriptFact("old/rows.sql", 0, inserts=True, defines=False),
    )
    assert facts.files == (FileFact("app.sqlite3", 100),)
    assert facts.notes == ("broken.py is no Python that this interpreter can read",)
    choice = choose(facts, knows_django=False)
    assert choice.rejected == ("old/rows.sql: it inserts rows, and makes no table",)
    assert [each.table for each in choice.candidates] == [
        {"schema": ["db/1.sql", "db/4.sql", "db/5.sql"], "seed": ["db/2_rows.sql"]},
        {"schema": ["extra.sql"]},
        {"file": "app.sqlite3"},
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "pytest.ini",
            "[pytest]\naddopts = -q -n 4 --dist=loadfile\nDJANGO_SETTINGS_MODULE = s.x\n",
        ),
        (
            "tox.ini",
            "[tox]\n[pytest]\naddopts = -n4 --dist loadfile\nDJANGO_SETTINGS_MODULE = s.x\n",
        ),
        (
            "pyproject.toml",
            "[tool.pytest.ini_options]\naddopts = ['--numprocesses=4', '--dist', 'loadfile']\n"
            "DJANGO_SETTINGS_MODULE = 's.x'\n",
        ),
    ],
)
def test_settings_of_pytest(name: str, text: str, tmp_path: Path) -> None:
    write_files(tmp_path, {name: text, "s/x.py": "ENGINE = 'django.db.backends.sqlite3'\n"})
    facts = survey(tmp_path)
    assert facts.pytest is not None
    assert (facts.pytest.path, facts.pytest.workers, facts.pytest.dist) == (name, "4", "loadfile")
    assert facts.django == DjangoFact("s.x", "pytest's settings", sqlite=True)
    choice = choose(facts, knows_django=True)
    assert {key: value for key, (value, _) in choice.keys.items()} == {
        "workers": 4, "dist": "loadfile", "django": "auto"
    }  # fmt: skip
    assert choice.candidates == ()
    assert f"{name}: take -n 4 out of addopts" in choice.advice[0]


def test_settings_of_pytest_that_say_nothing_of_workers(tmp_path: Path) -> None:
    write_files(tmp_path, {"pytest.ini": "[pytest]\ntestpaths = tests\n"})
    assert survey(tmp_path).pytest == PytestFact("pytest.ini")


def test_django_is_found_by_its_manage_py(tmp_path: Path) -> None:
    text = "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n"
    write_files(tmp_path, {"manage.py": text, "shop/settings.py": "ENGINE = 'postgresql'\n"})
    assert survey(tmp_path).django == DjangoFact("shop.settings", "manage.py", sqlite=False)


@pytest.mark.parametrize(
    ("body", "does"),
    [
        ("Base.metadata.create_all(engine)", "create_all"),
        ("conn.run_sync(Base.metadata.create_all)", "create_all"),
        ("conn.executescript(text)", "executescript"),
        ("alembic.command.upgrade(config, 'head')", "command.upgrade"),
        ("sqlite3.connect(':memory:')", 'connect(":memory:")'),
        ("sa.create_engine('sqlite://')", "create_engine('sqlite://')"),
        ("return create_async_engine('sqlite+aiosqlite:///:memory:')",
         "create_async_engine('sqlite+aiosqlite:///:memory:')"),
    ],
)  # fmt: skip
def test_fixtures_that_make_databases(body: str, does: str) -> None:
    text = f"import pytest\n@pytest.fixture(scope='session')\nasync def db():\n    {body}\n"
    (fixture,) = syntax.read(text, "conftest.py").fixtures
    assert (fixture.name, fixture.line, fixture.does) == ("db", 3, does)
    assert syntax.read(text.replace("@pytest.fixture(scope='session')\n", ""), "x").fixtures == ()


def test_fixtures_that_use_what_they_are_given_make_none() -> None:
    text = (
        "@fixture\ndef db(url):\n    return sqlite3.connect(url), create_engine('postgresql://x')\n"
    )
    assert syntax.read(text, "conftest.py").fixtures == ()


# ---------------------------------------------------------------- decisions and text


def test_what_is_closest_to_production_comes_first() -> None:
    facts = Facts(
        alembic=(AlembicFact(path="alembic.ini", revisions=3, env="m/env.py"),),
        metadata=(
            MetadataFact(
                path="m.py", line=1, name="Base", kind="declarative base", tables=2,
                target="m:Base", missing=("n.py",),
            ),
        ),
        scripts=(ScriptFact("s.sql", 1, inserts=False),),
        files=(FileFact("a.db", 5), FileFact("b.db", 9)),
        fixtures=(FixtureFact("conftest.py", 3, "db", "create_all", "use farm_db"),),
    )  # fmt: skip
    choice = choose(facts, knows_django=False)
    assert [list(each.table.items()) for each in choice.candidates] == [
        [("alembic", "alembic.ini")],
        [("metadata", "m:Base")],
        [("schema", ["s.sql"])],
        [("file", "b.db")],
        [("file", "a.db")],
    ]
    assert choice.candidates[1].advice == (
        "n.py has tables that the import of m does not bring: import it there",
    )
    assert choice.found == (
        "alembic.ini: migrations of Alembic, 3 revisions",
        "m.py:1: Base (declarative base), 2 tables",
        "s.sql: makes 1 table",
        "a.db: an SQLite database of 0.0 MB",
        "b.db: an SQLite database of 0.0 MB",
        "conftest.py:3: fixture db makes a database: create_all",
    )
    assert choice.advice == ("conftest.py:3: fixture db: use farm_db",)


def _choice(**keys: object) -> Choice:
    return Choice(
        keys={key: (value, "why") for key, value in keys.items()},
        candidates=(), found=(), rejected=(), advice=(),
    )  # fmt: skip


#: A name that has to be written with care in TOML.
AWKWARD: dict[str, object] = {
    "alembic": {"config": 'a "b"\\\x7fé.ini', "set_env": {"A.B": "{url}", "C": "x\ny"}}
}


@pytest.mark.parametrize(
    "before",
    [
        None,
        "[project]\nname = 'x'  # kept\n",
        "[tool.other]\r\na = 1",
        "\ufeff[tool]\n[tool.other]\nfarm = 1\n\n",
        "",
    ],
)
def test_what_is_written_is_read_back_and_the_rest_stays(
    before: str | None, tmp_path: Path
) -> None:
    pyproject = tmp_path / "pyproject.toml"
    if before is not None:
        pyproject.write_bytes(before.encode("utf-8"))
    path, prefix = writing.target(tmp_path)
    assert path == (tmp_path / "farm.toml" if before is None else pyproject)
    candidate = Candidate(what="x", why="y", table=AWKWARD)
    writing.write(path, writing.configuration(_choice(workers=3), candidate, prefix=prefix))

    written = path.read_bytes().decode("utf-8")
    assert written.startswith(before or "")
    assert ("\r\n" in written, "\n" in written.replace("\r\n", "")) in {
        (False, True),
        (True, False),
    }
    config = load_config(tmp_path, environ={})
    assert config.workers == 3
    (golden,) = config.golden
    assert golden.alembic is not None
    assert golden.alembic.set_env == {"A.B": "{url}", "C": "x\ny"}
    assert golden.alembic.config == str(tmp_path / 'a "b"\\\x7fé.ini')
    with pytest.raises(
        ConfigError, match=r"configures the farm already: change .* farm init again"
    ):
        writing.check_free(tmp_path)


def test_a_pyproject_that_cannot_be_added_to_stays_as_it_is(tmp_path: Path) -> None:
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text("tool = { other = { a = 1 } }\n")
    writing.check_free(tmp_path)
    with pytest.raises(ConfigError, match=r"the table \[tool.farm\] can't be added to it"):
        writing.write(pyproject, writing.configuration(_choice(), None, prefix="tool.farm"))
    assert pyproject.read_text() == "tool = { other = { a = 1 } }\n"
    assert [path.name for path in tmp_path.iterdir()] == ["pyproject.toml"]


def test_a_project_without_databases_gets_an_example() -> None:
    text = writing.configuration(_choice(), None, prefix="")
    assert tomllib.loads(text) == {}
    shown = "\n".join(line.removeprefix("# ") for line in text.splitlines()[3:])
    assert tomllib.loads(shown) == {"golden": {"default": {"schema": ["schema.sql"]}}}
