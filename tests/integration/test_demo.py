"""The demo holds what its README says: it passes with and without a farm, and shows one anomaly."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.suite import clean_environment

DEMO = Path(__file__).parents[2] / "demo"
#: Seconds after which a run of the demo is taken for stuck.
LIMIT = 120


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """A copy of the demo without any cache."""
    ignored = shutil.ignore_patterns(".farm", "__pycache__", ".*_cache")
    return Path(shutil.copytree(DEMO, tmp_path / "demo", ignore=ignored))


def run(folder: Path, *command: str) -> str:
    """Run a module of this Python in a folder; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=clean_environment("PYTHONPATH"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_demo_passes_with_and_without_a_farm(demo: Path) -> None:
    farmed = run(demo, "snapfarm.cli", "run", "-n", "2", "--farm-report", "report.json")
    alone = run(demo, "pytest")
    passed = [re.findall(r"^=+ (\d+) passed in", each, re.MULTILINE) for each in (farmed, alone)]
    assert passed[0] == passed[1] != []

    report = json.loads((demo / "report.json").read_text(encoding="utf-8"))
    assert [len(report["items"])] == [int(count) for count in passed[0]]
    (anomaly,) = report["anomalies"]
    assert anomaly["kind"] == "leaked-transaction"
    assert anomaly["test"].endswith("::test_a_stocktaking_that_nobody_finishes")
    for output in (farmed, alone):
        assert "leaked-transaction (error): 1 in 1 test" in output


def test_the_golden_database_is_realistic_and_the_same_each_time(demo: Path) -> None:
    manifests = []
    for _ in range(2):
        run(demo, "snapfarm.cli", "golden", "build", "--rebuild", "default")
        (shown,) = json.loads(run(demo, "snapfarm.cli", "golden", "show", "default", "--json"))
        manifests.append(shown["manifest"])
    first, second = manifests
    assert first["digest"] == second["digest"]
    tables = [table for table in first["tables"] if table["kind"] == "table"]
    assert len(tables) == 42
    assert sum(table["rows"] for table in tables) > 10_000
