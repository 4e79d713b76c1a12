"""Whether sensors report every fault of a corpus, with its evidence, and nothing of a clean one."""

from __future__ import annotations

import collections
import os
from pathlib import Path

import pytest

from snapfarm_worker.anomaly import KINDS, AnomalyKind, Level, Severity
from support.corpus import (
    clean,
    clean_after,
    django_clean,
    django_faults,
    elsewhere,
    empty_reads,
    held,
    indirect,
    lost,
    with_peewee,
)
from support.corpus.stage import Case, Program, kinds

#: From 3.13 on, freeing an open connection is a ResourceWarning.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

FAULTS = [
    *empty_reads.CASES,
    *held.CASES,
    *lost.CASES,
    *elsewhere.CASES,
    *django_faults.CASES,
    *with_peewee.FAULTS,
    *indirect.FAULTS,
]
CLEAN = [
    *clean.CASES,
    *clean_after.CASES,
    *django_clean.CASES,
    *with_peewee.CLEAN,
    *indirect.CLEAN,
]
#: Where programs are, for stacks to lead there.
PROGRAMS = Path(clean.__file__).parent
LEFT_OPEN = {
    AnomalyKind.LEAKED_TRANSACTION,
    AnomalyKind.LEAKED_CURSOR,
    AnomalyKind.LEAKED_CONNECTION,
    AnomalyKind.LEAKED_THREAD,
}
LEFT_BEHIND = {AnomalyKind.LEAKED_WRITE, AnomalyKind.SCHEMA_CHANGE}
#: Kinds for which it does not matter with what a program connects.
OF_NO_LIBRARY = {
    AnomalyKind.RING_VANISHED,
    AnomalyKind.SNAPSHOT_MISMATCH,
    AnomalyKind.RESET_BLOCKED,
}
#: What is only known to whoever looks at every statement.
OF_STATEMENTS = {
    AnomalyKind.EMPTY_TABLE_READ,
    AnomalyKind.DIRTY_READ,
    AnomalyKind.LEAKED_WRITE,
    AnomalyKind.SCHEMA_CHANGE,
    AnomalyKind.LOST_WRITE,
}
#: What this test has changed of the schema is only known from its statements, too.
SEEN_LIGHTLY = [
    case
    for case in FAULTS
    if AnomalyKind.SCHEMA_CHANGE not in case.kinds and set(case.kinds) - OF_STATEMENTS
]


@pytest.mark.parametrize("case", FAULTS, ids=lambda case: case.name)
def test_a_fault_is_reported_with_its_evidence(case: Case) -> None:
    found = case.observed()
    assert kinds(found) == set(case.kinds)
    first = case.kinds[0]
    weights = {anomaly.severity for anomaly in found if anomaly.kind is first}
    assert weights == {case.severity or KINDS[first].severity}
    for anomaly in found:
        assert anomaly.test == f"t.py::{len(case.after) + 1}"
        assert anomaly.database in ("default", "")
        assert anomaly.message
        assert anomaly.remedy
        told = (*anomaly.stack, *anomaly.evidence)
        assert told or anomaly.kind is AnomalyKind.RING_VANISHED
        if anomaly.kind in LEFT_OPEN:
            assert any(f"{PROGRAMS}{os.sep}" in line for line in told)
        if anomaly.kind is AnomalyKind.LEAKED_WRITE:
            assert any("rows" in line for line in anomaly.evidence)
        if anomaly.kind is AnomalyKind.EMPTY_TABLE_READ:
            assert anomaly.sql
            assert anomaly.table
            assert "rows" in anomaly.message
        if anomaly.polluter:
            assert anomaly.polluter == "t.py::1"
    if case.after and case.kinds[0] in (AnomalyKind.EMPTY_TABLE_READ, AnomalyKind.MISSING_TABLE):
        assert any(anomaly.polluter for anomaly in found)
    if case.table:
        assert found[0].table == case.table


@pytest.mark.parametrize("case", SEEN_LIGHTLY, ids=lambda case: case.name)
def test_light_sensors_report_what_needs_no_look_at_statements(case: Case) -> None:
    assert kinds(case.observed(Level.LIGHT)) >= set(case.kinds) - OF_STATEMENTS


def test_the_corpus_has_six_variants_of_each_kind() -> None:
    variants = collections.Counter(kind for case in FAULTS for kind in case.kinds)
    # What happens to a reset that is blocked is the subject of tests of its own.
    listed = set(AnomalyKind) - {AnomalyKind.RESET_BLOCKED}
    few = {str(kind): variants[kind] for kind in listed if variants[kind] < 6}
    assert few == {}
    names = [case.name for case in FAULTS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("cases", [django_faults.CASES, with_peewee.FAULTS])
def test_each_kind_that_a_library_can_bring_about_is_tried_with_it(cases: list[Case]) -> None:
    assert {kind for case in cases for kind in case.kinds} == set(AnomalyKind) - OF_NO_LIBRARY


def test_every_kind_is_explained() -> None:
    assert set(KINDS) == set(AnomalyKind)
    page = (Path(__file__).parents[2] / "docs" / "sensors.md").read_text()
    for kind, info in KINDS.items():
        section = page.partition(f"### {kind}\n")[2].partition("\n#")[0]
        assert info.definition[1:] in section
        assert info.evidence in section
        assert info.remedy in section
    assert all(each.definition and each.evidence and each.remedy for each in KINDS.values())


@pytest.mark.parametrize("case", CLEAN, ids=lambda case: case.name)
def test_a_legitimate_program_raises_no_alarm(case: Case) -> None:
    found = case.observed()
    assert [each for each in found if each.severity is Severity.ERROR] == []
    # Where tests share what they commit, it is true that this one leaves something.
    assert kinds(found) <= LEFT_BEHIND


@pytest.mark.parametrize("program", [clean.retries, clean.retries_on_another_connection])
def test_a_lock_that_the_program_got_over_is_information(program: Program) -> None:
    (found,) = Case("retries", (), program).observed()
    assert (found.kind, found.severity) == (AnomalyKind.LOCK_ERROR, Severity.INFO)
    assert "tried again, and succeeded" in found.message


def test_the_clean_corpus_is_large() -> None:
    assert len({case.program for case in CLEAN}) >= 40
    assert len(django_clean.PROGRAMS) >= 6
    names = [case.name for case in CLEAN]
    assert len(set(names)) == len(names)
