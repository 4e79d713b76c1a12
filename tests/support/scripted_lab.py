"""A suite whose tests fail as a script says: no process, so a thousand verdicts take a second."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from snapfarm.flakes.diagnosis import Suite
from snapfarm.flakes.experiment import Laboratory, Order, Ran
from snapfarm.flakes.matrix import Trait
from snapfarm.flakes.signature import Signature

#: Asked with an order and the hash seed of the process: does its last test fail?
Script = Callable[[Order, int], bool]


class ScriptedLab(Laboratory):
    """A laboratory that runs nothing."""

    def __init__(self, suite: ScriptedSuite, hash_seed: int) -> None:
        self._suite = suite
        self._hash_seed = hash_seed
        self.executions = 0

    @property
    def tests(self) -> tuple[str, ...]:
        """Five tests around the one that is of interest."""
        return ("a", "b", "c", "v", "d", "e")

    @property
    def databases(self) -> tuple[str, ...]:
        """None."""
        return ()

    def run(self, order: Order) -> list[Ran]:
        """Return what the script says of the last test; all others pass."""
        self.executions += len(order.tests)
        suite = self._suite
        failed = suite.script(order, self._hash_seed)
        last = Ran(
            test=order.tests[-1],
            outcome="failed" if failed else "passed",
            signature=suite.signature if failed else None,
            traits=suite.traits,
        )
        return [*(Ran(test=test, outcome="passed") for test in order.tests[:-1]), last]

    def close(self) -> None:
        """There is nothing to close."""


class ScriptedSuite(Suite, frozen=True):
    """A suite of which test `v` fails as the script says, with this signature."""

    script: Script
    signature: Signature
    traits: frozenset[Trait] = frozenset()

    def laboratory(
        self, hash_seed: int | None = None, *, ring: str | None = None, file: str | None = None
    ) -> Laboratory:
        """Return a laboratory that runs nothing."""
        del ring, file
        return ScriptedLab(self, hash_seed or 0)


def by_chance(
    one_in: int, chance: random.Random, signature: Signature, traits: frozenset[Trait] = frozenset()
) -> ScriptedSuite:
    """Return a suite whose test fails by chance alone, whatever is done."""
    return ScriptedSuite(
        (), Path(), lambda _order, _hash: chance.randrange(one_in) == 0, signature, traits
    )
