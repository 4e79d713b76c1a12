"""What a benchmark yields: tables of samples, and bars that were met or missed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec

#: What one of a unit is in seconds, bytes, or things per second: samples are kept in those.
UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "MB": 1e6, "1000/s": 1e3, "/s": 1.0, "in all": 1.0}
#: Units of which more is better.
RATES = frozenset({"1000/s", "/s"})


class Column(msgspec.Struct, frozen=True):
    """One column of a table; samples are in seconds, bytes or per second, and shown in `unit`."""

    name: str
    unit: str


class Table(msgspec.Struct, frozen=True):
    """Samples by row and column; `note` tells what exactly was measured."""

    name: str
    title: str
    note: str
    columns: tuple[Column, ...]
    #: Samples of each cell, in the order of their rounds.
    rows: dict[str, dict[str, list[float]]] = {}

    def add(self, row: str, column: str, sample: float) -> None:
        """Add the sample of one round."""
        self.rows.setdefault(row, {}).setdefault(column, []).append(sample)

    def samples(self, row: str, column: str) -> list[float]:
        """Return a cell's samples; none where it was not measured."""
        return self.rows.get(row, {}).get(column, [])


class Bar(msgspec.Struct, frozen=True):
    """A promise and how far it was kept: `reached` and `required` are how many times better."""

    name: str
    required: float
    reached: float
    detail: str

    @property
    def met(self) -> bool:
        """Whether the promise was kept."""
        return self.reached >= self.required

    def __str__(self) -> str:
        verdict = "met" if self.met else "MISSED"
        return (
            f"bar: {self.name}: {verdict} {self.reached:.2f}x"
            f" (required {self.required:g}x; {self.detail})"
        )


class Result(msgspec.Struct, frozen=True):
    """The outcome of one benchmark."""

    name: str
    tables: tuple[Table, ...]
    bars: tuple[Bar, ...]
    seconds: float = 0.0


def shown(seconds: float) -> str:
    """Return a time for people, in the unit that suits it."""
    for unit in ("s", "ms"):
        if seconds >= UNITS[unit]:
            return f"{seconds / UNITS[unit]:.3g} {unit}"
    return f"{seconds / UNITS['us']:.3g} us"


def faster(
    name: str, required: float, ours: Sequence[float], peers: Sequence[float]
) -> tuple[Bar, ...]:
    """Return the bar "at least `required` times faster than the peer"; none without samples.

    The ratio is taken round by round, since both ran under the same load, then the median.
    """
    if not ours or not peers:
        return ()
    ratios = [peer / mine for mine, peer in zip(ours, peers, strict=True)]
    detail = f"{shown(statistics.median(ours))} against {shown(statistics.median(peers))}"
    return (Bar(name, required, statistics.median(ratios), detail),)


def more(
    name: str, required: float, ours: Sequence[float], peers: Sequence[float], detail: str = ""
) -> tuple[Bar, ...]:
    """Return the bar "at least `required` times as many a second"; none without samples.

    The ratio is taken round by round, then the median.
    """
    if not ours or not peers:
        return ()
    ratios = [mine / peer for mine, peer in zip(ours, peers, strict=True)]
    rates = f"{statistics.median(ours):,.0f}/s against {statistics.median(peers):,.0f}/s"
    return (Bar(name, required, statistics.median(ratios), f"{rates}{detail}"),)


def below(name: str, limit: float, ours: Sequence[float]) -> tuple[Bar, ...]:
    """Return the bar "less than `limit` seconds"; none without samples."""
    if not ours:
        return ()
    median = statistics.median(ours)
    return (Bar(name, 1.0, limit / median, f"{shown(median)} of {shown(limit)}"),)
