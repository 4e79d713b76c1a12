"""The JSON report holds whatever a run was called, and never breaks the run."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from snapfarm import roles
from snapfarm.recorder import RunRecorder
from snapfarm.report import model
from snapfarm.report.timeline import Phase


def _config(folder: Path, **more: object) -> pytest.Config:
    option = SimpleNamespace(farm_report="report.json")
    found = SimpleNamespace(option=option, invocation_params=SimpleNamespace(dir=folder), **more)
    return cast("pytest.Config", found)


def test_names_that_are_no_valid_text_are_written_readable(tmp_path: Path) -> None:
    recorder = RunRecorder(0, "no")
    recorder.finished("b\udcff.py::test", "master", 1.0, [Phase("call", "passed", 1.0)])
    recorder.unrun(["c\ud800.py::test"], "stopped: \udcff")
    roles.write_report(recorder, 0, _config(tmp_path))
    report = json.loads((tmp_path / "report.json").read_bytes())
    assert report["items"][0]["nodeid"] == "b\\udcff.py::test"
    assert (report["unrun"], report["unrun_reason"]) == (["c\\ud800.py::test"], "stopped: \\udcff")


def test_no_error_of_the_report_breaks_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(model, "write_json", broken)
    roles.write_report(RunRecorder(0, "no"), 0, _config(tmp_path))
    assert "the report could not be written: RuntimeError: broken" in capsys.readouterr().err


def test_workers_of_xdist_leave_the_report_to_the_process_that_distributes(tmp_path: Path) -> None:
    roles.write_report(RunRecorder(0, "no"), 0, _config(tmp_path, workerinput={}))
    assert not list(tmp_path.iterdir())
