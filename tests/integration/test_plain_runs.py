"""A plain pytest run finds its rings as a farm's worker does, whatever touches them first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


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
