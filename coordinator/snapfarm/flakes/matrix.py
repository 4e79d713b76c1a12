"""The cells of the rerun matrix, what was counted in them, and what else is known of a failure."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping

import msgspec

from snapfarm.flakes.rates import Rate
from snapfarm.flakes.signature import CRASH, Signature
from snapfarm_worker.anomaly import AnomalyKind


class Cell(enum.StrEnum):
    """One way to run a failed test again. What is not named is as it was in `ALONE`."""

    #: By itself in a copy of a process that has collected, each time with another seed.
    ALONE = "alone"
    #: Where alone it always fails: in a new process that has imported no other file of tests.
    FRESH_PROCESS = "in a new process with its file only"
    #: Once more in the process in which it has just run alone.
    AGAIN = "again in the same process"
    #: After the tests that ran before it when it failed.
    PREDECESSORS = "after its predecessors"
    #: Where it fails after others or itself: the same, each test on a fresh golden database.
    FRESH_GOLDEN = "the same on a fresh golden"
    #: With the seed with which it failed.
    SAME_SEED = "with the seed of the failure"
    #: Where alone it fails at times: with a seed with which it has passed.
    OTHER_SEED = "with the seed of a success"
    #: In new processes, each with another PYTHONHASHSEED.
    HASH_SEED = "with other hash seeds"
    TIME_ZONE = "in other time zones"
    #: While all processors are busy.
    LOAD = "under load"
    #: With a change of thread as often as the interpreter can.
    THREADS = "with frequent thread switches"


class State(enum.StrEnum):
    """How a cell came out."""

    UNKNOWN = "unknown"
    NEVER = "never"
    SOMETIMES = "sometimes"
    ALWAYS = "always"


class Trait(enum.StrEnum):
    """What a test was seen to do while it ran."""

    THREADS = "starts threads"
    SLEEPS = "sleeps"
    CONNECTS = "connects to a network"
    CHANCE = "asks the system for random bytes"


class Symptom(enum.StrEnum):
    """What the failure itself says."""

    NONE = "none"
    CRASH = "crash"
    LOCK = "lock"
    EXHAUSTED = "exhausted"
    OUTSIDE = "outside"
    TIMEOUT = "timeout"


_LOCKED = re.compile(r"database (table |schema )?is locked|deadlock", re.IGNORECASE)
_EXHAUSTED = re.compile(
    r"too many open files|address already in use|can't start new thread|cannot allocate memory|"
    r"unable to open database file|resource temporarily unavailable",
    re.IGNORECASE,
)
_OUTSIDE = re.compile(
    r"connection (refused|reset)|name or service not known|temporary failure in name resolution|"
    r"no space left on device|network is unreachable|no route to host|nodename nor servname",
    re.IGNORECASE,
)
_TIMEOUT = re.compile(r"timed? ?out|deadline exceeded|time limit", re.IGNORECASE)
_OUTSIDE_ERRORS = frozenset(
    {"ConnectionRefusedError", "ConnectionResetError", "gaierror", "ConnectionError", "URLError"}
)
_TIMEOUTS = frozenset({"TimeoutError", "Timeout", "TimeoutExpired", "timeout"})


def symptom_of(signature: Signature, anomalies: frozenset[AnomalyKind]) -> Symptom:
    """Return what a failure says of its cause by itself."""
    exception, text = signature.exception, signature.message
    if exception == CRASH:
        return Symptom.TIMEOUT if _TIMEOUT.search(text) else Symptom.CRASH
    if exception == "MemoryError" or (exception != "AssertionError" and _EXHAUSTED.search(text)):
        return Symptom.EXHAUSTED
    if _LOCKED.search(text) or AnomalyKind.LOCK_ERROR in anomalies:
        return Symptom.LOCK
    if exception in _OUTSIDE_ERRORS or (exception.endswith("Error") and _OUTSIDE.search(text)):
        return Symptom.OUTSIDE
    if exception in _TIMEOUTS or _TIMEOUT.search(text):
        return Symptom.TIMEOUT
    return Symptom.NONE


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """All that the verdict on one test is drawn from."""

    cells: Mapping[Cell, Rate]
    signature: Signature
    anomalies: frozenset[AnomalyKind] = frozenset()
    traits: frozenset[Trait] = frozenset()

    def rate(self, cell: Cell) -> Rate:
        """Return what was counted in a cell."""
        return self.cells.get(cell, Rate(0, 0))

    def state(self, cell: Cell) -> State:
        """Return how a cell came out."""
        rate = self.rate(cell)
        if not rate.runs:
            return State.UNKNOWN
        if not rate.failures:
            return State.NEVER
        return State.ALWAYS if rate.failures == rate.runs else State.SOMETIMES

    @property
    def symptom(self) -> Symptom:
        """What the failure itself says."""
        return symptom_of(self.signature, self.anomalies)

    def fails(self, cell: Cell) -> bool:
        """Whether the test failed in a cell at least once."""
        return self.rate(cell).failures > 0

    def provokes(self, cell: Cell) -> bool:
        """Whether a test that never fails alone fails there: always, or beyond chance."""
        return self.state(cell) is State.ALWAYS or self.rises(cell)

    def cures(self, cell: Cell) -> bool:
        """Whether a test that always fails alone passes there: always, or beyond chance."""
        return self.state(cell) is State.NEVER or self.falls(cell)

    def falls(self, cell: Cell) -> bool:
        """Whether it failed there less often than alone, beyond what chance explains."""
        _, high = self.rate(cell).interval()
        low, _ = self.rate(Cell.ALONE).interval()
        return high < low

    def rises(self, cell: Cell) -> bool:
        """Whether it failed there more often than alone, beyond what chance explains."""
        low, _ = self.rate(cell).interval()
        _, high = self.rate(Cell.ALONE).interval()
        return low > high
