"""Finds what a victim needs before it to fail (or a brittle test to pass): a delta search.

The predicate is asked with tests in their original order, and says whether the victim, run after
them, shows the effect. The effect of all of them together is known before the search begins.

The search looks for the shortest *end* of the list that has the effect. Its first test is one that
is needed. An end is taken rather than a beginning because of cleaners: a test that undoes what a
polluter did stands behind it, and what stands before the polluter can't disturb. If that test alone
is not enough, it stays, and the search goes on in what follows it: the company that it needs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import msgspec

#: Asked with tests, in order: is the effect there?
Predicate = Callable[[tuple[str, ...]], bool]

#: Tests that one effect may need together before the search takes it for something else.
MOST_COMPANY = 3


class Found(msgspec.Struct, frozen=True):
    """Tests that together have the effect, in order; empty where the search came to nothing."""

    tests: tuple[str, ...]
    #: How often the predicate was asked.
    runs: int


class _Counted:
    """A predicate that counts, and does not ask the same twice."""

    def __init__(self, predicate: Predicate) -> None:
        self._predicate = predicate
        self._known: dict[tuple[str, ...], bool] = {}

    def __call__(self, tests: Sequence[str]) -> bool:
        asked = tuple(tests)
        if asked not in self._known:
            self._known[asked] = self._predicate(asked)
        return self._known[asked]

    @property
    def runs(self) -> int:
        return len(self._known)


def find(tests: Sequence[str], predicate: Predicate, suspects: Sequence[str] = ()) -> Found:
    """Return tests that have the effect together, none of which can be left out.

    `suspects` are tried first, as a group: one run that may save most of the others. One culprit
    among n tests takes at most log2(n) + 3 runs, two that need each other 2 log2(n) + 4, innocent
    suspects included.
    """
    asked = _Counted(predicate)
    rest = list(tests)
    group = [test for test in tests if test in set(suspects)]
    if group and len(group) <= len(rest) // 2 and asked(group):
        rest = group
    needed: list[str] = []
    while rest and len(needed) < MOST_COMPANY:
        before = tuple(needed)
        start = _shortest_end(rest, functools.partial(_after, asked, before))
        needed.append(rest[start])
        if asked(needed):
            return Found(tuple(needed), asked.runs)
        rest = rest[start + 1 :]
    return Found((), asked.runs)


def _after(asked: _Counted, before: tuple[str, ...], end: Sequence[str]) -> bool:
    return asked([*before, *end])


def _shortest_end(tests: Sequence[str], effect: Callable[[Sequence[str]], bool]) -> int:
    """Return where the shortest end with the effect begins; all of `tests` have it.

    Of a number that is no power of two, some places take a question more than others. These are the
    last ones: where the first test of the end is late, not much is left to be searched behind it.
    """
    low, high = 0, len(tests) - 1
    # The end from `low` has the effect, the one from `high + 1` has it not.
    while low < high:
        middle = high + 1 - _larger_half(high + 1 - low)
        if effect(tests[middle:]):
            low = middle
        else:
            high = middle - 1
    return low


def _larger_half(count: int) -> int:
    """Return how many of two or more places stand in the half that is filled up first."""
    power = 1 << ((count - 1).bit_length() - 1)
    return min(power, count - power // 2)
