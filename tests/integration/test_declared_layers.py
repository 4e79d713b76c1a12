"""Declared layers in whole runs: built once, sent to who needs them, kept for the next run."""

from __future__ import annotations

from pathlib import Path

import pytest

from snapfarm import serving
from snapfarm.config import load_config
from snapfarm.errors import GoldenBuildError
from support.golden_project import write_files
from support.pytest_runs import Runs, trace

FILES = {
    "farm.toml": """
        layer_modules = ["made"]
        [golden.default]
        schema = ["schema.sql"]
        [golden.second]
        schema = ["schema.sql"]
        [layers.one]
        database = "default"
        seed = ["one.sql"]
        [layers.apart]
        database = "second"
        seed = ["one.sql"]
        """,
    "schema.sql": "CREATE TABLE t(x); CREATE TABLE blob(x);",
    # More than one window of chunks, so that it is asked for in several questions.
    "one.sql": "INSERT INTO t VALUES (1); INSERT INTO blob VALUES (zeroblob(3000000));",
    "made.py": f"""
import snapfarm

@snapfarm.layer("two", on="one")
def two(conn):
    {trace("'two is built'")}
    conn.execute("INSERT INTO t VALUES (2)")
""",
    "test_it.py": """
import os, sqlite3, contextlib
import pytest

def rows(variable="FARM_URI_DEFAULT"):
    with contextlib.closing(sqlite3.connect(os.environ[variable], uri=True)) as conn:
        return sorted(x for (x,) in conn.execute("SELECT x FROM t"))

@pytest.mark.parametrize("turn", range(3))
def test_bare(turn):
    assert rows() == []

@pytest.mark.parametrize("turn", range(3))
@pytest.mark.farm(layer="two")
def test_two(turn, farm_db):
    assert rows() == [1, 2]
    farm_db.execute("DELETE FROM t")
    farm_db.commit()

@pytest.mark.farm(layer="two")
def test_last_breath():
    assert rows() == [1, 2]
    if "KILL" in os.environ:
        os.kill(os.getpid(), 9)

@pytest.mark.farm(layer=("one", "apart"))
def test_two_databases():
    assert rows() == rows("FARM_URI_SECOND") == [1]

@pytest.mark.farm(layer=("one", "two"))
def test_two_of_one_database():
    raise AssertionError("must not run")

@pytest.mark.farm(layer="three")
def test_unknown():
    raise AssertionError("must not run")

@pytest.mark.farm(layer="two", reset="never")
@pytest.mark.parametrize("turn", range(2))
def test_kept(turn, farm_db):
    farm_db.execute("INSERT INTO t VALUES (3)")
    farm_db.commit()

def test_nothing_is_kept_on_another_layer():
    assert rows() == []
""",
}


def test_a_run_on_layers_and_the_next_one(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "suite", FILES)
    options = ("-p", "no:randomly")
    # Whoever comes for the worker that dies fetches what it needs anew.
    first = runs.run(*options, env={"FARM_CHUNK_SIZE": "16384", "KILL": "1"})
    assert first.counts == "1 failed, 10 passed, 2 errors", first.text
    # Built once, and named.
    assert first.trace == ("master two is built",)
    assert "layer   two   is being built" in first.text
    assert first.text.count("layer   two   3.0 MB   2 tables   built") == 1
    wrong = "layers 'one' and 'two' are both of database 'default': a test has one of them"
    unknown = "there is no layer 'three': choose one of 'one', 'apart', 'two'"
    assert wrong in first.text
    assert unknown in first.text
    farm, plain, xdist = runs.compare(*options, ways=("farm", "plain", "xdist"))
    assert "(cached: " in farm.text
    assert farm.shown == plain.shown
    assert xdist.outcomes == plain.outcomes == farm.outcomes
    assert farm.outcomes == first.outcomes | {"test_it.py::test_last_breath": "passed"}
    for run in (farm, plain, xdist):
        assert run.trace == ()
        assert unknown in run.text


def test_a_layer_that_can_not_be_built(tmp_path: Path) -> None:
    """It ends a farm's run, as a golden database does; in a plain one, it fails its tests."""
    broken = {**FILES, "made.py": FILES["made.py"].replace("INTO t", "INTO nowhere")}
    runs = Runs(tmp_path / "suite", broken)
    plain, farm = runs.compare()
    said = "layer 'two' of database 'default': callable made:two raised OperationalError: no such"
    assert farm.exit_code == 4, farm.text
    assert said in farm.text
    assert plain.counts == "5 passed, 8 errors", plain.text
    assert said in plain.text
    runs.write({"farm.toml": FILES["farm.toml"] + "on = 'nowhere'\n"})
    for run in runs.compare():
        assert run.exit_code == 4
        assert "farm.toml: layers.apart: on = 'nowhere' is no layer" in run.text


def test_a_change_below_builds_what_is_above_anew(tmp_path: Path) -> None:
    write_files(tmp_path, FILES)
    said: list[str] = []

    def serve() -> serving.Served:
        said.clear()
        config = load_config(tmp_path, environ={})
        return serving.serve(config, rebuild=False, scratch=tmp_path, say=said.append)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACE", str(tmp_path / "trace"))
        first = serve()
        assert [offer.manifest.layer for offer in first.layers] == ["one", "apart", "two"]
        assert [offer.manifest.database for offer in first.layers] == [
            "default",
            "second",
            "default",
        ]
        assert first.layers[2].manifest.rows == {"t": 2, "blob": 1}
        again = serve()
        assert [line for line in said if "is being built" in line] == []
        assert again.layers == first.layers
        write_files(tmp_path, {"one.sql": "INSERT INTO t VALUES (7);"})
        changed = serve()
        assert [line.split()[1] for line in said if "is being built" in line] == [
            "one",
            "apart",
            "two",
        ]
        assert any("because golden database 'default' changed" in line for line in said) is False
        assert any("because layer 'one' changed" in line for line in said)
        assert changed.layers[2].manifest.rows == {"t": 2}
        write_files(tmp_path, {"one.sql": "INSERT INTO nowhere VALUES (7);"})
        with pytest.raises(GoldenBuildError, match=r"layer 'one' of database 'default': one\.sql"):
            serve()
