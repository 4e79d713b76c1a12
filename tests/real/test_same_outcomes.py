"""Suites of others come out on a farm as they do under plain pytest, report by report."""

from __future__ import annotations

import faulthandler
import functools
from pathlib import Path

import pytest

from snapfarm.report.model import RunReport, read_json
from snapfarm_worker.anomaly import Severity
from support import real_suites
from support.real_suites import DJANGO_FILTER, JINJA2, PYTEST_DJANGO, SUITES, Prepared, Run, Suite

#: The golden database of the suite that runs beside one; `real_probe` knows its rows.
_SCHEMA = """
CREATE TABLE probe(id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE other(id INTEGER PRIMARY KEY, probe_id INTEGER NOT NULL REFERENCES probe(id));
INSERT INTO probe(name) VALUES ('a'), ('b'), ('c');
INSERT INTO other(probe_id) SELECT id FROM probe;
"""


#: Django projects whose databases a farm makes without being asked.
WITH_RINGS = (PYTEST_DJANGO, DJANGO_FILTER)


@pytest.fixture(autouse=True)
def no_stack_dump() -> None:
    """Call off pytest's dump of stacks: a suite may run for longer, and has a limit of its own."""
    faulthandler.cancel_dump_traceback_later()


@functools.cache
def prepared(suite: Suite) -> Prepared:
    return real_suites.prepare(suite)


@functools.cache
def plain(suite: Suite) -> Run:
    """Run a suite with pytest alone, once for all tests here."""
    return real_suites.run_plain(prepared(suite))


def assert_same(suite: Suite, farm: Run) -> None:
    alone = plain(suite)
    assert alone.tests == suite.tests, f"plain pytest ran other tests:\n{alone.output[-3000:]}"
    expected = real_suites.expected_on_a_farm(suite, alone.outcomes)
    found = real_suites.without_flaky(suite, farm.outcomes)
    different = real_suites.differences(expected, found)
    shown = "\n".join(different[:40])
    assert not different, f"{len(different)} differences:\n{shown}\n{farm.output[-5000:]}"
    assert farm.exit_status == alone.exit_status, farm.output[-5000:]


def watched(suite: Suite, folder: Path, *options: str) -> RunReport:
    """Run a suite on a farm with all sensors; return the report, in which nothing is an error.

    There are no exceptions: whoever adds a suite that has a true finding lists it, by test and
    kind, with the reason.
    """
    written = folder / "report.json"
    options = ("--sensors=full", f"--farm-report={written}", *options)
    assert_same(suite, real_suites.run_farm(prepared(suite), *options))
    report = read_json(written.read_bytes(), str(written))
    assert [each for each in report.anomalies if each.severity is Severity.ERROR] == []
    return report


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_a_farm_gives_the_outcomes_of_plain_pytest(suite: Suite, tmp_path: Path) -> None:
    report = watched(suite, tmp_path)
    assert bool(report.golden) == (suite in WITH_RINGS)


@pytest.mark.parametrize("mode", ["loadscope", "loadfile", "loadgroup", "worksteal"])
def test_every_mode_gives_the_outcomes_of_plain_pytest(mode: str) -> None:
    assert_same(JINJA2, real_suites.run_farm(prepared(JINJA2), f"--dist={mode}"))


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_a_golden_database_beside_a_suite_changes_nothing(suite: Suite, tmp_path: Path) -> None:
    (tmp_path / "schema.sql").write_text(_SCHEMA, "utf-8")
    config = tmp_path / "farm.toml"
    config.write_text("[golden.default]\nschema = ['schema.sql']\n", "utf-8")
    report = watched(suite, tmp_path, f"--config={config}", "-p", "real_probe")
    assert [golden.name for golden in report.golden] == ["default"]
    # Each test found the ring pristine and soiled it: so it was reset after each of them.
    resets = sum(sum(worker.resets.values()) for worker in report.workers.values())
    assert resets >= suite.tests
