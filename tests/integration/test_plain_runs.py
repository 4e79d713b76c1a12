"""A plain pytest run finds its rings as a farm's worker does, whatever touches them first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.pytest_runs import Runs

PLUGIN_TESTS = """
import pytest


@pytest.mark.parametrize("turn", range(2))
def test_a_farm_in_this_process(pytester, turn):
    pytester.makepyfile("def test_passes(): pass\\ndef test_fails(): assert 0")
    result = pytester.runpytest_inprocess("--farm=1", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=1)
"""


def test_plugins_test_themselves_with_farms_in_one_process(tmp_path: Path) -> None:
    """Between two runs, pytester drops from sys.modules what the first one has imported."""
    (tmp_path / "conftest.py").write_text("pytest_plugins = ['pytester']\n")
    (tmp_path / "test_plugin.py").write_text(PLUGIN_TESTS)
    ran = Runs(tmp_path).run(way="plain")
    assert ran.counts == "2 passed", ran.text


def test_attach_before_any_connection_finds_the_golden_rows(tmp_path: Path) -> None:
    (tmp_path / "farm.toml").write_text('[golden.default]\nschema = ["schema.sql"]\n')
    (tmp_path / "schema.sql").write_text("CREATE TABLE a(x);\nINSERT INTO a VALUES (1);\n")
    (tmp_path / "test_it.py").write_text(
        "import os, sqlite3\n"
        "def test_attach():\n"
        "    conn = sqlite3.connect('file::memory:', uri=True)\n"
        "    conn.execute('ATTACH ? AS ring', (os.environ['FARM_URI'],))\n"
        "    assert conn.execute('SELECT x FROM ring.a').fetchall() == [(1,)]\n"
        "    conn.close()\n"
    )
    for arguments in ([], ["--farm", "1"]):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "1 passed" in done.stdout
