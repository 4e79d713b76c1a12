"""`Golden.build`: as a configuration builds it, from Python code, with functions of every kind."""

from __future__ import annotations

import contextlib
import importlib
import sqlite3
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from snapfarm.config import load_config
from snapfarm.errors import GoldenBuildError, GoldenCheckError, GoldenTimeout
from snapfarm.golden import obtain
from snapfarm.golden.handle import Golden
from support.golden_project import opened, write_files

LEFT = "callable handle_seeds:fill left changes uncommitted: they were committed"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a schema and a module of seeds, which is on sys.path."""
    write_files(
        tmp_path,
        {
            "schema.sql": "CREATE TABLE t(x);",
            "more/1.sql": "INSERT INTO t VALUES ('1.sql');",
            "more/2.sql": "INSERT INTO t VALUES ('2.sql');",
            "handle_seeds.py": "def fill(conn):\n    conn.execute('INSERT INTO t VALUES (1)')\n",
        },
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "handle_seeds", raising=False)
    return tmp_path


def values(golden: Golden) -> list[object]:
    with opened(golden.snapshot) as conn:
        return [x for (x,) in conn.execute("SELECT x FROM t ORDER BY rowid")]


def run_script(text: str, folder: Path, *arguments: str) -> str:
    """Run a script as a user does; return what it prints."""
    (folder / "script.py").write_text(textwrap.dedent(text))
    done = subprocess.run(
        [sys.executable, *(arguments or ("script.py",))],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# ---------------------------------------------------------------- entries


def test_entries_run_in_order_whatever_their_kind(project: Path) -> None:
    added: list[object] = ["closure"]

    def closure(conn: sqlite3.Connection) -> None:
        conn.execute("INSERT INTO t VALUES (?)", added)

    golden = Golden.build(
        schema=[Path("schema.sql")],
        seed=(
            "more/*.sql",
            closure,
            "handle_seeds:fill",
            lambda conn: conn.execute("INSERT INTO t VALUES ('lambda')") and None,
            project / "more" / "1.sql",
        ),
        name="shop",
    )
    assert values(golden) == ["1.sql", "2.sql", "closure", 1, "lambda", "1.sql"]
    assert (golden.name, golden.manifest.database) == ("shop", "shop")
    assert golden.fingerprint is None
    assert not golden.cached
    assert golden.build_seconds > 0


def test_a_function_that_can_not_be_imported_keeps_it_out_of_the_cache(project: Path) -> None:
    for _ in range(2):
        golden = Golden.build(
            schema="schema.sql", seed=lambda conn: conn.execute("INSERT INTO t VALUES (1)").close()
        )
        title = (
            "test_a_function_that_can_not_be_imported_keeps_it_out_of_the_cache.<locals>.<lambda>"
        )
        assert golden.notes[0].startswith(f"callable {title} (test_golden_handle.py, line ")
        assert golden.notes[1].startswith(
            f"not kept in the cache, nor taken from it: no other process can import {title} (test_"
        )
        assert not golden.cached
    assert not (project / ".farm").exists()


def test_a_script_may_define_the_function(project: Path) -> None:
    shown = run_script(
        """
        import dataclasses
        import handle_seeds
        from snapfarm.golden.handle import Golden

        print("main runs")
        COUNT = 2

        @dataclasses.dataclass
        class User:
            name: str

        def add(conn, user):
            conn.execute("INSERT INTO t VALUES (?)", (user.name,))

        def load_users(conn):
            handle_seeds.fill(conn)
            for n in range(COUNT):
                add(conn, User(f"user {n}"))
            conn.commit()

        golden = Golden.build(schema="schema.sql", seed=load_users)
        print(golden.manifest.rows, *golden.notes)
        try:
            Golden.build(schema="schema.sql", seed="__main__:load_users")
        except Exception as error:
            print(error)
        """,
        project,
    )
    assert shown.splitlines() == [
        "main runs",
        "{'t': 3} not kept in the cache, nor taken from it: no other process can import load_users "
        "(script.py, line 16)",
        "Golden.build: seed[0]: '__main__:load_users' is in the running script, which the builder "
        "process does not import: pass the function itself",
    ]


def test_a_failing_function_that_was_shipped_is_shown_with_its_lines(project: Path) -> None:
    def fails(conn: sqlite3.Connection) -> None:
        print("about to fail")
        raise LookupError("no such customer")

    with pytest.raises(GoldenBuildError) as caught:
        Golden.build(schema="schema.sql", seed=fails)
    text = str(caught.value)
    assert "golden database 'default': callable test_a_failing_function_that_was_shipped" in text
    assert "raised LookupError: no such customer" in text
    assert 'raise LookupError("no such customer")' in text
    assert text.endswith("its last output:\n  about to fail")


def test_data_that_the_builder_can_not_load(project: Path) -> None:
    class Moved:
        def __reduce__(self) -> tuple[object, ...]:
            return importlib.import_module, ("only_in_the_caller",)

        def __call__(self, conn: sqlite3.Connection) -> None: ...

    class Changed(Moved):
        def __reduce__(self) -> tuple[object, ...]:
            return str, ("text",)

    with pytest.raises(GoldenBuildError, match="Moved object can't be loaded by the buil"):
        Golden.build(seed=Moved())
    with pytest.raises(GoldenBuildError, match="object came to the builder process as str"):
        Golden.build(seed=Changed())


# ---------------------------------------------------------------- cache


def test_the_cache_knows_functions_by_their_modules(project: Path) -> None:
    from_name = Golden.build(schema="schema.sql", seed="handle_seeds:fill")
    seeds = importlib.import_module("handle_seeds")
    again = Golden.build(schema="schema.sql", seed=seeds.fill)
    assert (from_name.cached, again.cached) == (False, True)
    assert again.fingerprint == from_name.fingerprint
    assert again.snapshot == from_name.snapshot
    assert again.build_seconds == from_name.build_seconds
    assert again.notes == (LEFT,)
    assert (project / ".farm/golden/default" / str(again.fingerprint) / "complete").is_file()

    with (project / "handle_seeds.py").open("a") as file:
        file.write("# changed\n")
    changed = Golden.build(schema="schema.sql", seed=seeds.fill)
    assert not changed.cached
    assert changed.notes == (LEFT, "built again, because module handle_seeds.py changed")

    rebuilt = Golden.build(schema="schema.sql", seed=seeds.fill, rebuild=True)
    assert not rebuilt.cached
    assert Golden.build(schema="schema.sql", seed=seeds.fill).cached


def test_a_configuration_has_the_same_fingerprint(project: Path) -> None:
    write_files(
        project,
        {
            "farm.toml": "[golden.default]\nschema = ['schema.sql']\nseed = ['handle_seeds:fill']\n"
            "inputs = ['more/*']\nenv = ['HOME']\n"
        },
    )
    (result,) = obtain(load_config(project, environ={}))
    golden = Golden.build(
        schema="schema.sql", seed="handle_seeds:fill", inputs=Path("more/*"), env="HOME"
    )
    assert golden.cached
    assert golden.fingerprint == result.fingerprint


def test_without_a_cache_nothing_is_left_behind(project: Path) -> None:
    before = sorted(path.name for path in project.iterdir())
    golden = Golden.build(schema="schema.sql", cache=False)
    assert sorted(path.name for path in project.iterdir()) == before
    assert golden.notes == ()
    assert golden.fingerprint == Golden.build(schema="schema.sql").fingerprint
    assert Golden.build(schema="schema.sql").cached


def test_the_cache_may_lie_elsewhere(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("cache")
    for cached in (False, True):
        golden = Golden.build(schema="schema.sql", cache=elsewhere)
        assert golden.cached == cached
    assert (elsewhere / "golden" / "default").is_dir()
    Golden.build(schema="schema.sql", cache="kept")
    assert (project / "kept" / "golden" / "default").is_dir()
    assert not (project / ".farm").exists()


# ---------------------------------------------------------------- where modules come from


def test_a_script_finds_the_modules_of_its_folder(project: Path, tmp_path: Path) -> None:
    # 1. the script's folder is on sys.path, the root is another folder
    # 2. both have a module of one name: the script's own is the one that it has imported
    write_files(
        tmp_path,
        {
            "other/schema.sql": "CREATE TABLE t(x);",
            "other/handle_seeds.py": "def fill(conn):\n    conn.execute('nonsense')\n",
            "other/of_root.py": "def fill(conn):\n    conn.execute('INSERT INTO t VALUES (2)')\n",
        },
    )
    shown = run_script(
        """
        from handle_seeds import fill
        from snapfarm.golden.handle import Golden

        for seed in (fill, "handle_seeds:fill", [fill, "of_root:fill"]):
            golden = Golden.build(schema="schema.sql", seed=seed, root="other")
            print(golden.manifest.rows, golden.cached)
        """,
        project,
    )
    assert shown.splitlines() == ["{'t': 1} False", "{'t': 1} True", "{'t': 2} False"]
    assert (tmp_path / "other" / ".farm").is_dir()


def test_a_notebook_finds_the_modules_of_its_folder(project: Path, tmp_path: Path) -> None:
    # An interactive session has "" on sys.path: the current folder, whichever that is by then.
    write_files(tmp_path, {"later/schema.sql": "CREATE TABLE t(x);"})
    (project / "handle_seeds.py").rename(tmp_path / "later" / "handle_seeds.py")
    code = """if True:
        import multiprocess.process, os, sys
        assert sys.path[0] == ""
        os.chdir("later")
        from snapfarm.golden.handle import Golden
        import handle_seeds
        helper = handle_seeds.fill
        print(Golden.build(schema="schema.sql", seed=handle_seeds.fill).notes)
        print(Golden.build(schema="schema.sql", seed=lambda conn: helper(conn)).manifest.rows)
    """
    shown = run_script("", project, "-c", code)
    assert shown.splitlines() == [f"({LEFT!r},)", "{'t': 1}"]


# ---------------------------------------------------------------- threads, files, errors


def test_it_may_be_called_from_threads_at_once(project: Path) -> None:
    def build(n: int) -> Golden:
        text = f"thread {n}"
        return Golden.build(
            schema="schema.sql",
            seed=["handle_seeds:fill"]
            if n < 2
            else [lambda conn: conn.execute("INSERT INTO t VALUES (?)", (text,)) and None],
        )

    with ThreadPoolExecutor(4) as pool:
        goldens = list(pool.map(build, range(4)))
    assert [values(golden) for golden in goldens] == [[1], [1], ["thread 2"], ["thread 3"]]
    assert goldens[0].manifest.digest == goldens[1].manifest.digest


def test_a_file_that_this_process_has_open_keeps_its_locks(project: Path) -> None:
    with contextlib.closing(sqlite3.connect("app.sqlite", isolation_level=None)) as conn:
        conn.execute("CREATE TABLE t(x)")
        conn.execute("BEGIN")
        conn.execute("SELECT * FROM t").fetchall()
        golden = Golden.build(file="app.sqlite", schema="more/1.sql")
        assert values(golden) == ["1.sql"]
        assert golden.notes == (
            f"not kept in the cache, nor taken from it: this process has {project}/app.sqlite open",
        )
        writer = (
            "import sqlite3; conn = sqlite3.connect('app.sqlite', timeout=0);"
            "conn.execute('PRAGMA user_version = 3'); conn.commit()"
        )
        done = subprocess.run([sys.executable, "-c", writer], capture_output=True, check=False)
        assert b"database is locked" in done.stderr, "the read transaction has its lock still"
    assert Golden.build(file="app.sqlite").fingerprint is not None


def test_errors_are_those_of_a_configuration(project: Path) -> None:
    write_files(
        project,
        {
            "bad.sql": "CREATE TABLE u(x);\nNONSENSE;",
            "orphans.sql": "CREATE TABLE p(id INTEGER PRIMARY KEY);"
            "CREATE TABLE c(p REFERENCES p); INSERT INTO c VALUES (1);",
        },
    )
    with pytest.raises(GoldenBuildError, match=r"^golden database 'shop': bad\.sql, line 2: near "):
        Golden.build(schema="bad.sql", name="shop")
    with pytest.raises(GoldenCheckError, match="foreign_key_check found:"):
        Golden.build(schema="orphans.sql")
    with pytest.raises(GoldenTimeout, match=r"within 2 s; it was in .*<lambda> \(test_golden_han"):
        Golden.build(seed=lambda _: threading.Event().wait(), timeout=2.0)
    with pytest.raises(GoldenBuildError, match="there is no module 'nowhere' in"):
        Golden.build(seed="nowhere:fill")
    assert not (project / ".farm").exists()
