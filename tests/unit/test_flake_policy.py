"""Reruns with their breaker, the quarantine file, and reruns in the dispatcher."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from snapfarm.dispatch import End, Finished, ItemFinished, WorkerEnded
from snapfarm.errors import ConfigError
from snapfarm.flakes import quarantine
from snapfarm.flakes.reruns import BREAKER_LEAST, Reruns
from support.dispatch_scenario import Scenario, began, did, has, play, run, up


def test_a_failure_runs_again_as_often_as_allowed() -> None:
    reruns = Reruns(2)
    assert [reruns.wanted("a") for _ in range(4)] == [True, True, False, False]
    assert not Reruns(0).wanted("a")


def test_the_breaker_opens_when_most_tests_fail() -> None:
    reruns = Reruns(1)
    answers = [reruns.wanted(f"t{number}") for number in range(BREAKER_LEAST + 2)]
    assert answers == [True] * (BREAKER_LEAST - 1) + [False] * 3
    assert reruns.broken == (
        f"{BREAKER_LEAST} of {BREAKER_LEAST} tests have failed: nothing is run again any more"
    )


def test_the_breaker_stays_closed_where_most_pass() -> None:
    reruns = Reruns(1)
    for number in range(100):
        reruns.passed(f"good{number}")
    assert all(reruns.wanted(f"bad{number}") for number in range(40))
    for number in range(40):
        reruns.passed(f"bad{number}")
    assert reruns.wanted("late")
    assert reruns.broken == ""


# ---------------------------------------------------------------- quarantine

FILE = """
[[quarantine]]
test = "tests/test_mail.py::test_[a]*"
reason = "drops connections"
owner = "anna"
issue = "https://example.org/7"
expires = 2027-01-31
"""


def test_an_entry_covers_its_tests_until_it_expires(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.toml"
    path.write_text(FILE)
    found = quarantine.load(path)
    entry = found.entry_of("tests/test_mail.py::test_[a]bc")
    assert entry is not None
    assert str(entry) == "drops connections (anna, https://example.org/7, until 2027-01-31)"
    assert found.entry_of("tests/test_mail.py::test_abc") is None
    assert found.expired(dt.date(2027, 1, 31)) == ()
    assert found.expired(dt.date(2027, 2, 1)) == (entry,)
    (line,) = quarantine.expired_lines(found.expired(dt.date(2027, 2, 1)), path)
    assert line.startswith("quarantine.toml: tests/test_mail.py::test_[a]*: expired on 2027-01-31")
    assert quarantine.load(tmp_path / "none.toml").entries == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FILE.replace('owner = "anna"\n', ""), "missing required field `owner`"),
        (FILE.replace("2027-01-31", '"soon"'), "expires"),
        (FILE.replace('"anna"', '" "'), r"quarantine\[0\].owner: must not be empty"),
        (FILE + "until = 1\n", "unknown field `until`"),
        ("[[quarantine", "is no valid TOML"),
    ],
)
def test_a_wrong_entry_is_a_clear_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "quarantine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as raised:
        quarantine.load(path)
    assert str(path) in str(raised.value)


# ---------------------------------------------------------------- the dispatcher


def again(worker: str, key: str) -> ItemFinished:
    return ItemFinished(worker, key, again=True)


def test_a_failed_item_runs_again_and_has_one_outcome() -> None:
    play(
        Scenario(
            "the only worker gets it again",
            workers=1,
            steps=[
                (up("gw0"), []),
                (has("gw0", "a b"), [run("gw0", "a b", flush=True)]),
                (began("gw0", "a"), []),
                (again("gw0", "a"), [run("gw0", "a", flush=True)]),
                (began("gw0", "b"), []),
                (did("gw0", "b"), []),
                (began("gw0", "a"), []),
                (did("gw0", "a"), [End("gw0")]),
                (WorkerEnded("gw0"), [Finished()]),
            ],
        )
    )
