"""Each parameter of a pool is checked before anything is started, and named if it is wrong."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any, cast

import pytest

from snapfarm import Golden, WorkerPool
from snapfarm.errors import ConfigError, TaskUnshippable
from snapfarm.pool.progress import progress_of
from snapfarm.pool.statistics import Tally
from support.pool import golden

#: Takes wrong types, which is the point.
make = cast("Callable[..., WorkerPool]", WorkerPool)


@pytest.fixture(scope="module")
def database() -> Golden:
    return golden()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("workers", 0),
        ("workers", "two"),
        ("workers", True),
        ("threads", 0),
        ("threads", 1.5),
        ("isolation", "process"),
        ("ring", "wal"),
        ("retries", -1),
        ("task_timeout", -1),
        ("task_timeout", float("nan")),
        ("max_result_size", 0),
        ("sensors", "yes"),
        ("start_method", "exec"),
        ("start_timeout", 0),
        ("heartbeat_timeout", -3),
        ("tasks", "json:loads"),
        ("tasks", ["json"]),
        ("tasks", ["json:"]),
        ("tasks", [5]),
        ("tasks", 5),
        ("tasks", {1: "json:loads"}),
        ("initializer", 5),
        ("initargs", 5),
        ("on_progress", 5),
        ("progress", "bar"),
    ],
)
def test_a_wrong_parameter_is_named(database: Golden, name: str, value: object) -> None:
    with pytest.raises((ConfigError, TypeError), match=rf"\b{name}\b"):
        make(database, **{name: value})


@pytest.mark.parametrize("wrong", [None, "app.sqlite", {}, {"a": 1}, [], {5: None}])
def test_a_wrong_golden_is_named(wrong: object) -> None:
    with pytest.raises(ConfigError, match="golden"):
        make(wrong)


def test_a_wrong_database_name_is_named(database: Golden) -> None:
    with pytest.raises(ConfigError, match="name"):
        make({"no/name": database})


def test_an_initializer_that_cant_be_shipped_is_named(database: Golden) -> None:
    numbers = (n for n in range(3))
    with pytest.raises(TaskUnshippable, match="the initializer can't be shipped"):
        make(database, initializer=lambda: numbers)
    with pytest.raises(TaskUnshippable, match="the initializer can't be shipped"):
        make(database, initializer=print, initargs=(numbers,))


def test_progress_is_told_of_the_last_call_and_survives_its_follower(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen: list[Any] = []
    tally = Tally(1)

    def follower(progress: object) -> None:
        seen.append(progress)
        if len(seen) == 2:
            raise SystemExit("enough")

    teller = progress_of(tally, follower, bar=True)  # no terminal: no bar
    tally.count("submitted", 3)
    for _ in range(3):
        tally.count("done")
        teller.changed()
    assert [(each.ended, each.submitted) for each in seen] == [(1, 3), (3, 3)]
    teller.changed()
    assert len(seen) == 2
    assert "on_progress failed" in capsys.readouterr().err


class Terminal(io.StringIO):
    """What is written to a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_bar_is_shown_on_a_terminal_and_gone_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    tally = Tally(1)
    teller = progress_of(tally, None, bar=True)
    tally.count("submitted", 2)
    tally.count("done")
    teller.changed()
    tally.count("failed")
    teller.changed()
    shown = terminal.getvalue()
    assert "2/2" in shown
    assert "1 failed" in shown
    # A change after the end brings no other one.
    teller.changed()
    assert terminal.getvalue() == shown
