"""Runs are kept, found again and make a history; what fails at the end of a run is a warning."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from snapfarm.cli import main
from snapfarm.config import FarmConfig
from snapfarm.config_reports import ReportsConfig
from snapfarm.errors import ReportError
from snapfarm.report import formats, runs, summary
from snapfarm.report.model import Attempt, ItemLine, RunReport
from snapfarm.report.publish import publish
from snapfarm.report.reading import attempts
from snapfarm.report.timeline import Phase
from support.report_model import failure, fixed


def report(run: str, **outcomes: str) -> RunReport:
    """Return a report in which tests ended so: passed, failed, crashed, flaky or skipped."""
    made = RunReport(run=run, snapfarm="0", python="3", sqlite="3", started=1.0, seconds=2.0)
    for name, outcome in outcomes.items():
        bad = Attempt(outcome="failed", worker="gw0", failures=(failure("x"),))
        good = Attempt(outcome="passed", worker="gw0")
        made.items.append(
            ItemLine(
                nodeid=name,
                outcome={"crashed": "failed", "flaky": "passed"}.get(outcome, outcome),
                worker="gw0",
                seconds=0.5,
                crashed=outcome == "crashed",
                attempts=(bad, good) if outcome == "flaky" else (),
            )
        )
    return made


def test_the_last_runs_are_kept(tmp_path: Path) -> None:
    for number in range(5):
        runs.save(report(f"2026010{number}-x", a="passed"), tmp_path, 3)
    assert runs.names(tmp_path) == ["20260104-x", "20260103-x", "20260102-x"]
    assert (tmp_path / ".gitignore").read_text() == "*\n"
    assert runs.load(tmp_path, None).run == "20260104-x"
    assert runs.load(tmp_path, "20260103").run == "20260103-x"


def test_a_run_that_is_not_there_is_an_error_that_names_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="no run is kept there: run the suite with farm run"):
        runs.load(tmp_path, None)
    for name in ("20260101-a", "20260101-b"):
        runs.save(report(name), tmp_path, 9)
    with pytest.raises(ReportError, match="no run '2027' is kept; the last ones are: 20260101-b"):
        runs.load(tmp_path, "2027")
    with pytest.raises(ReportError, match="several runs begin with '2026'"):
        runs.load(tmp_path, "2026")
    with pytest.raises(ReportError, match="can't be read"):
        runs.read_file(tmp_path / "missing.json")


def test_a_history_has_a_letter_for_each_run(tmp_path: Path) -> None:
    runs.save(report("1", a="passed", b="crashed"), tmp_path, 9)
    runs.save(report("2", a="failed", c="skipped"), tmp_path, 9)
    (tmp_path / "runs" / "2b").mkdir()
    (tmp_path / "runs" / "2b" / "report.json").write_text("damaged")
    last = report("3", a="flaky", b="passed")
    runs.save(report("4", a="failed"), tmp_path, 9)  # later than the report: no part of it
    history = runs.with_history(last, tmp_path).history
    assert history.outcomes == {"a": "pfk", "b": "c-p", "c": "-s-"}
    assert [(line.run, line.tests, line.failed, line.flaky) for line in history.runs] == [
        ("1", 2, 1, 0),
        ("2", 2, 1, 0),
        ("3", 2, 0, 1),
    ]


def test_every_state_has_its_letter() -> None:
    states = {state: state for state in summary.STATES}
    history = runs.history_of([], report("1", **states))
    assert len(set(history.outcomes.values())) == len(summary.STATES)


def config(root: Path, **more: object) -> FarmConfig:
    return FarmConfig(root=root, **more)  # type: ignore[arg-type]  # as FarmConfig takes them


def test_reports_are_written_as_configured(tmp_path: Path) -> None:
    names = [name for name in formats.FORMATS if name != "github"]
    files = {name: str(tmp_path / "out" / f"farm.{name}") for name in names}
    said: list[str] = []
    settings = config(tmp_path, reports=msgspec.convert(files, ReportsConfig))
    assert publish(fixed(), settings, {}, said.append) == []
    for name in names:
        assert (tmp_path / "out" / f"farm.{name}").stat().st_size > 100
    assert runs.names(settings.cache_path) == [fixed().run]
    assert said == []


def test_github_gets_a_summary_and_annotations(tmp_path: Path) -> None:
    step = tmp_path / "summary.md"
    step.write_text("# Somebody else's\n")
    environ = {"GITHUB_STEP_SUMMARY": str(step), "GITHUB_ACTIONS": "true"}
    said: list[str] = []
    assert publish(fixed(), config(tmp_path), environ, said.append) == []
    assert step.read_text().startswith("# Somebody else's\n### Test run: 1 crashed")
    assert [line.partition(" ")[0] for line in said] == ["::error"] * 3 + ["::warning"]
    before = step.read_text()
    assert publish(fixed(), config(tmp_path, github="off"), environ, said.append) == []
    assert (step.read_text(), len(said)) == (before, 4)


def test_a_reporter_that_fails_is_a_warning_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    render = formats.render

    def broken(report: RunReport, name: str) -> str:
        if name == "junit":
            raise RuntimeError("broken \udcff")
        return render(report, name)

    monkeypatch.setattr(formats, "render", broken)
    files = ReportsConfig(junit=str(tmp_path / "a.xml"), text=str(tmp_path / "a.txt"))
    (warning,) = publish(fixed(), config(tmp_path, reports=files), {}, print)
    assert warning == "the junit report could not be written: RuntimeError: broken \\udcff"
    assert (tmp_path / "a.txt").exists()
    assert not (tmp_path / "a.xml").exists()


def test_a_reporter_that_takes_too_long_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forever = threading.Event()
    monkeypatch.setattr(formats, "render", lambda *_: str(forever.wait(60)))
    files = ReportsConfig(html=str(tmp_path / "a.html"), timeout=0.05)
    (warning,) = publish(fixed(), config(tmp_path, keep_runs=0, reports=files), {}, print)
    assert warning == "the html report was not ready after 0.05 s, and was left out"
    forever.set()


def test_the_command_writes_any_format_of_any_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    nothing = runner.invoke(main, ["report"])
    assert (nothing.exit_code, "no run is kept there" in nothing.output) == (4, True)
    runs.save(fixed(), tmp_path / ".farm", 9)
    assert runner.invoke(main, ["report", "--list"]).output == f"{fixed().run}\n"
    shown = runner.invoke(main, ["report"])
    assert (shown.exit_code, shown.output.splitlines()[0]) == (0, "failed: 3")
    for name, start in (("a.html", "<!doctype html>"), ("a.xml", "<?xml"), ("a.md", "### Test")):
        done = runner.invoke(main, ["report", "20260102", "-o", f"out/{name}"])
        assert (done.exit_code, done.output) == (0, "")
        assert (tmp_path / "out" / name).read_text("utf-8").startswith(start)
    kept = tmp_path / ".farm" / "runs" / fixed().run / "report.json"
    again = runner.invoke(main, ["report", str(kept), "--format", "github"])
    assert again.output.startswith("::error file=tests/test_shop.py")


def test_attempts_are_told_apart_by_their_setup() -> None:
    bad = failure("no")
    phases = [
        Phase("setup", "passed", 0.5),
        Phase("call", "rerun", 1.0, failure=bad),
        Phase("teardown", "passed", 0.25),
        Phase("setup", "failed", 0.5, failure=failure("no", phase="setup")),
        Phase("teardown", "passed", 0.0),
        Phase("setup", "passed", 0.0),
        Phase("call", "passed", 2.0),
        Phase("teardown", "passed", 0.0),
    ]
    found = attempts(phases, "gw1", 10.0)
    assert [(each.outcome, each.began, each.seconds) for each in found] == [
        ("failed", 10.0, 1.75),
        ("error", 11.75, 0.5),
        ("passed", 12.25, 2.0),
    ]
    assert found[0].failures == (bad,)
