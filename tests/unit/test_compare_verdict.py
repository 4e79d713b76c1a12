"""What is equal, different or unstable in runs of a suite, and how it is told."""

from __future__ import annotations

from pathlib import Path

import msgspec

from snapfarm.compare import record, text
from snapfarm.compare.model import Comparison, RunnerLine, Spent
from snapfarm.compare.record import ItemOutcome, ReportLine, SessionLine
from snapfarm.compare.verdict import RunOutcome, Verdict, judge


def _outcome(status: int = 0, **tests: str) -> RunOutcome:
    return RunOutcome(
        exit_status=status, tests={name: ItemOutcome(text) for name, text in tests.items()}
    )


def _report(nodeid: str, category: str, when: str = "call", reason: str = "") -> ReportLine:
    return ReportLine(nodeid, when, "passed", category, reason)


def test_phases_are_folded_as_pytest_counts_them() -> None:
    reports = [
        _report("a", "", "setup"),
        _report("a", "passed"),
        _report("a", "error", "teardown", "ValueError: x"),
        _report("flaky", "rerun", reason="first"),
        _report("flaky", "rerun"),
        _report("flaky", "passed"),
        _report("twice", "passed"),
        _report("twice", "passed"),
        _report("broken.py", "error", record.COLLECT),
        _report("broken.py", "error", record.COLLECT),
    ]
    assert record.folded(reports) == {
        "a": ItemOutcome("error, passed", "ValueError: x"),
        # How often it was run again is chance.
        "flaky": ItemOutcome("passed, rerun", "first"),
        "twice": ItemOutcome("2 passed"),
        # One report of each worker.
        "broken.py": ItemOutcome("error"),
    }


def test_a_record_that_was_cut_off_is_read_up_to_there(tmp_path: Path) -> None:
    path = tmp_path / "record"
    assert record.read(path) == (None, [])
    session, report = SessionLine("/root", 0), _report("a", "passed")
    path.write_bytes(record.encode(session) + record.encode(report) + b'{"type":"repo')
    assert record.read(path) == (session, [report])


def test_runs_that_agree_are_equal_also_where_tests_fail() -> None:
    run = _outcome(1, a="passed", b="failed")
    verdict = judge({"plain": [run, run], "farm": [run, run]})
    assert verdict.equal
    assert (verdict.tests, verdict.exit_statuses) == (2, None)


def test_a_test_that_one_runner_does_not_know_is_different() -> None:
    verdict = judge({"plain": [_outcome(a="passed", b="passed")], "farm": [_outcome(a="passed")]})
    assert not verdict.equal
    (line,) = verdict.different
    assert line.nodeid == "b"
    assert [tests[0].outcome for tests in line.outcomes.values()] == ["passed", "not run"]


def test_a_test_that_differs_between_rounds_of_one_runner_is_unstable() -> None:
    verdict = judge(
        {
            "plain": [_outcome(0, a="passed", b="passed"), _outcome(1, a="failed", b="passed")],
            "farm": [_outcome(0, a="passed", b="passed"), _outcome(0, a="passed", b="passed")],
        }
    )
    assert verdict.equal
    assert [line.nodeid for line in verdict.unstable] == ["a"]


def test_the_exit_status_counts_where_no_unstable_test_explains_it() -> None:
    same = {"a": "passed"}
    verdict = judge({"plain": [_outcome(0, **same)], "farm": [_outcome(1, **same)]})
    assert not verdict.equal
    assert verdict.exit_statuses == {"plain": (0,), "farm": (1,)}

    rounds = [_outcome(0, a="passed"), _outcome(3, a="failed")]
    broken = judge({"plain": [_outcome(0, **same)] * 2, "farm": rounds})
    assert broken.unstable
    assert broken.exit_statuses == {"plain": (0, 0), "farm": (0, 3)}


def _comparison(verdict: Verdict, rounds: int = 1) -> Comparison:
    def line(wall: float, **outcomes: int) -> RunnerLine:
        return RunnerLine(
            wall=(wall,) * rounds,
            cpu=(1.5,) * rounds,
            memory=(50_000_000,) * rounds,
            exit_statuses=(0,) * rounds,
            outcomes=outcomes,
        )

    return Comparison(
        snapfarm="0",
        python="3",
        arguments=(),
        workers=2,
        dist=None,
        shuffle=None,
        rounds=rounds,
        runners={
            "plain": line(4.0, passed=9, skipped=1),
            "xdist -n 2": line(3.0, passed=8, failed=2),
            "farm -n 2": line(2.0, passed=8, failed=2),
        },
        farm=Spent(
            seconds=2.0, wall={"start": 0.5, "tests": 1.5}, workers={"reset": 3.0},
            coordinator_cpu=0.4,
        ),
        verdict=verdict,
        notes=("something",),
    )  # fmt: skip


def test_what_is_told_of_a_difference() -> None:
    fails = RunOutcome(
        exit_status=1, tests={"t::a": ItemOutcome("failed", "ValueError: " + "x" * 200)}
    )
    passes = RunOutcome(exit_status=0, tests={"t::a": ItemOutcome("passed")})
    verdict = judge({"plain": [passes], "xdist -n 2": [fails], "farm -n 2": [fails]})
    shown = list(text.lines(_comparison(verdict)))
    assert shown[:2] == [
        "               wall      CPU   memory   passed   failed   skipped",
        "plain        4.00 s   1.50 s    50 MB        9        0         1",
    ]
    assert (
        "  start         0.50 s  25%   Python, pytest, plugins; until a first worker answers"
        in shown
    )
    assert "what 2 workers did, 3.00 s together:" in shown
    told = shown[shown.index("note: something") + 1 :]
    assert told[:4] == [
        "different: 1 test of 1",
        "  t::a",
        "    plain       passed",
        f"    xdist -n 2  failed   ValueError: {'x' * 87}…",
    ]
    assert "  (with --rounds 3, tests that are unstable by themselves are told apart)" in told
    assert any(
        line.startswith("  (1 of them alike with xdist -n 2 and farm -n 2: ") for line in told
    )
    assert "  farm -n 2   1" in told
    assert not any(line.startswith("equal") for line in told)


def test_what_is_told_of_unstable_tests() -> None:
    rounds = [_outcome(0, a="passed", b="passed"), _outcome(1, a="failed", b="passed")]
    verdict = judge({"plain": rounds, "farm -n 2": rounds})
    told = list(text.verdict(_comparison(verdict, rounds=2)))
    assert told == [
        "unstable: 1 test, which the same runner gives different outcomes",
        "  a",
        "    plain      passed | failed",
        "    farm -n 2  passed | failed",
        "equal: 1 test, the same outcome in each of 6 runs",
    ]


def test_a_comparison_can_be_read_back_from_its_json() -> None:
    comparison = _comparison(judge({"plain": [_outcome(a="passed")], "farm": [_outcome(a="x")]}))
    again = msgspec.json.decode(msgspec.json.encode(comparison), type=Comparison)
    assert again == comparison
