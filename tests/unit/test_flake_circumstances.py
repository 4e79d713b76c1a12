"""Circumstances of an experiment: they come back from the history as they were written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapfarm.flakes.circumstances import Circumstances
from snapfarm.flakes.history import Run
from snapfarm.flakes.replaying import differences
from snapfarm.flakes.rounds import Conditions, Round, asked_for, conditions
from snapfarm_worker.ringkind import RingKind

_MAYBE = st.none() | st.integers(0, 2**31)


@given(
    st.builds(
        Circumstances,
        seed=_MAYBE,
        hash_seed=_MAYBE,
        timezone=st.sampled_from([None, "UTC+12", "Europe/Berlin"]),
        switch=st.sampled_from([None, 1e-06, 0.5]),
        ring=st.sampled_from([None, *map(str, RingKind)]),
        randomly=_MAYBE,
    )
)
def test_what_was_written_is_read(chosen: Circumstances) -> None:
    assert Circumstances.parsed(str(chosen)) == chosen


def test_what_a_run_and_an_attempt_say_belongs_together() -> None:
    assert Circumstances.parsed("randomly 4, hash random", "7, moon full") == Circumstances(
        seed=7, randomly=4
    )
    assert Circumstances.parsed("", "") == Circumstances()


def test_a_round_says_how_to_have_it_again() -> None:
    def circumstances(under: Conditions) -> str:
        found = Round(number=4, conditions=under, seed=1004, hash_seed=2, seconds=0.1, processes=())
        return str(found.circumstances)

    ring, farm = asked_for(["memdb"], [3])
    assert circumstances(conditions(5)) == "1004, hash 2, zone UTC+12"
    assert circumstances(conditions(6)) == "1004, hash 2, switch 1e-06"
    assert circumstances(conditions(4, [ring, farm])) == "1004, hash 2, ring memdb"
    assert circumstances(conditions(7, [ring, farm])) == ""
    assert conditions(14, [ring, farm]) == ring
    assert conditions(4).plain
    assert not ring.plain
    assert not farm.plain


@pytest.mark.parametrize(
    ("golden", "now", "told"),
    [
        ("{}", {"default": "a"}, []),
        ('{"default": "a"}', {"default": "a"}, []),
        ('{"default": "a"}', {"default": "b"}, ["golden database 'default' is b, and was a in"]),
        ('{"log": "a"}', {}, ["golden database 'log' of the run is not there now"]),
        ('{"log": "a"}', {"log": "a", "log/full": "c"}, ["layer 'log/full' was not there in the"]),
        ('{"log": "a", "log/full": "b"}', {"log": "a"}, []),
    ],
)
def test_a_replay_names_what_is_not_the_runs(
    golden: str, now: dict[str, str], told: list[str]
) -> None:
    run = Run(id="r", source="farm", started=1.0, golden=golden, commit_id="c0ffee")
    lines = list(differences(run, now))
    assert len(lines) == len(told)
    for line, wanted in zip(lines, told, strict=True):
        assert line.startswith(wanted)
        assert line.endswith("; the run was at commit c0ffee")
