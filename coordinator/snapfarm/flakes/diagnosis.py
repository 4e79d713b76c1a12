"""Runs the matrix for one failed test, as much of it as its verdict takes, and looks for culprits.

Which cell is filled next follows from what is known: a test that fails alone each time is not asked
for its polluters. What the cells mean is decided in `verdict.py`, what to leave out of a list of
predecessors in `search.py`; here they are only run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from snapfarm.flakes import search
from snapfarm.flakes.experiment import Laboratory, Order, Ran, load
from snapfarm.flakes.matrix import Cell, Evidence, State, Symptom, Trait
from snapfarm.flakes.rates import Rate
from snapfarm.flakes.signature import Signature
from snapfarm.flakes.suspects import Writers, nobody, suspects_of
from snapfarm.flakes.verdict import Cause, Confidence, Verdict, judge
from snapfarm_worker.anomaly import AnomalyKind

#: Between them it is every time of the day, and two dates, whenever they are asked.
TIME_ZONES = ("UTC+12", "UTC-14", "UTC-6", "UTC+6", "UTC")
#: Seconds between two looks for other threads where switches shall be frequent.
FREQUENT = 1e-6
#: How often a cell is run before its outcome counts as settled.
FIRST, MORE = 4, 8
#: How often each of two new processes must show the effect, and not show it.
_CONFIRMATIONS = 3
#: Culprits that are looked for, each enough by itself.
_MOST_CULPRITS = 3
#: Runs alone with which a flip at times is compared.
_MANY = 16


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A failure as it was seen: what ran before it in its process, and with which seed."""

    test: str
    predecessors: tuple[str, ...] = ()
    #: None where it was not an experiment that saw it.
    seed: int | None = None
    #: PYTHONHASHSEED of the process.
    hash_seed: int | None = None
    signature: Signature = Signature("")
    #: A kind of rings that was not the configured one.
    ring: str | None = None
    #: Predecessors that left state behind.
    suspects: tuple[str, ...] = ()


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict, and who is to blame: groups of tests, each of which has the effect as a whole."""

    test: str
    verdict: Verdict
    signature: Signature
    #: Polluters of a victim, setters of a brittle test.
    culprits: tuple[tuple[str, ...], ...] = ()
    #: Tests that were executed for it.
    executions: int = 0
    #: Experiments of the search for culprits, without those that confirmed them.
    search_runs: int = 0

    def lines(self) -> list[str]:
        """Return it for people to read."""
        verdict = self.verdict
        role = f", {verdict.role}" if verdict.role else ""
        lines = [f"{self.test}: {verdict.cause}{role} (confidence: {verdict.confidence})"]
        lines.append(f"  {self.signature}")
        word = "setter" if verdict.role == "brittle" else "polluter"
        lines += [
            f"  {word}: {' + '.join(group)} (confirmed twice in new processes)"
            for group in self.culprits
        ]
        lines += [f"  {line}" for line in verdict.evidence]
        lines.append(f"  -> {verdict.advice}")
        return lines


class Suite(msgspec.Struct, frozen=True):
    """How a suite is run: pytest's arguments, and the folder where it is called."""

    arguments: tuple[str, ...]
    directory: Path

    def laboratory(
        self, hash_seed: int | None = None, *, ring: str | None = None, file: str | None = None
    ) -> Laboratory:
        """Start a laboratory for it.

        `ring` is a kind of rings other than the configured one; of files with tests, only `file` is
        collected, if one is given.
        """
        options = () if ring is None else (f"--farm-ring={ring}",)
        return Laboratory(
            self.arguments, self.directory, hash_seed=hash_seed, options=options, file=file
        )


class Matrix:
    """The cells of one failed test while they are being filled."""

    def __init__(
        self,
        suite: Suite,
        lab: Laboratory,
        failure: Failure,
        limit: float,
        writers: Writers = nobody,
    ) -> None:
        self._writers = writers
        self._suite = suite
        self._lab = lab
        self._failure = failure
        self._limit = limit
        self._counts: dict[Cell, Rate] = {}
        self._traits: set[Trait] = set()
        self._anomalies: set[AnomalyKind] = set()
        self._signature = failure.signature
        #: Seeds of single runs, by whether the test failed.
        self._seeds: dict[bool, list[int]] = {True: [], False: []}
        self.executions = 0
        #: The list after which the effect shows, with the suspects among it.
        self.effective: tuple[str, ...] = ()
        self.suspects: tuple[str, ...] = failure.suspects

    @property
    def evidence(self) -> Evidence:
        """What is known so far."""
        return Evidence(
            cells=dict(self._counts),
            signature=self._signature,
            anomalies=frozenset(self._anomalies),
            traits=frozenset(self._traits),
        )

    def fill(self) -> Evidence:
        """Run what the verdict takes."""
        self._alone(FIRST)
        if self.evidence.symptom is Symptom.OUTSIDE:
            return self.evidence
        match self.evidence.state(Cell.ALONE):
            case State.NEVER:
                self._never_alone()
            case State.ALWAYS:
                self._alone(MORE)
                if self.evidence.state(Cell.ALONE) is State.SOMETIMES:
                    self._sometimes_alone()
                else:
                    self._always_alone()
            case _:
                self._alone(MORE)
                self._sometimes_alone()
        return self.evidence

    # ------------------------------------------------------------ the three ways from `ALONE`

    def _never_alone(self) -> None:
        seed = self._failure.seed
        if seed is not None and self._count(Cell.SAME_SEED, 2, seeds=(seed,)).failures:
            # Here nothing else will be asked: four times in a row may be chance.
            if self._count(Cell.SAME_SEED, MORE, seeds=(seed,)).failures < MORE:
                self._alone(MORE)
                self._by_chance()
            return
        test = self._failure.test
        before = tuple(one for one in self._failure.predecessors if one != test)
        if before and self._provoked(Cell.PREDECESSORS, before):
            self.effective = before
            return
        if self.evidence.state(Cell.ALONE) is State.NEVER and self._provoked(Cell.AGAIN, (test,)):
            return
        if self.evidence.symptom in {Symptom.CRASH, Symptom.LOCK, Symptom.EXHAUSTED}:
            return
        if self.evidence.state(Cell.ALONE) is State.NEVER:
            self._circumstances()
        else:
            self._sometimes_alone()

    def _provoked(self, cell: Cell, before: tuple[str, ...]) -> bool:
        """Return whether a test that never fails alone does after these, for sure."""
        if not self._count(cell, 2, before).failures:
            return False
        self._count(cell, FIRST, before)
        if self.evidence.state(cell) is State.SOMETIMES:
            # It may be the order, and may be chance: that takes more runs to tell apart.
            self._count(cell, MORE, before)
            self._alone(_MANY)
        if self.evidence.fails(Cell.ALONE) or not self.evidence.provokes(cell):
            return False
        self._fresh_golden(before)
        return True

    def _always_alone(self) -> None:
        tests = self._lab.tests
        test = self._failure.test
        here = tests.index(test)
        others = (*tests[:here], *tests[here + 1 :])
        for before in dict.fromkeys((tests[:here], others, others[::-1])):
            # What another list has shown says nothing of this one.
            self._counts.pop(Cell.PREDECESSORS, None)
            if before and not self._count(Cell.PREDECESSORS, 1, before).failures:
                if self._counts.get(Cell.PREDECESSORS) is None:
                    continue
                self._count(Cell.PREDECESSORS, FIRST, before)
                self.effective = before
                return
        if self._count(Cell.AGAIN, 2, (test,)).failures < 2:
            self._count(Cell.AGAIN, FIRST, (test,))
            return
        if self._zones() or self._fresh_process():
            return
        if self.evidence.symptom is Symptom.NONE:
            self._hash_seeds()

    def _sometimes_alone(self) -> None:
        failing, passing = self._seeds[True], self._seeds[False]
        if failing and self._count(Cell.SAME_SEED, FIRST, seeds=failing[:1]).failures == FIRST:
            self._count(Cell.SAME_SEED, MORE, seeds=failing[:1])
            self._count(Cell.OTHER_SEED, MORE, seeds=passing[:1])
            if not self.evidence.fails(Cell.OTHER_SEED):
                return
        self._by_chance()

    def _by_chance(self) -> None:
        """Find out what makes a flip more frequent that no seed brings back."""
        self._count(Cell.THREADS, MORE, switch=FREQUENT)
        if Trait.THREADS not in self._traits:
            with load(2 * (os.cpu_count() or 1)):
                self._count(Cell.LOAD, MORE)

    # ------------------------------------------------------------ cells

    def _alone(self, runs: int) -> None:
        done = self.evidence.rate(Cell.ALONE).runs
        for seed in range(done + 1, runs + 1):
            self._seeds[self._once(Cell.ALONE, (), seed)].append(seed)

    def _circumstances(self) -> None:
        """Try what is neither order nor seed, until something flips."""
        if self._zones():
            return
        self._count(Cell.THREADS, MORE, switch=FREQUENT)
        if self.evidence.rises(Cell.THREADS):
            return
        with load(2 * (os.cpu_count() or 1)):
            self._count(Cell.LOAD, MORE)
        if self.evidence.rises(Cell.LOAD):
            return
        if not self._traits & {Trait.THREADS, Trait.SLEEPS}:
            self._hash_seeds()

    def _zones(self) -> bool:
        """Return whether another time zone makes a difference."""
        first = [self._once(Cell.TIME_ZONE, (), 1, timezone=zone) for zone in TIME_ZONES]
        if self.evidence.state(Cell.TIME_ZONE) is self.evidence.state(Cell.ALONE):
            return False
        for _ in range(2):
            again = [self._once(Cell.TIME_ZONE, (), 1, timezone=zone) for zone in TIME_ZONES]
            if again != first:
                # It flips within a zone: that is chance, and says nothing about time.
                del self._counts[Cell.TIME_ZONE]
                return False
        return True

    def _fresh_process(self) -> bool:
        """Return whether it passes where no other file of tests has been imported."""
        file = self._failure.test.partition("::")[0]
        with self._suite.laboratory(ring=self._failure.ring, file=file) as other:
            failed = self._once(Cell.FRESH_PROCESS, (), 1, lab=other)
            if not failed:
                failed = any(self._once(Cell.FRESH_PROCESS, (), n, lab=other) for n in (2, 3))
            self.executions += other.executions
        return not failed

    def _hash_seeds(self) -> None:
        """Find out whether another hash seed makes a difference, each time the same one."""
        known, usual = self._failure.hash_seed, self.evidence.state(Cell.ALONE) is State.ALWAYS
        for hash_seed in (11, 12, 13, 14) if known is None else (known, 11, 12, 13):
            first, *again = self._hashed(hash_seed, 2)
            if first is not usual:
                again += self._hashed(hash_seed, 3)
            if any(one is not first for one in again):
                # It flips with the same hash seed: that is chance, and says nothing about hashes.
                del self._counts[Cell.HASH_SEED]
                return
            if first is not usual:
                return

    def _hashed(self, hash_seed: int, runs: int) -> list[bool]:
        """Run the test in a new process with a hash seed; return how often it failed."""
        with self._suite.laboratory(hash_seed, ring=self._failure.ring) as other:
            failed = [
                self._once(Cell.HASH_SEED, (), seed, lab=other) for seed in range(1, runs + 1)
            ]
            self.executions += other.executions
        return failed

    def _fresh_golden(self, before: tuple[str, ...]) -> None:
        if self._lab.databases:
            for seed in (1, 2):
                self._once(Cell.FRESH_GOLDEN, before, seed, fresh_golden=True)

    def _count(
        self,
        cell: Cell,
        runs: int,
        before: tuple[str, ...] = (),
        *,
        seeds: Sequence[int] = (),
        switch: float | None = None,
    ) -> Rate:
        """Run a cell until it has so many runs; return what it has."""
        for seed in range(self.evidence.rate(cell).runs + 1, runs + 1):
            self._once(cell, before, seeds[0] if seeds else seed, switch=switch)
        return self.evidence.rate(cell)

    def _once(
        self,
        cell: Cell,
        before: tuple[str, ...],
        seed: int,
        *,
        timezone: str | None = None,
        switch: float | None = None,
        fresh_golden: bool = False,
        lab: Laboratory | None = None,
    ) -> bool:
        """Run the test once after others; count it, and return whether it failed."""
        order = Order(
            tests=(*before, self._failure.test),
            seed=seed,
            timezone=timezone,
            switch=switch,
            fresh_golden=fresh_golden,
            limit=self._limit,
        )
        ran = (lab or self._lab).run(order)
        self.executions += 0 if lab is not None else len(ran)
        last = ended(ran, order)
        if last is None:
            # Somebody before it ended the process: it has not run.
            return False
        self._traits |= last.traits
        self._anomalies |= last.anomalies if last.failed else set()
        if last.failed and last.signature is not None and not self._signature.exception:
            self._signature = last.signature
        shown = last.failed is not (self.evidence.state(Cell.ALONE) is State.ALWAYS)
        if cell is Cell.PREDECESSORS and shown and not self.suspects:
            self.suspects = suspects_of(ran, self._writers)
        rate = self._counts.get(cell, Rate(0, 0))
        self._counts[cell] = Rate(rate.failures + last.failed, rate.runs + 1)
        return last.failed


def ended(ran: Sequence[Ran], order: Order) -> Ran | None:
    """Return the last test of an order, if the process came so far."""
    return ran[-1] if len(ran) == len(order.tests) else None


def diagnose(
    suite: Suite,
    lab: Laboratory,
    failure: Failure,
    *,
    limit: float = 120.0,
    say: Callable[[str], None] = lambda _: None,
    writers: Writers = nobody,
) -> Diagnosis:
    """Return why a test fails, and after whom. Raises LaboratoryError.

    `writers` knows from earlier runs who wrote to a table: these are tried first as polluters.
    """
    matrix = Matrix(suite, lab, failure, limit, writers)
    evidence = matrix.fill()
    verdict = judge(evidence)
    signature = evidence.signature
    culprits: tuple[tuple[str, ...], ...] = ()
    runs = 0
    if matrix.effective and verdict.cause is not Cause.RANDOM:
        say(f"{failure.test}: looking among {len(matrix.effective)} tests before it")
        hunt = Culprits(suite, lab, failure, verdict.role == "brittle", limit)
        hunt.repeat = 1 if evidence.state(Cell.PREDECESSORS) is not State.SOMETIMES else MORE
        culprits, runs = hunt.find(matrix.effective, matrix.suspects)
        matrix.executions += hunt.executions
        if not culprits and verdict.cause is Cause.ORDER_DEPENDENT:
            verdict = _without_order(evidence, verdict)
    return Diagnosis(
        test=failure.test,
        verdict=verdict,
        signature=signature,
        culprits=culprits,
        executions=matrix.executions,
        search_runs=runs,
    )


def _without_order(evidence: Evidence, verdict: Verdict) -> Verdict:
    """Return what there is to say where order seemed to matter, and nobody is to blame."""
    cells = {cell: rate for cell, rate in evidence.cells.items() if cell is not Cell.PREDECESSORS}
    other = judge(msgspec.structs.replace(evidence, cells=cells))
    if other.cause in {Cause.UNKNOWN, Cause.DETERMINISTIC}:
        return msgspec.structs.replace(verdict, confidence=Confidence.LOW)
    return msgspec.structs.replace(other, confidence=Confidence.LOW)


class Culprits:
    """Looks for the tests before which a victim passes, or a brittle test fails."""

    def __init__(
        self, suite: Suite, lab: Laboratory, failure: Failure, brittle: bool, limit: float
    ) -> None:
        self._suite = suite
        self._lab = lab
        self._test = failure.test
        self._ring = failure.ring
        self._brittle = brittle
        self._limit = limit
        #: How often a list is tried before it counts as having no effect.
        self.repeat = 1
        self.executions = 0

    def find(
        self, tests: tuple[str, ...], suspects: tuple[str, ...]
    ) -> tuple[tuple[tuple[str, ...], ...], int]:
        """Return confirmed groups, and the runs that the first one took.

        All of `tests` are known to have the effect.
        """
        groups: list[tuple[str, ...]] = []
        first = 0
        rest = tests
        while rest and len(groups) < _MOST_CULPRITS:
            if groups and not self._effect(rest):
                break
            found = search.find(rest, self._effect, suspects)
            first = first or found.runs
            if not found.tests or not self._confirmed(found.tests):
                break
            groups.append(found.tests)
            # One of its tests is enough to break a group up; the last is the one that acts.
            rest = tuple(test for test in rest if test not in found.tests)
        return tuple(groups), first

    def _effect(self, tests: tuple[str, ...], lab: Laboratory | None = None) -> bool:
        for seed in range(1, self.repeat + 1):
            order = Order(tests=(*tests, self._test), seed=seed, limit=self._limit)
            ran = (lab or self._lab).run(order)
            self.executions += len(ran)
            last = ended(ran, order)
            if last is not None and last.failed is not self._brittle:
                return True
        return False

    def _confirmed(self, group: tuple[str, ...]) -> bool:
        """Whether two new processes show the effect after the group, and none without it."""
        for _ in range(2):
            with self._suite.laboratory(0, ring=self._ring) as lab:
                for _ in range(_CONFIRMATIONS if self.repeat == 1 else 1):
                    if not self._effect(group, lab) or self._effect((), lab):
                        return False
        return True


def first_failing(
    lab: Laboratory, test: str, known: Failure | None, writers: Writers = nobody
) -> Failure:
    """Return a list of predecessors after which a test fails, as far as one is found.

    What is known of its last failure is tried first, then the order of collection, then all other
    tests, in both directions. Raises LaboratoryError for a test that is not there.
    """
    lab.run(Order(tests=(test,)))
    tests = lab.tests
    here = tests.index(test)
    others = (*tests[:here], *tests[here + 1 :])
    there = set(others)
    lists = [] if known is None else [tuple(one for one in known.predecessors if one in there)]
    lists += [tests[:here], others, others[::-1]]
    for before in dict.fromkeys(lists):
        order = Order(tests=(*before, test), seed=1)
        ran = lab.run(order)
        last = ended(ran, order)
        if before and last is not None and last.failed:
            return Failure(
                test=test,
                predecessors=before,
                signature=last.signature or Signature(""),
                seed=None if known is None else known.seed,
                suspects=suspects_of(ran, writers),
            )
    return known or Failure(test=test)
