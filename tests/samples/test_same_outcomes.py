"""Sample projects come out alike: plain, with pytest-xdist, and on farms of all kinds.

Every project in a folder beside this file takes part. The farm runs each of them in all 15
combinations of five `--dist` modes with 1, 2 and 4 workers, and pytest-xdist with 1, 2 and 4
workers. Of three orders (the project's own, and two shuffled ones) each run has one, so chosen that
every mode and every number of workers meets every order: all pairs are there, of all 45 triples a
third.
"""

from __future__ import annotations

import functools
import itertools
import tempfile
from pathlib import Path

import pytest

from snapfarm.compare import runs
from snapfarm.compare.record import Runner
from snapfarm.compare.runs import Suite, SuiteRun
from snapfarm.compare.verdict import judge
from support.samples import NAMES, copied

WORKERS = (1, 2, 4)
MODES = ("load", "loadscope", "loadfile", "loadgroup", "worksteal")
ORDERS = (None, "one", "another")
#: Tests that a sample has at least.
LEAST = 20

#: Mode, number of workers, order.
DESIGN = [
    (mode, workers, ORDERS[(number + WORKERS.index(workers)) % len(ORDERS)])
    for (number, mode), workers in itertools.product(enumerate(MODES), WORKERS)
]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("samples")


@functools.cache
def project(name: str, folder: Path) -> Path:
    return copied(name, folder)


def run(
    name: str, runner: Runner, folder: Path, workers: int, dist: str | None, shuffle: str | None
) -> SuiteRun:
    suite = Suite(
        folder=project(name, folder), arguments=(), workers=workers, dist=dist, shuffle=shuffle
    )
    with tempfile.TemporaryDirectory(prefix="fs-") as scratch:
        return runs.run(suite, runner, Path(scratch, "run"), memory=False)


@functools.cache
def plain(name: str, folder: Path, order: str | None = None) -> SuiteRun:
    found = run(name, "plain", folder, 1, None, order)
    assert found.outcome.exit_status == 0, found.output
    assert len(found.outcome.tests) >= LEAST
    return found


def assert_same(name: str, folder: Path, other: SuiteRun) -> None:
    verdict = judge({"plain": [plain(name, folder).outcome], "other": [other.outcome]})
    assert verdict.equal, f"{verdict}\n{other.output[-5000:]}"


def test_the_design_has_all_pairs() -> None:
    pairs = {
        frozenset(pair)
        for mode, workers, order in DESIGN
        for pair in ((mode, workers), (mode, order), (workers, order))
    }
    assert len(pairs) == len(MODES) * len(WORKERS) + (len(MODES) + len(WORKERS)) * len(ORDERS)


@pytest.mark.parametrize("order", ORDERS[1:])
@pytest.mark.parametrize("name", NAMES)
def test_plain_in_any_order(name: str, order: str, folder: Path) -> None:
    assert_same(name, folder, plain(name, folder, order))


@pytest.mark.parametrize(("workers", "order"), list(zip(WORKERS, ORDERS, strict=True)))
@pytest.mark.parametrize("name", NAMES)
def test_xdist(name: str, workers: int, order: str | None, folder: Path) -> None:
    assert_same(name, folder, run(name, "xdist", folder, workers, None, order))


@pytest.mark.parametrize(("mode", "workers", "order"), DESIGN)
@pytest.mark.parametrize("name", NAMES)
def test_farm(name: str, mode: str, workers: int, order: str | None, folder: Path) -> None:
    found = run(name, "farm", folder, workers, mode, order)
    assert_same(name, folder, found)
    report = found.farm
    assert report is not None
    assert (report.planned_workers, report.dist) == (workers, mode)
    assert len(report.workers) == workers
    assert [line.death for line in report.workers.values() if line.death] == []
    assert [each for each in report.anomalies if each.severity == "error"] == []
