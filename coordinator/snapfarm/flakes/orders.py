"""In which orders a hunt runs the tests: early rounds cover pairs, later ones leave it to chance.

The first round is the collected order, the second its reverse: after both, each test has run before
each other one. What a third test undoes in between needs neighbours, so rows of a Williams design
follow: over as many rows as there are tests, each ordered pair stands side by side exactly once (if
their number is even; twice in twice as many rows if it is odd). Random orders come in between,
since nobody knows what else matters.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence


def williams_row(tests: Sequence[str], row: int) -> list[str]:
    """Return a row of the design: neighbours i, i+1, i-1, i+2, i-2, … around a circle."""
    count = len(tests)
    if not count:
        return []
    order, low, high = [], row % count, (row + 1) % count
    for position in range(count):
        if position % 2 == 0:
            order.append(tests[low])
            low = (low - 1) % count
        else:
            order.append(tests[high])
            high = (high + 1) % count
    # An odd number of tests has each pair once in either direction only with the mirrored rows.
    return order[::-1] if (row // count) % 2 else order


def spread(rows: int) -> Iterator[int]:
    """Yield each row once, those that come first far from each other."""
    step = max(1, round(rows * 0.618))
    while _common(step, rows) != 1:
        step += 1
    yield from ((index * step) % rows for index in range(rows))


def _common(first: int, second: int) -> int:
    while second:
        first, second = second, first % second
    return first


def orders(tests: Sequence[str], seed: int) -> Iterator[tuple[str, ...]]:
    """Yield orders of the tests without end; the same seed yields the same orders."""
    yield tuple(tests)
    yield tuple(reversed(tests))
    chance = random.Random(seed)
    rows = iter(spread(max(1, len(tests) * (1 + len(tests) % 2))))
    while True:
        row = next(rows, None)
        if row is not None:
            yield tuple(williams_row(tests, row))
        shuffled = list(tests)
        chance.shuffle(shuffled)
        yield tuple(shuffled)


def pairs_covered(seen: Sequence[Sequence[str]]) -> int:
    """Return how many ordered pairs of tests have stood in that order, with any distance."""
    found: set[tuple[str, str]] = set()
    for order in seen:
        for index, first in enumerate(order):
            found.update((first, second) for second in order[index + 1 :])
    return len(found)
