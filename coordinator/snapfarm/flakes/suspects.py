"""Which of the tests before a victim are tried first as its polluters, or its setters. Pure.

who                                              why
who wrote to a table that the victim reads,      the likeliest by far where tests leave
that is not as it should be, and was not reset   databases changed
who left other state different                   a look, not a proof
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
    reads, differing = frozenset(victim.reads), frozenset(victim.differing)
    # Others have changed what it does not read, and it reads what nobody has changed.
    minded = reads & differing or reads or differing
    if not any(one.startswith("table ") for test in before for one in test.changed):
        # Everything is reset: who wrote to these tables is of no interest.
        minded = frozenset()
    left = frozenset(f"table {table}" for table in minded)
    known = writers(minded)
    wrote = [one.test for one in before if one.test in known or not left.isdisjoint(one.changed)]
    leaked = [one.test for one in before if one.changed]
    return tuple(dict.fromkeys(wrote or leaked))
