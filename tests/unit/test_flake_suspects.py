"""Who is tried first as a polluter: writers of the tables that a victim reads, then leaks."""

from __future__ import annotations

from collections.abc import Iterable

from snapfarm.flakes.experiment import Ran
from snapfarm.flakes.suspects import suspects_of


def ran(
    test: str, *changed: str, reads: tuple[str, ...] = (), differing: tuple[str, ...] = ()
) -> Ran:
    return Ran(test=test, outcome="passed", changed=changed, reads=reads, differing=differing)


BEFORE = (
    ran("leaks", "variable X"),
    ran("good", "database default", "table default.good"),
    ran("log", "database default", "table default.log"),
    ran("quiet"),
)


def test_writers_of_what_is_read_and_differs_come_first() -> None:
    both = ("default.good", "default.log")
    for victim in (
        ran("v", reads=("default.good",), differing=both),
        ran("v", reads=both, differing=("default.good",)),
        ran("v", reads=("default.good",)),
        ran("v", differing=("default.good",)),
    ):
        assert suspects_of((*BEFORE, victim)) == ("good",)
    assert suspects_of((*BEFORE, ran("v", reads=both))) == ("good", "log")


def test_without_such_writers_whatever_was_left_is_suspicious() -> None:
    assert suspects_of((*BEFORE, ran("v"))) == ("leaks", "good", "log")
    assert suspects_of((*BEFORE, ran("v", reads=("default.other",)))) == ("leaks", "good", "log")
    assert suspects_of((ran("quiet"), ran("v"))) == ()


def test_earlier_runs_know_writers_too_but_not_of_what_is_reset() -> None:
    asked: list[frozenset[str]] = []

    def writers(tables: Iterable[str]) -> frozenset[str]:
        asked.append(frozenset(tables))
        return frozenset({"quiet"}) if asked[-1] else frozenset()

    victim = ran("v", reads=("default.good",))
    assert suspects_of((*BEFORE, victim), writers) == ("good", "quiet")
    assert suspects_of((BEFORE[0], BEFORE[3], victim), writers) == ("leaks",)
    assert asked == [frozenset({"default.good"}), frozenset()]
