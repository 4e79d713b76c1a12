"""The verdict logic, held together with a second implementation of it: a table.

A row names the states in which it holds; what it does not name may be anything. The first row that
holds gives the cause. It shares no code with `judge`.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snapfarm.flakes.matrix import Cell, Evidence, State, Symptom, Trait, symptom_of
from snapfarm.flakes.rates import Rate
from snapfarm.flakes.signature import Signature
from snapfarm.flakes.verdict import ADVICE, Cause, Confidence, judge
from snapfarm_worker.anomaly import AnomalyKind

#: A signature that shows each symptom.
SIGNATURES = {
    Symptom.NONE: Signature("AssertionError", "assert x == y"),
    Symptom.CRASH: Signature("crash", "signal SIGSEGV"),
    Symptom.LOCK: Signature("OperationalError", "database is locked"),
    Symptom.EXHAUSTED: Signature("OSError", "[Errno <n>] Too many open files"),
    Symptom.OUTSIDE: Signature("ConnectionRefusedError", "[Errno <n>] Connection refused"),
    Symptom.TIMEOUT: Signature("TimeoutError", ""),
}

#: Letters for the states of a cell: n never, s sometimes, a always, - not run.
_LETTERS = {"n": State.NEVER, "s": State.SOMETIMES, "a": State.ALWAYS, "-": State.UNKNOWN}
_COLUMNS = {
    "alone": Cell.ALONE, "after": Cell.PREDECESSORS, "golden": Cell.FRESH_GOLDEN,
    "again": Cell.AGAIN, "seed": Cell.SAME_SEED, "other": Cell.OTHER_SEED,
    "zone": Cell.TIME_ZONE, "hash": Cell.HASH_SEED, "threads": Cell.THREADS, "load": Cell.LOAD,
    "fresh": Cell.FRESH_PROCESS,
}  # fmt: skip
_ALL_STEADY = dict.fromkeys(_COLUMNS, "a-") | {"alone": "a"}

#: Conditions and cause. "symptom" and "trait" are names; "more" are cells whose rate has risen.
TABLE: tuple[tuple[dict[str, str], Cause, str], ...] = (
    ({"symptom": "outside"}, Cause.INFRASTRUCTURE, ""),
    (_ALL_STEADY, Cause.DETERMINISTIC, ""),
    ({"symptom": "crash"}, Cause.CRASH, ""),
    ({"symptom": "exhausted"}, Cause.RESOURCE_LEAK, ""),
    ({"symptom": "lock"}, Cause.LOCK_CONTENTION, ""),
    ({"alone": "ns-", "seed": "a", "other": "n-"}, Cause.RANDOM, ""),
    ({"alone": "n", "after": "a", "golden": "n"}, Cause.DATABASE_RESIDUE, "victim"),
    ({"alone": "n", "again": "a", "golden": "n"}, Cause.DATABASE_RESIDUE, "victim"),
    ({"alone": "n", "after": "a"}, Cause.ORDER_DEPENDENT, "victim"),
    ({"alone": "n", "again": "a"}, Cause.PROCESS_STATE, ""),
    ({"alone": "a", "less": "after"}, Cause.ORDER_DEPENDENT, "brittle"),
    ({"alone": "a", "less": "again"}, Cause.PROCESS_STATE, ""),
    ({"alone": "a", "less": "fresh"}, Cause.PROCESS_STATE, ""),
    ({"alone": "n", "zone": "sa"}, Cause.TIME, ""),
    ({"alone": "a", "zone": "sn"}, Cause.TIME, ""),
    ({"alone": "n", "hash": "sa"}, Cause.RANDOM, ""),
    ({"alone": "a", "hash": "sn"}, Cause.RANDOM, ""),
    ({"more": "threads"}, Cause.RACE, ""),
    ({"trait": "starts threads"}, Cause.RACE, ""),
    ({"symptom": "timeout"}, Cause.TIMING, ""),
    ({"more": "load"}, Cause.TIMING, ""),
    ({"trait": "sleeps"}, Cause.TIMING, ""),
    ({}, Cause.UNKNOWN, ""),
)


def oracle(evidence: Evidence) -> tuple[Cause, str]:
    """Return the cause and role that the table gives."""
    return next((cause, role) for row, cause, role in TABLE if _holds(row, evidence))


def _holds(row: dict[str, str], evidence: Evidence) -> bool:
    for column, wanted in row.items():
        match column:
            case "symptom":
                if SIGNATURES[Symptom(wanted)] != evidence.signature:
                    return False
            case "trait":
                if Trait(wanted) not in evidence.traits:
                    return False
            case "more":
                # Wilson's intervals of 8 runs: 0-32 %, 7-59 % (2), 31-86 % (5), 68-100 % (8).
                alone, cell = evidence.cells[Cell.ALONE], evidence.cells[_COLUMNS[wanted]]
                apart = {(Rate(0, 8), Rate(8, 8)), (Rate(2, 8), Rate(8, 8))}
                if (alone, cell) not in apart:
                    return False
            case "less":
                # As above; with 8 of 8 alone, 0 and 2 of 8 are apart, 5 of 8 are not.
                if evidence.cells[_COLUMNS[wanted]] not in {Rate(0, 8), Rate(2, 8)}:
                    return False
            case _:
                rate = evidence.cells[_COLUMNS[column]]
                if _letter(rate) not in wanted:
                    return False
    return True


def _letter(rate: Rate) -> str:
    if rate.runs == 0:
        return "-"
    return "n" if rate.failures == 0 else ("a" if rate.failures == rate.runs else "s")


def rates() -> st.SearchStrategy[Rate]:
    return st.sampled_from([Rate(0, 0), Rate(0, 8), Rate(2, 8), Rate(5, 8), Rate(8, 8)])


@st.composite
def evidences(draw: st.DrawFn) -> Evidence:
    # Most cells of a real matrix are empty or quiet, so the later rules need help to be reached.
    quiet = draw(st.booleans())
    cells = {}
    for cell in Cell:
        boring = quiet and draw(st.integers(0, 3)) > 0
        cells[cell] = draw(st.sampled_from([Rate(0, 0), Rate(0, 8)])) if boring else draw(rates())
    return Evidence(
        cells=cells,
        signature=SIGNATURES[draw(st.sampled_from(list(Symptom)))],
        traits=draw(st.frozensets(st.sampled_from(list(Trait)), max_size=2)),
    )


@settings(max_examples=600, deadline=None)
@given(evidences())
def test_the_logic_and_the_table_agree(evidence: Evidence) -> None:
    verdict = judge(evidence)
    assert (verdict.cause, verdict.role) == oracle(evidence)


@given(evidences())
def test_a_verdict_names_what_it_is_drawn_from(evidence: Evidence) -> None:
    verdict = judge(evidence)
    told = "\n".join(verdict.evidence)
    assert all((f"{cell}:" in told) == bool(rate.runs) for cell, rate in evidence.cells.items())
    assert all(str(trait) in told for trait in evidence.traits)
    assert verdict.advice == ADVICE[verdict.cause]
    if verdict.cause is Cause.UNKNOWN:
        assert verdict.confidence is Confidence.LOW


def test_every_row_of_the_table_is_reached() -> None:
    """A row that no evidence reaches would hold nothing together."""
    for index, (row, cause, role) in enumerate(TABLE):
        cells = dict.fromkeys(Cell, Rate(0, 0))
        for column, wanted in row.items():
            if column in _COLUMNS:
                letter = wanted[-1] if wanted[-1] != "-" else wanted[0]
                cells[_COLUMNS[column]] = {
                    "n": Rate(0, 8), "s": Rate(2, 8), "a": Rate(8, 8),
                }[letter]  # fmt: skip
        if "more" in row:
            cells[Cell.ALONE], cells[_COLUMNS[row["more"]]] = Rate(2, 8), Rate(8, 8)
        if "less" in row:
            cells[_COLUMNS[row["less"]]] = Rate(0, 8)
        evidence = Evidence(
            cells=cells,
            signature=SIGNATURES[Symptom(row.get("symptom", "none"))],
            traits=frozenset({Trait(row["trait"])} if "trait" in row else ()),
        )
        assert oracle(evidence) == (cause, role), f"row {index}"
        verdict = judge(evidence)
        assert (verdict.cause, verdict.role) == (cause, role), f"row {index}"


@pytest.mark.parametrize("symptom", list(Symptom))
def test_a_failure_shows_its_symptom(symptom: Symptom) -> None:
    assert symptom_of(SIGNATURES[symptom], frozenset()) is symptom


def test_an_anomaly_shows_a_lock_and_words_of_the_test_show_nothing() -> None:
    plain = SIGNATURES[Symptom.NONE]
    assert symptom_of(plain, frozenset({AnomalyKind.LOCK_ERROR})) is Symptom.LOCK
    said = Signature("AssertionError", "assert 'address already in use' in log")
    assert symptom_of(said, frozenset()) is Symptom.NONE
    assert symptom_of(Signature("crash", "time limit"), frozenset()) is Symptom.TIMEOUT


def test_few_runs_make_no_high_confidence() -> None:
    few = {Cell.ALONE: Rate(0, 1), Cell.PREDECESSORS: Rate(1, 1)}
    many = {Cell.ALONE: Rate(0, 4), Cell.PREDECESSORS: Rate(4, 4)}
    found = [
        judge(Evidence(cells=cells, signature=Signature("KeyError"))).confidence
        for cells in (few, many)
    ]
    assert found == [Confidence.MEDIUM, Confidence.HIGH]
