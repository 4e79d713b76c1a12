"""Which of the tests before a victim are tried first as its polluters, or its setters. Pure.

who                                          why
tests that wrote to what it reads, and       the likeliest by far, where databases outlive a test
that was not reset
tests that left other state different        the others: a look, not a proof
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from snapfarm.flakes.experiment import Ran

#: Returns the tests that are known, from earlier runs, to have written to one of these tables.
Writers: TypeAlias = Callable[[Iterable[str]], frozenset[str]]


def nobody(tables: Iterable[str]) -> frozenset[str]:
    """Know of no earlier runs."""
    del tables
    return frozenset()


def suspects_of(ran: Sequence[Ran], writers: Writers = nobody) -> tuple[str, ...]:
    """Return the suspects of an experiment in which the last test showed the effect, in order."""
    *before, victim = ran
    minded = frozenset((*victim.reads, *victim.differing))
    left = frozenset(f"table {table}" for table in minded)
    if not any(one.startswith("table ") for test in before for one in test.changed):
        # Everything is reset: who wrote to these tables is of no interest.
        minded = frozenset()
    known = writers(minded)
    wrote = [one.test for one in before if one.test in known or not left.isdisjoint(one.changed)]
    leaked = [one.test for one in before if one.changed]
    return tuple(dict.fromkeys(wrote or leaked))
