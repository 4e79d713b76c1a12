"""A test that ended when its time was over has failed, whatever its own reports say."""

from __future__ import annotations

from typing import cast

import pytest

from snapfarm import overruns
from snapfarm.happenings import Overran
from snapfarm_worker import plain, wire

LATE = [Overran("gw0", "a", 0, "stacks of a")]


def _failed(*reports: dict[str, object]) -> list[dict[str, object]]:
    message = wire.ItemFinished("a", plain.encode(list(reports), plain.describe), 2.4)
    return cast(
        "list[dict[str, object]]", plain.decode(overruns.failed(message, 2.0, LATE).reports)
    )


def _report(when: str, outcome: str = "passed", **more: object) -> dict[str, object]:
    return {"when": when, "outcome": outcome, "longrepr": None, "sections": [], **more}


@pytest.mark.parametrize("outcome", ["passed", "skipped"])
def test_its_call_has_failed(outcome: str) -> None:
    call = _report("call", outcome, wasxfail="reason")
    setup, call, teardown = _failed(_report("setup"), call, _report("teardown"))
    assert (setup["outcome"], teardown["outcome"]) == ("passed", "passed")
    assert call["outcome"] == "failed"
    assert call["longrepr"] == "the item passed the time limit of 2 s: it ended after 2.4 s"
    assert "wasxfail" not in call
    ((title, text),) = cast("list[tuple[str, str]]", call["sections"])
    assert (title, text) == ("Stacks of all threads when its time was over", "stacks of a")


def test_a_failure_of_its_own_keeps_its_reason() -> None:
    _setup, call = _failed(_report("setup"), _report("call", "failed", longrepr="assert 0"))
    assert call["longrepr"] == "assert 0"
    assert len(cast("list[object]", call["sections"])) == 1


def test_without_a_call_its_setup_has_failed() -> None:
    setup, teardown = _failed(_report("setup", "skipped"), _report("teardown"))
    assert (setup["outcome"], teardown["outcome"]) == ("failed", "passed")


def test_without_reports_there_is_nothing_to_fail() -> None:
    assert _failed() == []
