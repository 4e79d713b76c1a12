"""A golden database that can't be built ends a farm's run, and fails plain tests that need it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A suite of two tests whose golden database has a syntax error in its schema."""
    (tmp_path / "farm.toml").write_text('[golden.default]\nschema = ["schema.sql"]\n')
    (tmp_path / "schema.sql").write_text("CREATE TABLE a(x);\n\nCREATE TABEL b(y);\n")
    (tmp_path / "test_it.py").write_text(
        "def test_1(farm_db): pass\ndef test_2(farm_db): pass\ndef test_3(): pass\n"
    )
    return tmp_path


def _pytest(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_farm_ends_with_a_usage_error_and_no_process_is_left(project: Path) -> None:
    done = _pytest(project, "--farm", "2")
    assert done.returncode == 4
    assert (
        "ERROR: golden database 'default': schema.sql, line 3: near \"TABEL\": syntax error"
        in done.stderr
    )
    assert "INTERNALERROR" not in done.stdout + done.stderr


def test_plain_run_fails_the_tests_that_need_it_and_builds_once(project: Path) -> None:
    done = _pytest(project)
    assert done.returncode == 1
    assert "1 passed, 2 errors" in done.stdout
    assert done.stdout.count('line 3: near "TABEL": syntax error') >= 2
    assert "Traceback" not in done.stdout
