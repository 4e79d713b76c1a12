"""The benchmarks run, tell what they measured, and account for every process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks import contention, render, runners
from benchmarks.model import Bar, Column, Result, Table, below, faster, more
from benchmarks.options import DEFAULT_JSON, Document, Options
from benchmarks.reset import VARIANTS

TESTS = Path(__file__).resolve().parents[1]

# A process that starts another one, which spins for 0.3 CPU seconds and holds 60 MB.
_SPIN = """
import time
held = b"x" * 60_000_000
while time.process_time() < 0.3:
    pass
"""
_NESTED = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_SPIN!r}], check=True)"
# The same, but the parent leaves first.
_ORPHAN = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {_SPIN!r}])"
_MEASURE = """
import os, sys
from pathlib import Path
from snapfarm.compare.processes import measure

run = measure(
    [sys.executable, "-c", sys.argv[1]], Path.cwd(), os.environ, memory=sys.argv[2] == "memory"
)
print(run.status, run.cpu, run.memory)
"""


def _python(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        check=True,
        capture_output=True,
        text=True,
        timeout=100,
    ).stdout


def test_a_benchmark_runs_and_writes_its_samples(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- reset: begin, generated -->\n<!-- reset: end -->\nafter\n")
    wanted = ("--quick", "--only", "reset", "--sizes", "1", "--rounds", "2")
    output = _python(
        tmp_path, "-m", "benchmarks", *wanted, "--json", "out/all.json", "--markdown", str(page)
    )

    assert "bar: reset after a read-only test, 1 MB, under 50 us: " in output
    document = msgspec.json.decode((tmp_path / "out/all.json").read_bytes(), type=Document)
    (result,) = document.results
    assert len(result.tables) == 4
    for table in result.tables:
        assert list(table.rows) == ["1 MB"]
        for variant in VARIANTS:
            samples = table.samples("1 MB", variant)
            assert len(samples) == 2
            assert min(samples) > 0
    written = page.read_text()
    assert written.startswith("before\n")
    assert written.endswith("<!-- reset: end -->\nafter\n")
    assert "| 1 MB | " in written


def test_the_pool_is_measured_beside_its_peers(tmp_path: Path) -> None:
    parts = ("no-op", "threads")
    wanted = [word for part in parts for word in ("--only", f"pool/{part}")]
    output = _python(tmp_path, "-m", "benchmarks", "--quick", *wanted)

    document = msgspec.json.decode((tmp_path / DEFAULT_JSON).read_bytes(), type=Document)
    (result,) = document.results
    assert tuple(table.name for table in result.tables) == parts
    *rates, threads = result.tables
    for table in rates:
        rows = [row.partition(":")[0] for row in table.rows]
        for peer in runners.PEERS:
            assert (peer in rows) == runners.present(peer)
            assert (peer in table.note.partition("Missing here")[2]) != runners.present(peer)
        assert "pool" in rows
    for kind in contention.KINDS:
        assert min(threads.samples("4 threads", f"{kind}, operations")) > 0
    assert "bar: no lock error reaches threads that share a memdb ring: " in output
    assert len(result.bars) == 3


def test_a_peer_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(runners.MODULES, runners.LOKY, ("no_such_module",))
    assert not runners.present(runners.LOKY)
    assert "**Missing here, so not measured**: loky" in runners.peers_note()


def test_an_unknown_benchmark_is_refused(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        _python(tmp_path, "-m", "benchmarks", "--only", "resets")
    assert "no benchmark 'resets'" in caught.value.stderr


@pytest.mark.parametrize("code", [_NESTED, _ORPHAN], ids=["waited-for", "orphan"])
def test_cpu_of_every_descendant_counts(tmp_path: Path, code: str) -> None:
    status, cpu, memory = _python(tmp_path, "-c", _MEASURE, code, "no").split()
    assert (status, memory) == ("0", "0")
    assert float(cpu) >= 0.3


def test_memory_of_every_descendant_counts(tmp_path: Path) -> None:
    status, _, memory = _python(tmp_path, "-c", _MEASURE, _NESTED, "memory").split()
    assert status == "0"
    assert int(memory) > 60_000_000


def test_options_choose_benchmarks_and_tables() -> None:
    everything = Options(Path())
    one = Options(Path(), only=("suites/trivial",))
    assert everything.wants("suites")
    assert everything.wants("suites/trivial")
    assert one.wants("suites")
    assert one.wants("suites/trivial")
    assert not one.wants("suites/database")
    assert not one.wants("reset")


def test_a_bar_compares_round_by_round() -> None:
    (bar,) = faster("ours", 2.0, ours=[1.0, 2.0, 100.0], peers=[3.0, 6.0, 150.0])
    assert (bar.reached, bar.met) == (3.0, True)
    assert str(bar) == "bar: ours: met 3.00x (required 2x; 2 s against 6 s)"
    (limit,) = below("quick", 50e-6, [100e-6])
    assert str(limit) == "bar: quick: MISSED 0.50x (required 1x; 100 us of 50 us)"
    assert faster("ours", 2.0, [], []) == ()


def test_a_bar_of_rates_wants_more() -> None:
    (bar,) = more("ours", 1.0, ours=[2000.0, 4000.0, 9.0], peers=[1000.0, 2000.0, 9000.0])
    assert (bar.reached, bar.met) == (2.0, True)
    assert str(bar) == "bar: ours: met 2.00x (required 1x; 2,000/s against 2,000/s)"
    assert more("ours", 1.0, [], []) == ()


def test_the_best_rate_is_the_most_and_errors_are_added() -> None:
    columns = (Column("a", "1000/s"), Column("errors", "in all"))
    table = Table("t", "A table", "Note.", columns, {})
    for rate, errors in ((1000.0, 0), (3000.0, 2), (2000.0, 1)):
        table.add("row", "a", rate)
        table.add("row", "errors", errors)
    shown = render.text(Result("name", (table,), ()))
    assert shown.splitlines()[2].split() == ["row", "2.00", "(3.00)", "3"]


def test_a_table_shows_medians_and_the_least() -> None:
    table = Table("t", "A table", "Note.", (Column("a", "ms"), Column("b", "MB")), {})
    for sample in (0.003, 0.001, 0.002):
        table.add("row", "a", sample)
    shown = render.text(Result("name", (table,), (Bar("x", 1, 1, "y"),)))
    lines = [line.split() for line in shown.splitlines()]
    assert lines[1] == ["a,", "ms", "b,", "MB"]
    assert lines[2] == ["row", "2.00", "(1.00)", "-"]
