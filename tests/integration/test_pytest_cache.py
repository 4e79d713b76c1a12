"""What pytest remembers from run to run: --lf, --ff, --nf and --stepwise on a farm."""

from __future__ import annotations

import json
from pathlib import Path

from support.pytest_runs import Runs

FAILS = "def test_a(): pass\ndef test_b(): assert 0\ndef test_c(): pass\n"
PASSES = FAILS.replace("assert 0", "pass")


def _cached(runs: Runs, key: str) -> object:
    return json.loads((runs.root.parent / "cache-farm/v/cache" / key).read_text())


def test_last_failed_and_failed_first(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "suite", {"test_x.py": FAILS, "test_y.py": PASSES})
    first = runs.run("--lf")
    assert first.counts == "1 failed, 5 passed"
    assert _cached(runs, "lastfailed") == {"test_x.py::test_b": True}
    again = runs.run("--lf")
    assert (again.exit_code, again.counts) == (1, "1 failed")
    order = runs.run("--ff", "--farm=1")
    assert next(iter(order.outcomes)) == "test_x.py::test_b"
    assert order.counts == "1 failed, 5 passed"

    # A file that can't be imported is remembered, and forgotten when it can.
    runs.write({"test_x.py": PASSES, "test_y.py": "import no_such_module_here\n"})
    assert runs.run().exit_code == 2
    assert _cached(runs, "lastfailed") == {"test_x.py::test_b": True, "test_y.py": True}
    runs.write({"test_y.py": PASSES})
    assert runs.run("--lf").exit_code == 0
    assert _cached(runs, "lastfailed") == {}


def test_new_first(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "suite", {"test_x.py": PASSES})
    runs.run()
    assert _cached(runs, "nodeids") == [f"test_x.py::test_{name}" for name in "abc"]
    runs.write({"test_y.py": "def test_new(): pass\n"})
    assert next(iter(runs.run("--nf", "--farm=1").outcomes)) == "test_y.py::test_new"


def test_stepwise(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "suite", {"test_x.py": FAILS})
    first = runs.run("--stepwise", "--farm=1")
    assert first.exit_code == 2
    assert "Test failed, continuing from this test next run" in first.stdout
    runs.write({"test_x.py": PASSES})
    second = runs.run("--stepwise", "--farm=1")
    assert (second.exit_code, second.counts) == (0, "2 passed, 1 deselected")
