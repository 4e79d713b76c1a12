"""From the cells of the matrix to a cause, as a pure function.

The question is always which change makes the outcome flip. Rules are tried in order; the first
that holds names the cause.

 1  the failure names something outside of the process        infrastructure
 2  alone, again and after its predecessors: always           deterministic
 3  the process died                                          crash
 4  the system ran out of something                           resource-leak
 5  a lock                                                    lock-contention
 6  the seed of the failure brings it back each time, and
    another one does not                                      random
 7  alone never, after others or itself it does,
    on a fresh golden not                                     database-residue
 8  alone never, after others it does                         order-dependent (victim)
 9  alone always, after others it does not                    order-dependent (brittle)
10  alone always and again not, or the reverse; or not
    where no other file was imported                          process-state
11  time zones flip it                                        time
12  hash seeds flip it                                        random
13  frequent thread switches bring it about, or it flips
    unprovoked and starts threads                             race
14  a timeout; load brings it about; or it flips
    unprovoked and sleeps                                     timing
15  nothing of this                                           unknown

"It does", and "bring it about", mean more often than alone beyond what chance explains.
"""

from __future__ import annotations

import enum

import msgspec

from snapfarm.flakes.matrix import Cell, Evidence, State, Symptom, Trait


class Cause(enum.StrEnum):
    """Why a test fails at times."""

    DETERMINISTIC = "deterministic"
    ORDER_DEPENDENT = "order-dependent"
    DATABASE_RESIDUE = "database-residue"
    PROCESS_STATE = "process-state"
    LOCK_CONTENTION = "lock-contention"
    RACE = "race"
    TIMING = "timing"
    RANDOM = "random"
    TIME = "time"
    RESOURCE_LEAK = "resource-leak"
    CRASH = "crash"
    INFRASTRUCTURE = "infrastructure"
    UNKNOWN = "unknown"


class Confidence(enum.StrEnum):
    """How sure a verdict is: `HIGH` if chance explains the flip in less than 1 of 20 cases."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


ADVICE: dict[Cause, str] = {
    Cause.DETERMINISTIC: "it does not flake: mend the test or the code",
    Cause.ORDER_DEPENDENT: (
        "undo what the polluter leaves behind in a fixture's teardown, or give a brittle test a "
        "fixture that sets up what it needs"
    ),
    Cause.DATABASE_RESIDUE: (
        "reset this database before each test (reset = 'test'), or have the polluter remove its "
        "rows"
    ),
    Cause.PROCESS_STATE: (
        "what is left in the process changes the test's next run: look for caches, singletons, "
        "counters of classes and modules, and clear them in a fixture; and for what other files of "
        "tests do when they are imported"
    ),
    Cause.LOCK_CONTENTION: (
        "shorten transactions, close what holds one open, raise timeout=, or use ring = 'memdb'"
    ),
    Cause.RACE: "wait for the state that the test needs (join, Event); guard what threads share",
    Cause.TIMING: "wait for a state instead of a time, or give a time limit more room",
    Cause.RANDOM: "seed what is random, or assert what holds for every value and every order",
    Cause.TIME: "give the code a fixed clock and a named time zone",
    Cause.RESOURCE_LEAK: "close descriptors, sockets, threads and files where they were opened",
    Cause.CRASH: "look at the stacks of the dead process: native code, a signal, or os._exit",
    Cause.INFRASTRUCTURE: "replace the outside service by a fake, or quarantine the test",
    Cause.UNKNOWN: "hunt with more rounds: farm hunt",
}


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The cause of a test's failure, with what it was drawn from."""

    cause: Cause
    confidence: Confidence
    #: One line each: a cell with its rate, or an observation.
    evidence: tuple[str, ...] = ()
    #: "victim" or "brittle" where order counts.
    role: str = ""

    @property
    def advice(self) -> str:
        """What to do about it."""
        return ADVICE[self.cause]


def judge(evidence: Evidence) -> Verdict:
    """Return the verdict that the cells of the matrix lead to."""
    cause, decisive, role = _cause(evidence)
    return Verdict(
        cause=cause,
        confidence=_confidence(evidence, cause, decisive),
        evidence=tuple(_lines(evidence, decisive)),
        role=role,
    )


def _cause(seen: Evidence) -> tuple[Cause, Cell | None, str]:
    """Return the cause, the cell that flips, and the role of the test."""
    alone = seen.state(Cell.ALONE)
    if seen.symptom is Symptom.OUTSIDE:
        return Cause.INFRASTRUCTURE, None, ""
    if alone is State.ALWAYS and _steady(seen):
        return Cause.DETERMINISTIC, Cell.ALONE, ""
    by_symptom = {
        Symptom.CRASH: Cause.CRASH,
        Symptom.EXHAUSTED: Cause.RESOURCE_LEAK,
        Symptom.LOCK: Cause.LOCK_CONTENTION,
    }
    if (cause := by_symptom.get(seen.symptom)) is not None:
        return cause, None, ""
    seeded = seen.state(Cell.SAME_SEED) is State.ALWAYS and not seen.fails(Cell.OTHER_SEED)
    if seeded and alone is not State.ALWAYS:
        return Cause.RANDOM, Cell.SAME_SEED, ""
    provoked = seen.provokes(Cell.PREDECESSORS)
    if alone is State.NEVER and (provoked or seen.provokes(Cell.AGAIN)):
        if seen.state(Cell.FRESH_GOLDEN) is State.NEVER:
            return Cause.DATABASE_RESIDUE, Cell.FRESH_GOLDEN, "victim"
        if provoked:
            return Cause.ORDER_DEPENDENT, Cell.PREDECESSORS, "victim"
        return Cause.PROCESS_STATE, Cell.AGAIN, ""
    if alone is State.ALWAYS and seen.cures(Cell.PREDECESSORS):
        return Cause.ORDER_DEPENDENT, Cell.PREDECESSORS, "brittle"
    for cell in (Cell.AGAIN, Cell.FRESH_PROCESS):
        if alone is State.ALWAYS and seen.cures(cell):
            return Cause.PROCESS_STATE, cell, ""
    return *_unprovoked(seen, alone), ""


def _unprovoked(seen: Evidence, alone: State) -> tuple[Cause, Cell | None]:
    """Return the cause of a failure that neither order nor seed explains."""
    settled = alone in {State.NEVER, State.ALWAYS}
    other = {State.NEVER: State.ALWAYS, State.ALWAYS: State.NEVER}.get(alone)
    for cell, cause in ((Cell.TIME_ZONE, Cause.TIME), (Cell.HASH_SEED, Cause.RANDOM)):
        if settled and seen.state(cell) in {State.SOMETIMES, other}:
            return cause, cell
    if seen.rises(Cell.THREADS) or Trait.THREADS in seen.traits:
        return Cause.RACE, Cell.THREADS
    if seen.symptom is Symptom.TIMEOUT or seen.rises(Cell.LOAD) or Trait.SLEEPS in seen.traits:
        return Cause.TIMING, Cell.LOAD
    return Cause.UNKNOWN, None


def _steady(seen: Evidence) -> bool:
    """Whether a test fails in every cell that was run."""
    return all(seen.state(cell) in {State.ALWAYS, State.UNKNOWN} for cell in Cell)


def _confidence(seen: Evidence, cause: Cause, decisive: Cell | None) -> Confidence:
    if cause is Cause.UNKNOWN:
        return Confidence.LOW
    if decisive is None:
        # The failure says it in words.
        return Confidence.MEDIUM if cause is Cause.INFRASTRUCTURE else Confidence.HIGH
    if cause is Cause.DETERMINISTIC:
        runs = sum(seen.rate(cell).runs for cell in Cell)
        return Confidence.HIGH if runs >= 3 else Confidence.MEDIUM
    base = Cell.ALONE
    if decisive is Cell.FRESH_GOLDEN:
        base = Cell.PREDECESSORS if seen.provokes(Cell.PREDECESSORS) else Cell.AGAIN
    if decisive is Cell.SAME_SEED and seen.rate(Cell.OTHER_SEED).runs:
        base = Cell.OTHER_SEED
    if _apart(seen, base, decisive):
        return Confidence.HIGH
    return Confidence.MEDIUM if seen.rate(decisive).runs else Confidence.LOW


def _apart(seen: Evidence, first: Cell, second: Cell) -> bool:
    """Whether the intervals of two cells do not overlap."""
    low, high = seen.rate(first).interval()
    other_low, other_high = seen.rate(second).interval()
    return bool(seen.rate(second).runs) and (low > other_high or other_low > high)


def _lines(seen: Evidence, decisive: Cell | None) -> list[str]:
    cells = [cell for cell in Cell if seen.rate(cell).runs]
    cells.sort(key=lambda cell: (cell is not Cell.ALONE, cell is not decisive))
    lines = [f"{cell}: {_counted(seen, cell)}" for cell in cells]
    lines += [f"the test {trait}" for trait in Trait if trait in seen.traits]
    return lines


def _counted(seen: Evidence, cell: Cell) -> str:
    rate = seen.rate(cell)
    match seen.state(cell):
        case State.NEVER:
            return f"never fails ({rate.runs} runs)"
        case State.ALWAYS:
            return f"always fails ({rate.runs} runs)"
        case _:
            return f"fails at times ({rate})"
