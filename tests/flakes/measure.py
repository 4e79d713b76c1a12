"""Hunts through suites of the corpus, and scores what was found, judged and blamed."""

from __future__ import annotations

import math
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from flakes.model import Case, Flake
from snapfarm.flakes.diagnosis import Diagnosis, Suite
from snapfarm.flakes.rounds import Hunt, diagnoses
from snapfarm.flakes.verdict import Cause

#: Rounds of a hunt.
ROUNDS = 20


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A test that failed in a hunt, or should have."""

    case: str
    test: str
    #: None: the test is clean.
    expected: Flake | None
    found: bool
    cause: Cause | None = None
    confidence: str = ""
    role: str = ""
    blamed: tuple[tuple[str, ...], ...] = ()
    search_runs: int = 0
    #: Tests before the victim, in the list that was searched.
    tests: int = 0

    @property
    def right_cause(self) -> bool:
        """Whether cause and role are those of the table."""
        wanted = self.expected
        return wanted is not None and (self.cause, self.role) == (wanted.cause, wanted.role)

    @property
    def right_culprits(self) -> bool:
        """Whether somebody was blamed who is to blame, and nobody else."""
        wanted = set(self.expected.culprits) if self.expected is not None else set()
        named = {frozenset(group) for group in self.blamed}
        return named <= wanted and bool(named) == bool(wanted)

    @property
    def wrong_culprit(self) -> bool:
        """Whether anybody innocent was blamed."""
        wanted = set(self.expected.culprits) if self.expected is not None else set()
        return not {frozenset(group) for group in self.blamed} <= wanted


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """One suite's results. `executions` of the hunt, and of the verdicts."""

    case: str
    judged: tuple[Judged, ...]
    executions: int
    verdict_executions: int
    seconds: float


def hunt_through(case: Case, rounds: int = ROUNDS) -> Scored:
    """Hunt through one suite, and judge what was found."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="corpus-") as folder:
        root = Path(folder).resolve()
        case.write(root)
        suite = Suite((), root)
        hunt = Hunt(suite, workers=1, limit=60.0)
        seen = hunt.run(rounds=rounds)
        found = {one.test: one for one in diagnoses(suite, seen, limit=60.0)}
    judged = [
        _judged(case, test, found.get(test), len(seen.tests))
        for test in dict.fromkeys((*case.flakes, *found))
    ]
    return Scored(
        case=case.name,
        judged=tuple(judged),
        executions=seen.executions,
        verdict_executions=sum(one.executions for one in found.values()),
        seconds=time.monotonic() - began,
    )


def _judged(case: Case, test: str, found: Diagnosis | None, tests: int) -> Judged:
    if found is None:
        return Judged(case=case.name, test=test, expected=case.flakes.get(test), found=False)
    return Judged(
        case=case.name,
        test=test,
        expected=case.flakes.get(test),
        found=True,
        cause=found.verdict.cause,
        confidence=str(found.verdict.confidence),
        role=found.verdict.role,
        blamed=found.culprits,
        search_runs=found.search_runs,
        tests=tests,
    )


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """The figures that the bars are about."""

    flakes: int
    found: int
    #: Of those whose rate is at least 1 in 10.
    frequent: int
    frequent_found: int
    false_alarms: int
    right_causes: int
    with_culprits: int
    right_culprits: int
    wrong_culprits: int
    #: Searches for culprits that took more than 2 log2(n) + 4 runs.
    long_searches: int

    @property
    def meets_all_bars(self) -> bool:
        """Whether enough is found, named and blamed, and nobody innocent is."""
        return (
            self.frequent_found >= 0.95 * self.frequent
            and not self.false_alarms
            and self.right_causes >= 0.9 * self.found
            and self.right_culprits >= 0.95 * self.with_culprits
            and not self.wrong_culprits
            and not self.long_searches
        )


def score(results: Iterable[Scored]) -> Score:
    """Add up results."""
    judged = [one for result in results for one in result.judged]
    flakes = [one for one in judged if one.expected is not None]
    found = [one for one in flakes if one.found]
    frequent = [one for one in flakes if one.expected is not None and one.expected.rate >= 0.1]
    blaming = [one for one in found if one.expected is not None and one.expected.culprits]
    return Score(
        flakes=len(flakes),
        found=len(found),
        frequent=len(frequent),
        frequent_found=sum(one.found for one in frequent),
        false_alarms=len(judged) - len(flakes),
        right_causes=sum(one.right_cause for one in found),
        with_culprits=len(blaming),
        right_culprits=sum(one.right_culprits for one in blaming),
        wrong_culprits=sum(one.wrong_culprit for one in judged),
        long_searches=sum(one.search_runs > 2 * math.log2(max(2, one.tests)) + 4 for one in judged),
    )


def cause_lines(results: Iterable[Scored]) -> Iterator[str]:
    """Yield a table: for each cause, how many there are, were found, and were named rightly."""
    judged = [one for result in results for one in result.judged]
    named = Counter(one.cause for one in judged if one.cause is not None)
    yield "| cause | flakes | found | named | named rightly | recall | precision |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for cause in Cause:
        there = [one for one in judged if one.expected is not None and one.expected.cause is cause]
        right = sum(one.found and one.right_cause for one in there)
        if not there and not named[cause]:
            continue
        recall = f"{right / len(there):.0%}" if there else "-"
        precision = f"{right / named[cause]:.0%}" if named[cause] else "-"
        yield (
            f"| {cause} | {len(there)} | {sum(one.found for one in there)} | {named[cause]} | "
            f"{right} | {recall} | {precision} |"
        )
