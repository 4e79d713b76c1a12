"""Some suites of the corpus of flakes, one for each kind of answer; `make flakes` runs all."""

from __future__ import annotations

import math

import pytest

from flakes.corpus import PARTS
from flakes.measure import hunt_through
from flakes.model import Case
from snapfarm.flakes.verdict import Cause

#: The collected order, its reverse, each test alone, each twice: what these suites need.
ROUNDS = 4
CORPUS, HELD_OUT, QUICK = PARTS["corpus"], PARTS["held-out"], PARTS["quick"]


@pytest.mark.parametrize("case", QUICK, ids=[case.name for case in QUICK])
def test_flakes_are_found_judged_and_blamed(case: Case) -> None:
    for one in hunt_through(case, ROUNDS).judged:
        assert one.expected is not None, f"{one.test} is clean"
        assert one.found, one
        assert one.right_cause, one
        assert one.right_culprits, one
        assert one.search_runs <= 2 * math.log2(one.tests) + 4


def test_the_corpus_is_what_its_figures_are_said_to_be_of() -> None:
    names = [case.name for case in (*CORPUS, *HELD_OUT)]
    assert len(names) == len(set(names))
    assert len(CORPUS) >= 60
    assert len([case for case in HELD_OUT if case.flakes]) >= 12
    variants = [flake.cause for case in CORPUS for flake in case.flakes.values()]
    assert all(variants.count(cause) >= 2 for cause in Cause), "each cause in several variants"
    assert len([case for case in CORPUS if not case.flakes]) >= 10
