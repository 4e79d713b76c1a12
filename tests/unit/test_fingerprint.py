"""What enters the fingerprint of a golden database, and what does not."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import snapfarm
from snapfarm.config import FarmConfig
from snapfarm.config_golden import GoldenConfig
from snapfarm.errors import ConfigError
from snapfarm.golden.fingerprint import changes, fingerprint
from snapfarm.golden.sources import project_search, source_parts


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose seed imports in every way that there is."""
    files = {
        "db/schema.sql": "CREATE TABLE t(x);",
        "db/more.sql": "CREATE TABLE u(x);",
        "data/rows.csv": "1\n",
        "seeds.py": (
            "import json\n"
            "import msgspec\n"
            "import app.models\n"
            "from app import helpers, CONSTANT\n"
            "from typing import TYPE_CHECKING\n"
            "if TYPE_CHECKING:\n    import typed_only\n"
            "try:\n    import not_installed_anywhere.sub\nexcept ImportError:\n    pass\n"
            "def fill(conn):\n"
            "    import late\n"
            "    from importlib import import_module\n"
            "    import_module('named')\n"
            "    import_module(name='keyed')\n"
        ),
        "app/__init__.py": "CONSTANT = 1\n",
        "app/models.py": "from . import base\nfrom .sub import deep\nfrom .. import nothing\n",
        "app/base.py": "",
        "app/helpers.py": "from app.models import *\n",
        "app/unrelated.py": "",
        "app/sub/__init__.py": "",
        "app/sub/deep.py": "from ...app import base\nfrom ..cycle import x\n",
        "app/cycle.py": (
            "import importlib\nimport seeds\n"
            "importlib.import_module('.plugged', __package__)\n"
            "importlib.import_module('.sub.plugged', package='app')\n"
            "importlib.import_module('.....too.far', __name__)\n"
        ),
        "app/plugged.py": "",
        "app/sub/plugged.py": "",
        "keyed.py": "",
        "late.py": "import space.inner\n",
        "space/inner.py": "",
        "named.py": "this is no Python\n",
        "typed_only.py": "",
        "unrelated.py": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


GOLDEN = GoldenConfig(name="a", schema=("db/schema.sql", "db/more.sql"), seed=("seeds:fill",))


def parts(root: Path, golden: GoldenConfig = GOLDEN) -> dict[str, str]:
    return fingerprint(FarmConfig(root=root), golden).parts


def digest(root: Path, golden: GoldenConfig = GOLDEN) -> str:
    return fingerprint(FarmConfig(root=root), golden).digest


def test_it_names_all_that_the_callable_imports(project: Path) -> None:
    named = parts(project)
    modules = {name.removeprefix("module ") for name in named if name.startswith("module ")}
    assert modules == {
        "seeds.py",
        "app/__init__.py",
        "app/models.py",
        "app/base.py",
        "app/helpers.py",
        "app/sub/__init__.py",
        "app/sub/deep.py",
        "app/cycle.py",
        "app/plugged.py",
        "app/sub/plugged.py",
        "keyed.py",
        "late.py",
        "space/inner.py",
        "named.py",
        "typed_only.py",
        "not_installed_anywhere",
    }
    assert named["module not_installed_anywhere"] == "not found"
    assert named["package msgspec"] == msgspec.__version__
    assert not [name for name in named if "json" in name or "typing" in name]


def test_it_imports_nothing(project: Path) -> None:
    (project / "seeds.py").write_text("raise SystemExit('imported')\n")
    before = set(sys.modules)
    parts(project)
    assert not {"seeds", "app"} & (set(sys.modules) - before)


def test_of_our_own_packages_the_version_is_enough(tmp_path: Path) -> None:
    """Modules with layers import snapfarm, which may be installed from a folder."""
    (tmp_path / "made.py").write_text("import snapfarm, snapfarm.config, snapfarm_worker.ring\n")
    parts = source_parts("made", tmp_path, project_search(tmp_path))
    assert list(parts) == ["module made.py"]


def test_versions_are_part_of_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = parts(project)
    assert named["snapfarm"] == snapfarm.__version__
    assert named["sqlite"] == sqlite3.sqlite_version
    before = digest(project)
    monkeypatch.setattr(snapfarm, "__version__", "99.0")
    assert digest(project) != before


def append(name: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        with (root / name).open("a") as file:
            file.write(" ")

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (append("db/schema.sql"), ("script db/schema.sql changed",)),
        (append("seeds.py"), ("module seeds.py changed",)),
        (append("app/sub/deep.py"), ("module app/sub/deep.py changed",)),
        (append("space/inner.py"), ("module space/inner.py changed",)),
        (append("app/unrelated.py"), ()),
        (append("unrelated.py"), ()),
        (append("data/rows.csv"), ()),
        (
            lambda root: (root / "not_installed_anywhere.py").write_text(""),
            (
                "module not_installed_anywhere is gone",
                "module not_installed_anywhere.py is new",
            ),
        ),
    ],
    ids=lambda value: " and ".join(value) if isinstance(value, tuple) else "after a change",
)
def test_a_changed_input_is_named(
    project: Path, change: Callable[[Path], None], said: tuple[str, ...]
) -> None:
    before = parts(project)
    change(project)
    assert changes(before, parts(project)) == said


@pytest.mark.parametrize(
    "other",
    [
        {"schema": ("db/more.sql", "db/schema.sql")},
        {"schema": ("db/schema.sql",)},
        {"schema": ("db/schema.sql",), "seed": ("db/more.sql", "seeds:fill")},
        {"seed": ("seeds:other",)},
        {"inputs": ("data/*.csv",)},
        {"env": ("SOME_VARIABLE",)},
    ],
)
def test_configuration_that_changes_the_result_changes_it(
    project: Path, other: dict[str, tuple[str, ...]]
) -> None:
    assert digest(project, msgspec.structs.replace(GOLDEN, **other)) != digest(project)


def test_compiled_modules_are_no_inputs(project: Path) -> None:
    golden = msgspec.structs.replace(GOLDEN, inputs=("app/**", "**/*.pyc"))
    before = digest(project, golden)
    for folder in ("app", "app/sub"):
        (project / folder / "__pycache__").mkdir()
        (project / folder / "__pycache__" / "base.cpython-311.pyc").write_text(folder)
    assert digest(project, golden) == before


def test_configuration_of_its_use_does_not(project: Path) -> None:
    other = msgspec.structs.replace(GOLDEN, timeout=5.0, ring="memdb", reset="never")
    assert digest(project, other) == digest(project)


def test_it_does_not_depend_on_where_the_project_is(project: Path, tmp_path: Path) -> None:
    absolute = msgspec.structs.replace(
        GOLDEN, schema=tuple(str(project / name) for name in GOLDEN.schema)
    )
    assert digest(project, absolute) == digest(project)
    before = digest(project)
    moved = tmp_path.parent / f"{tmp_path.name}-moved"
    project.rename(moved)
    try:
        assert digest(moved) == before
    finally:
        moved.rename(project)


def test_inputs_and_variables_count_by_content(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden = msgspec.structs.replace(GOLDEN, inputs=("data/**/*.csv", "none/*"), env=("A_SECRET",))
    monkeypatch.delenv("A_SECRET", raising=False)
    before = parts(project, golden)
    assert before["env A_SECRET"] == "not set"
    assert before["inputs none/*"] == "no such file"
    monkeypatch.setenv("A_SECRET", "hush")
    append("data/rows.csv")(project)
    after = parts(project, golden)
    assert changes(before, after) == ("env A_SECRET changed", "input data/rows.csv changed")
    assert "hush" not in str(after)


def test_a_file_counts_with_its_journals(project: Path) -> None:
    golden = GoldenConfig(name="a", file="a.sqlite")
    (project / "a.sqlite").write_bytes(b"one")
    assert "file a.sqlite" in parts(project, golden)
    before = parts(project, golden)
    (project / "a.sqlite-wal").write_bytes(b"")
    assert parts(project, golden) == before
    (project / "a.sqlite-wal").write_bytes(b"two")
    assert changes(before, parts(project, golden)) == ("file a.sqlite-wal is new",)


@pytest.mark.parametrize(
    ("golden", "message"),
    [
        (
            GoldenConfig(name="a", file="no.sqlite"),
            r"^/farm\.toml: golden\.a\.file: .*/no\.sqlite does not exist; expected a SQLite",
        ),
        (
            GoldenConfig(name="a", file="db"),
            r"golden\.a\.file: .*/db is a folder; expected a SQLite database",
        ),
        (
            GoldenConfig(name="a", schema=("db/schema.sql", "db/no.sql")),
            r"golden\.a\.schema\[1\]: .*/db/no\.sql does not exist; expected an SQL script",
        ),
        (
            GoldenConfig(name="a", seed=("db/x*.sql",)),
            r"golden\.a\.seed\[0\]: no file matches .*/db/x\*\.sql; expected at least one",
        ),
    ],
)
def test_missing_files_are_named_with_their_key(
    project: Path, golden: GoldenConfig, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        fingerprint(FarmConfig(root=project, source=Path("/farm.toml")), golden)


def test_a_pattern_stands_for_its_files_in_the_order_of_their_names(project: Path) -> None:
    pattern = GoldenConfig(name="a", schema=("db/*.sql",))
    named = [name for name in parts(project, pattern) if name.startswith("script")]
    assert named == ["script db/more.sql", "script db/schema.sql"]
