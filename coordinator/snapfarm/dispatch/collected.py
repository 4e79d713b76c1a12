"""Who collects what: one replaceable part, told of every worker's collection.

The dispatcher asks it which items a collection adds to the run, and whether more will come; that
all workers collect everything is known here and nowhere else.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol

import msgspec

from snapfarm.dispatch.model import CollectionsDiffer, Item


class Accepted(msgspec.Struct, frozen=True):
    """A collection fits; `new` items join the run, `complete` says that they are the last."""

    new: tuple[Item, ...]
    complete: bool


class Collections(Protocol):
    """Decides what the workers' collections mean for the run."""

    def add(self, worker: str, items: tuple[Item, ...]) -> Accepted | CollectionsDiffer:
        """Take a worker's collection. Called at most once for each worker, in order of arrival."""


class EqualCollections:
    """Every worker collects everything: the first collection is the run, the others must equal it.

    The order counts: `-k`, `--lf` and parametrization over sets all show there. Groups must be
    equal too, since they decide which items stay together.
    """

    def __init__(self) -> None:
        #: Whose collection the others are compared with; "" before there is one.
        self._first_worker = ""
        self._reference: tuple[Item, ...] = ()

    def add(self, worker: str, items: tuple[Item, ...]) -> Accepted | CollectionsDiffer:
        """Take a worker's collection."""
        if not self._first_worker:
            self._first_worker, self._reference = worker, items
            return Accepted(items, complete=True)
        if items == self._reference:
            return Accepted((), complete=True)
        return compared(self._first_worker, self._reference, worker, items)


def compared(
    first_worker: str, first: tuple[Item, ...], other_worker: str, other: tuple[Item, ...]
) -> CollectionsDiffer:
    """Return how two unequal collections differ."""
    in_first, in_other = Counter(first), Counter(other)
    shorter = min(len(first), len(other))
    return CollectionsDiffer(
        first_worker=first_worker,
        other_worker=other_worker,
        missing=tuple(item.key for item in first if item not in in_other),
        extra=tuple(item.key for item in other if item not in in_first),
        first_difference=next((i for i in range(shorter) if first[i] != other[i]), shorter),
        reordered=in_first == in_other,
    )
