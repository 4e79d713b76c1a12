"""Which cells are filled, and what follows: verdicts on tests that fail as a script says."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from pathlib import Path

import pytest

from snapfarm.flakes import diagnosis
from snapfarm.flakes.diagnosis import TIME_ZONES, Failure, diagnose
from snapfarm.flakes.experiment import Order
from snapfarm.flakes.matrix import Trait
from snapfarm.flakes.signature import Signature
from snapfarm.flakes.verdict import Cause
from support.scripted_lab import Script, ScriptedSuite, by_chance

PLAIN = Signature("AssertionError", "assert x == y")
TIMEOUT = Signature("TimeoutError", "no answer")


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep no processor busy."""
    monkeypatch.setattr(diagnosis, "load", lambda _processes: contextlib.nullcontext())


def _cause(suite: ScriptedSuite, seed: int = 7, hash_seed: int | None = None) -> Cause:
    failure = Failure(
        test="v",
        predecessors=("a", "b", "c"),
        seed=seed,
        hash_seed=hash_seed,
        signature=suite.signature,
    )
    return diagnose(suite, suite.laboratory(), failure).verdict.cause


@pytest.mark.parametrize(
    ("signature", "traits", "cause"),
    [
        (TIMEOUT, frozenset[Trait](), Cause.TIMING),
        (PLAIN, frozenset({Trait.SLEEPS}), Cause.TIMING),
        (PLAIN, frozenset({Trait.THREADS}), Cause.RACE),
        (PLAIN, frozenset[Trait](), Cause.UNKNOWN),
    ],
)
def test_chance_is_taken_for_nothing_else(
    signature: Signature, traits: frozenset[Trait], cause: Cause
) -> None:
    """Of a test that fails by chance nothing repeats: not order, seeds, zones or hashes."""
    chance = random.Random(2026)
    causes: Counter[Cause] = Counter()
    for one_in in (2, 3, 4, 5, 10, 20):
        causes.update(_cause(by_chance(one_in, chance, signature, traits)) for _ in range(150))
    wrong = causes.total() - causes[cause]
    assert wrong <= 0.02 * causes.total(), causes


def _hashes(order: Order, hash_seed: int) -> bool:
    del order
    return hash_seed % 3 == 0


def _zones(order: Order, hash_seed: int) -> bool:
    del hash_seed
    return order.timezone in TIME_ZONES[:2]


def _seeds(order: Order, hash_seed: int) -> bool:
    del hash_seed
    return order.seed % 7 == 0


def _polluted(order: Order, hash_seed: int) -> bool:
    del hash_seed
    return "b" in order.tests[:-1]


def _twice(order: Order, hash_seed: int) -> bool:
    del hash_seed
    return order.tests[:-1].count("v") > 0


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        (_hashes, Cause.RANDOM),
        (_zones, Cause.TIME),
        (_seeds, Cause.RANDOM),
        (_polluted, Cause.ORDER_DEPENDENT),
        (_twice, Cause.PROCESS_STATE),
        (lambda *_: True, Cause.DETERMINISTIC),
    ],
)
@pytest.mark.parametrize("inverse", [False, True])
def test_what_repeats_is_named(script: Script, cause: Cause, inverse: bool) -> None:
    if inverse and cause in {Cause.DETERMINISTIC, Cause.RANDOM}:
        pytest.skip("the reverse is no flake that these cells show")
    suite = ScriptedSuite(
        (), Path(), lambda order, hash_seed: script(order, hash_seed) is not inverse, PLAIN
    )
    # Of a hash seed that makes no difference to the first process, 12 does.
    assert _cause(suite, hash_seed=1 if script is _hashes else None) is cause


def test_a_polluter_is_named_and_nobody_else() -> None:
    suite = ScriptedSuite((), Path(), _polluted, PLAIN)
    failure = Failure(test="v", predecessors=("a", "b", "c"), signature=PLAIN)
    assert diagnose(suite, suite.laboratory(), failure).culprits == (("b",),)
