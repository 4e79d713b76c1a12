"""Suites of others come out on a farm as they do under plain pytest, report by report."""

from __future__ import annotations

import faulthandler
import functools
import json
from pathlib import Path

import pytest

from support import real_suites
from support.real_suites import JINJA2, SQLITE_UTILS, SUITES, Prepared, Run, Suite

#: The golden database of the suite that runs beside one; `real_probe` knows its rows.
_SCHEMA = """
CREATE TABLE probe(id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE other(id INTEGER PRIMARY KEY, probe_id INTEGER NOT NULL REFERENCES probe(id));
INSERT INTO probe(name) VALUES ('a'), ('b'), ('c');
INSERT INTO other(probe_id) SELECT id FROM probe;
"""


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


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_a_farm_gives_the_outcomes_of_plain_pytest(suite: Suite) -> None:
    assert_same(suite, real_suites.run_farm(prepared(suite)))


@pytest.mark.parametrize("mode", ["loadscope", "loadfile", "loadgroup", "worksteal"])
def test_every_mode_gives_the_outcomes_of_plain_pytest(mode: str) -> None:
    assert_same(JINJA2, real_suites.run_farm(prepared(JINJA2), f"--dist={mode}"))


def test_a_golden_database_beside_a_suite_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "schema.sql").write_text(_SCHEMA, "utf-8")
    config = tmp_path / "farm.toml"
    config.write_text("[golden.default]\nschema = ['schema.sql']\n", "utf-8")
    written = tmp_path / "report.json"
    farm = real_suites.run_farm(
        prepared(SQLITE_UTILS), f"--config={config}", f"--farm-report={written}", "-p", "real_probe"
    )
    assert_same(SQLITE_UTILS, farm)

    report = json.loads(written.read_text("utf-8"))
    assert [golden["name"] for golden in report["golden"]] == ["default"]
    assert [each for each in report["anomalies"] if each["severity"] == "error"] == []
    # Each test found the ring pristine and soiled it: so it was reset after each of them.
    resets = sum(sum(worker["resets"].values()) for worker in report["workers"].values())
    assert resets >= SQLITE_UTILS.tests
