"""The command `farm golden`."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from snapfarm.errors import EXIT_OK, EXIT_USAGE
from snapfarm.golden_command import golden
from support.golden_project import write_files


def farm_golden(root: Path, *args: str) -> Result:
    return CliRunner().invoke(golden, [args[0], "--root", str(root), *args[1:]])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two databases, of which `main` is in the cache."""
    root = tmp_path_factory.mktemp("project")
    write_files(
        root,
        {
            "farm.toml": "[golden.main]\nschema = ['a.sql']\n[golden.bad]\nschema = ['bad.sql']\n",
            "a.sql": "CREATE TABLE t(x); INSERT INTO t VALUES (1), (2); CREATE VIEW v AS SELECT 1;"
            "BEGIN",
            "bad.sql": "NONSENSE;",
        },
    )
    built = farm_golden(root, "build", "main")
    assert built.exit_code == EXIT_OK
    assert re.fullmatch(r"golden  main   8\.2 kB   1 table   built \d\.\d s\n", built.stdout)
    assert built.stderr == ("farm: note: main: a.sql left a transaction open: it was committed\n")
    return root


def test_building_takes_from_the_cache_what_it_has(project: Path) -> None:
    again = farm_golden(project, "build", "main")
    assert "(cached: " in again.stdout
    rebuilt = farm_golden(project, "build", "main", "--rebuild")
    assert "(cached: " not in rebuilt.stdout


def test_a_failed_build_is_told_without_a_traceback(project: Path) -> None:
    failed = farm_golden(project, "build")
    assert failed.exit_code == EXIT_USAGE
    assert failed.stderr.splitlines()[-2:] == [
        "farm: golden database 'bad': bad.sql, line 1: near \"NONSENSE\": syntax error",
        "    NONSENSE;",
    ]


def test_showing_what_is_there_and_what_is_not(project: Path) -> None:
    shown = farm_golden(project, "show")
    assert shown.exit_code == EXIT_OK
    first, second = shown.stdout.split("\n\n")
    assert "  tables       1, and 1 view\n    t  2 rows\n    v  1 row  (view)\n" in first
    assert re.search(r"^ {4}script a\.sql +[0-9a-f]{12}$", first, re.MULTILINE)
    assert re.search(rf"^ {{4}}sqlite +{re.escape(sqlite3.sqlite_version)}$", first, re.MULTILINE)
    hint = re.search(r"not in the cache; build it with: farm golden (.*)", second)
    assert hint is not None
    # The printed hint is parsed by our own parser.
    command, *words = hint[1].split()
    assert golden.commands[command].make_context(command, words).params["names"] == ("bad",)


def test_showing_json(project: Path) -> None:
    shown = json.loads(farm_golden(project, "show", "--json").stdout)
    assert [(one["name"], one["cached"]) for one in shown] == [("main", True), ("bad", False)]
    assert shown[0]["manifest"]["tables"][0] == {"name": "t", "kind": "table", "rows": 2}
    assert shown[0]["parts"].keys() == {"snapfarm", "sqlite", "python", "order", "script a.sql"}
    assert shown[1]["manifest"] is None


def test_exporting_a_database(project: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.sqlite"
    assert farm_golden(project, "export", "main", str(target)).exit_code == EXIT_OK
    with contextlib.closing(sqlite3.connect(target)) as conn:
        assert conn.execute("SELECT COUNT(*) FROM t").fetchone() == (2,)
    assert [path.name for path in tmp_path.iterdir()] == ["out.sqlite"]

    target.write_text("precious")
    refused = farm_golden(project, "export", "main", str(target))
    assert refused.exit_code == EXIT_USAGE
    assert refused.stderr == f"farm: {target} exists: give --force to overwrite it\n"
    assert target.read_text() == "precious"
    assert farm_golden(project, "export", "main", str(target), "--force").exit_code == EXIT_OK
    assert target.read_bytes().startswith(b"SQLite format 3")

    nowhere = farm_golden(project, "export", "main", str(tmp_path / "no" / "out.sqlite"))
    assert nowhere.exit_code == EXIT_USAGE
    assert "can't be written: No such file or directory" in nowhere.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("show", "mian"), "there is no golden database 'mian'; did you mean 'main'?"),
        (("build", "--config", "none.toml"), "none.toml: does not exist; --config expects"),
    ],
)
def test_mistakes_are_told_with_the_exit_code_for_usage(
    project: Path, args: tuple[str, ...], message: str
) -> None:
    failed = farm_golden(project, *args)
    assert failed.exit_code == EXIT_USAGE
    assert failed.stderr.startswith("farm: ")
    assert message in failed.stderr


def test_a_project_without_databases_is_told_how_to_declare_one(tmp_path: Path) -> None:
    failed = farm_golden(tmp_path, "show")
    assert failed.exit_code == EXIT_USAGE
    assert "declares no golden database; write a table [golden.<name>]" in failed.stderr


def test_the_configuration_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path, {"ci/farm.toml": "[golden.z]\nschema = ['z.sql']\n", "ci/z.sql": ""})
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(golden, ["show", "--config", "ci/farm.toml"])
    assert shown.exit_code == EXIT_OK
    assert "script ci/z.sql" in shown.stdout


def test_layers_are_built_and_cleared_with_their_database(tmp_path: Path) -> None:
    write_files(
        tmp_path,
        {
            "farm.toml": "[golden.e]\nschema = ['e.sql']\n[golden.f]\n"
            "[layers.more]\ndatabase = 'e'\nseed = ['more.sql']\n"
            "[layers.most]\non = 'more'\nseed = ['more.sql']\n",
            "e.sql": "CREATE TABLE t(x);",
            "more.sql": "INSERT INTO t VALUES (1);",
        },
    )
    built = farm_golden(tmp_path, "build", "e").stdout.splitlines()
    assert [line.split()[:2] for line in built] == [
        ["golden", "e"],
        ["layer", "more"],
        ["layer", "most"],
    ]
    assert farm_golden(tmp_path, "build", "f").stdout.count("layer") == 0
    assert "(cached: " in farm_golden(tmp_path, "build", "e").stdout.splitlines()[2]
    assert farm_golden(tmp_path, "clear", "e").stdout == "golden  e   3 cache entries removed\n"


def test_clearing_the_cache(tmp_path: Path) -> None:
    write_files(tmp_path, {"farm.toml": "[golden.e]\n[golden.f]\n"})
    assert farm_golden(tmp_path, "build", "e").exit_code == EXIT_OK
    cleared = farm_golden(tmp_path, "clear")
    assert cleared.stdout == (
        "golden  e   1 cache entry removed\ngolden  f   0 cache entries removed\n"
    )
    assert '"cached": false' in farm_golden(tmp_path, "show", "e", "--json").stdout
