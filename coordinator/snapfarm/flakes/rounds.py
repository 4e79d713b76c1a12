"""Looks for flakes: the suite again and again, in other orders and under other conditions.

Rounds run in laboratories that have collected once, several at a time. A round is one process in
which all tests run in one order; where a test ends the process, the rest runs in another one.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import msgspec

from snapfarm.flakes.circumstances import Circumstances
from snapfarm.flakes.diagnosis import FREQUENT, TIME_ZONES, Diagnosis, Failure, Suite, diagnose
from snapfarm.flakes.experiment import Laboratory, LaboratoryError, Order, Ran, load
from snapfarm.flakes.farm_rounds import run_on_farm
from snapfarm.flakes.orders import orders
from snapfarm.flakes.rates import Rate
from snapfarm.flakes.signature import Signature
from snapfarm.flakes.suspects import suspects_of

#: Rounds after which a laboratory is replaced by one with another hash seed.
_REFRESH = 7


class Conditions(msgspec.Struct, frozen=True):
    """What is other than usual in a round."""

    name: str = "order"
    timezone: str | None = None
    switch: float | None = None
    busy: bool = False
    #: Whether each test runs twice in a row.
    twice: bool = False
    #: Whether each test has a process of its own.
    alone: bool = False
    #: A kind of rings that is not the configured one.
    ring: str | None = None
    #: So many workers of a farm at once; 0 for a laboratory.
    farm: int = 0

    @property
    def plain(self) -> bool:
        """Whether only the order and the seed differ from an ordinary run."""
        return not (self.timezone or self.switch or self.busy or self.ring or self.farm)


def asked_for(rings: Sequence[str], farms: Sequence[int]) -> list[Conditions]:
    """Return the conditions that a hunt has on demand only."""
    return [
        *(Conditions(f"ring {ring}", ring=ring) for ring in rings),
        *(Conditions(f"farm of {workers}", farm=workers) for workers in farms),
    ]


def conditions(number: int, wanted: Sequence[Conditions] = ()) -> Conditions:
    """Return the conditions of a round, counted from 0; those that cost more come more rarely."""
    match number % 10:
        case 4 | 7 if wanted:
            return wanted[(number // 10 * 2 + (number % 10 == 7)) % len(wanted)]
        case 2 if number < 10:
            return Conditions("alone", alone=True)
        case 3 if number < 10:
            return Conditions("twice", twice=True)
        case 5 | 8:
            zone = TIME_ZONES[(number // 10 * 2 + (number % 10 == 8)) % len(TIME_ZONES)]
            return Conditions(f"time zone {zone}", timezone=zone)
        case 6:
            return Conditions("thread switches", switch=FREQUENT)
        case 9:
            return Conditions("load", busy=True)
        case _:
            return Conditions()


class Seen(msgspec.Struct, kw_only=True):
    """What a hunt has seen of one test."""

    failures: int = 0
    runs: int = 0
    #: The first failure, one under usual conditions if there is any, and when it was.
    first: Failure | None = None
    plain: bool = False
    round: int = 0
    #: How often it failed under which conditions.
    conditions: dict[str, int] = msgspec.field(default_factory=dict)

    @property
    def rate(self) -> Rate:
        """How often it failed."""
        return Rate(self.failures, self.runs)

    @property
    def only_under(self) -> str:
        """The conditions under which alone it failed; "" if usual ones are among them."""
        if len(self.conditions) != 1 or self.plain:
            return ""
        return next(iter(self.conditions))

    @property
    def flaky(self) -> bool:
        """Whether it has passed and failed."""
        return 0 < self.failures < self.runs


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """A finished round: its tests in the processes in which they ran."""

    number: int
    conditions: Conditions
    seed: int
    hash_seed: int
    seconds: float
    processes: tuple[tuple[Ran, ...], ...]
    #: Whether it came to its end.
    whole: bool = True

    @property
    def executions(self) -> int:
        """How many tests were run."""
        return sum(map(len, self.processes))

    @property
    def circumstances(self) -> Circumstances:
        """What has to be chosen again for the same to happen."""
        under = self.conditions
        if under.farm:
            return Circumstances()
        return Circumstances(
            seed=self.seed,
            hash_seed=self.hash_seed,
            timezone=under.timezone,
            switch=under.switch,
            ring=under.ring,
        )


class Sightings:
    """What all rounds together have seen."""

    def __init__(self) -> None:
        self.tests: dict[str, Seen] = {}
        self.rounds = 0
        self.executions = 0

    def add(self, found: Round) -> list[str]:
        """Take a round; return the tests that it was the first to see fail."""
        self.rounds += found.whole
        self.executions += found.executions
        new = []
        for process in found.processes:
            for index, ran in enumerate(process):
                seen = self.tests.setdefault(ran.test, Seen())
                if ran.outcome == "skipped":
                    continue
                seen.runs += 1
                if ran.failed:
                    name = found.conditions.name
                    seen.conditions[name] = seen.conditions.get(name, 0) + 1
                    if not seen.failures:
                        new.append(ran.test)
                        seen.round = found.number
                    seen.failures += 1
                    self._keep(seen, found, process[: index + 1])
        return new

    def _keep(self, seen: Seen, found: Round, process: tuple[Ran, ...]) -> None:
        plain = found.conditions.plain
        if seen.first is not None and (seen.plain or not plain):
            return
        seen.plain = plain
        *before, ran = process
        seen.first = Failure(
            test=ran.test,
            predecessors=tuple(one.test for one in before),
            seed=None if found.conditions.farm else found.seed,
            hash_seed=None if found.conditions.farm else found.hash_seed,
            ring=found.conditions.ring,
            signature=ran.signature or Signature(""),
            suspects=suspects_of(process),
        )

    @property
    def suspects(self) -> list[str]:
        """Tests that have failed at least once, those that flake first."""
        failing = [test for test, seen in self.tests.items() if seen.failures]
        return sorted(failing, key=lambda test: (not self.tests[test].flaky, test))


class Hunt:
    """Runs rounds until the budget is used up."""

    def __init__(
        self,
        suite: Suite,
        *,
        workers: int,
        seed: int = 1,
        first: Sequence[str] = (),
        rings: Sequence[str] = (),
        farms: Sequence[int] = (),
        limit: float = 600.0,
        told: Callable[[Round, list[str]], None] = lambda *_: None,
    ) -> None:
        """`first` are tests whose places shall come first: new ones, and changed ones.

        With `rings`, and `farms` of so many workers, some rounds run too.

        `told` is called for each round, in this thread, with the tests that it was the first to
        see fail.
        """
        self._suite = suite
        self._workers = workers
        self._seed = seed
        self._first = first
        self._wanted = asked_for(rings, farms)
        self._limit = limit
        self._told = told
        self.sightings = Sightings()
        self._labs: list[Laboratory] = []

    def run(self, *, rounds: int | None = None, seconds: float | None = None) -> Sightings:
        """Hunt for so many rounds, or so long. Raises LaboratoryError.

        An interrupt goes through; what was found until then is in `sightings`.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        numbers = itertools.count() if rounds is None else iter(range(rounds))
        try:
            for place in range(min(self._workers, rounds or self._workers)):
                # Each with another hash seed: what depends on it is found on the way.
                self._labs.append(self._suite.laboratory(place + 1))
            tests = self._arranged(self._labs[0].tests)
            plan = _Plan(numbers, orders(tests, self._seed), deadline)
            self._run_threads(plan)
        finally:
            for lab in self._labs:
                lab.close()
            self._labs.clear()
        return self.sightings

    def _run_threads(self, plan: _Plan) -> None:
        finished: queue.SimpleQueue[Round | BaseException] = queue.SimpleQueue()
        threads = [
            threading.Thread(target=self._work, args=(place, plan, finished))
            for place in range(len(self._labs))
        ]
        for thread in threads:
            thread.start()
        try:
            self._collect(len(threads), finished)
        except BaseException:
            plan.stop()
            for lab in self._labs:
                lab.abandon()
            raise
        finally:
            plan.stop()
            for thread in threads:
                thread.join()
            # What was under way has been cut short, and found something perhaps.
            while not finished.empty():
                if isinstance(found := finished.get(), Round):
                    self._told(found, self.sightings.add(found))

    def _arranged(self, tests: Sequence[str]) -> list[str]:
        wanted = [test for test in tests if test in set(self._first)]
        return [*wanted, *(test for test in tests if test not in set(wanted))]

    def _collect(self, workers: int, finished: queue.SimpleQueue[Round | BaseException]) -> None:
        while workers:
            found = finished.get()
            if isinstance(found, _Over):
                workers -= 1
            elif isinstance(found, BaseException):
                raise found
            else:
                self._told(found, self.sightings.add(found))

    def _work(
        self,
        place: int,
        plan: _Plan,
        finished: queue.SimpleQueue[Round | BaseException],
    ) -> None:
        lab, hash_seed, done = self._labs[place], place + 1, 0
        try:
            while (step := plan.next()) is not None:
                number, order = step
                finished.put(self._round(lab, hash_seed, number, order, plan))
                done += 1
                if done % _REFRESH == 0 and not plan.stopped:
                    lab.close()
                    hash_seed += self._workers
                    lab = self._labs[place] = self._suite.laboratory(hash_seed)
            finished.put(_Over())
        except LaboratoryError as error:
            finished.put(error)

    def _round(
        self, lab: Laboratory, hash_seed: int, number: int, order: tuple[str, ...], plan: _Plan
    ) -> Round:
        under, seed = conditions(number, self._wanted), self._seed * 1000 + number
        if under.twice:
            order = tuple(test for test in order for _ in range(2))
        began = time.monotonic()
        processes: list[tuple[Ran, ...]] = []
        pieces = [(test,) for test in order] if under.alone else [order]
        with contextlib.ExitStack() as stack:
            if under.farm:
                stopped = functools.partial(getattr, plan, "stopped")
                processes += run_on_farm(self._suite, under.farm, stopped=stopped)
                pieces = []
            if under.busy:
                stack.enter_context(load(2 * (os.cpu_count() or 1)))
            if under.ring is not None:
                lab = stack.enter_context(self._suite.laboratory(hash_seed, ring=under.ring))
            for piece in pieces:
                rest = piece
                while rest and not plan.stopped:
                    ran = self._experiment(lab, rest, seed, under, plan)
                    processes.append(tuple(ran))
                    if not ran:
                        break
                    rest = rest[len(ran) :]
        return Round(
            number=number,
            conditions=under,
            seed=seed,
            hash_seed=hash_seed,
            seconds=time.monotonic() - began,
            processes=tuple(processes),
            whole=not plan.stopped,
        )

    def _experiment(
        self, lab: Laboratory, tests: tuple[str, ...], seed: int, under: Conditions, plan: _Plan
    ) -> list[Ran]:
        order = Order(
            tests=tests,
            seed=seed,
            timezone=under.timezone,
            switch=under.switch,
            limit=self._limit,
        )
        try:
            return lab.run(order)
        except LaboratoryError:
            if plan.stopped:
                return lab.ran
            raise


class _Over(Exception):  # a sign, not an error
    """A worker of the hunt has nothing more to do."""


class _Plan:
    """Hands out rounds to threads until there are no more, or the time is over."""

    def __init__(
        self,
        numbers: Iterator[int],
        in_order: Iterator[tuple[str, ...]],
        deadline: float | None,
    ) -> None:
        self._numbers = numbers
        self._orders = in_order
        self._deadline = deadline
        self._lock = threading.Lock()
        self.stopped = False

    def stop(self) -> None:
        """Begin nothing more."""
        self.stopped = True

    def next(self) -> tuple[int, tuple[str, ...]] | None:
        """Return the next round's number and order; None where there is none."""
        with self._lock:
            if self.stopped or (self._deadline is not None and time.monotonic() > self._deadline):
                return None
            number = next(self._numbers, None)
            return None if number is None else (number, next(self._orders))


def diagnoses(suite: Suite, sightings: Sightings, *, limit: float = 600.0) -> Iterator[Diagnosis]:
    """Yield a verdict on each test that a hunt has seen fail. Raises LaboratoryError."""
    if not sightings.suspects:
        return
    failures = [sightings.tests[test].first for test in sightings.suspects]
    # One laboratory for each kind of rings, the configured one first.
    for ring in sorted(
        {one.ring for one in failures if one is not None}, key=lambda one: one or ""
    ):
        with suite.laboratory(1, ring=ring) as lab:
            for failure in failures:
                if failure is not None and failure.ring == ring:
                    yield diagnose(suite, lab, failure, limit=limit)
