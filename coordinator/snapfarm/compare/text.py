"""What `farm compare` prints, as lines of text. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from snapfarm.compare.model import Comparison, Spent
from snapfarm.compare.record import ItemOutcome
from snapfarm.compare.verdict import Difference
from snapfarm.golden.wording import counted

#: Tests that are listed; `--json` has all.
_LISTED = 50
#: Characters of a reason that are shown.
_REASON = 100
#: Outcomes that come first in the table; others follow in the order of their names.
_FIRST = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")

_WALL = {
    "start": "Python, pytest, plugins; until a first worker answers",
    "databases": "until a first worker holds the golden databases",
    "collection": "until the first test begins: workers import and collect",
    "tests": "until the last test has ended",
    "end": "workers tear down and end, pytest summarizes",
}
_WORKERS = {
    "start": "until they answer",
    "databases": "receiving and restoring",
    "collection": "configuration, imports, collection",
    "set-up": "fixtures",
    "tests": "the test functions",
    "tear-down": "fixtures",
    "reset": "databases back to golden",
    "reporting": "hooks, reports on their way",
    "waiting": "without a test",
    "end": "until their process is gone",
}


def lines(comparison: Comparison) -> Iterator[str]:
    """Yield all that is told of a comparison."""
    yield from table(comparison)
    if comparison.farm is not None:
        yield ""
        yield from spent(comparison.farm, comparison.workers)
    yield ""
    for note in comparison.notes:
        yield f"note: {note}"
    yield from verdict(comparison)


def table(comparison: Comparison) -> Iterator[str]:
    """Yield the table of times, memory and outcomes, a line for each runner."""
    found = {name for line in comparison.runners.values() for name in line.outcomes}
    outcomes = [name for name in _FIRST if name in found]
    outcomes += sorted(found.difference(_FIRST))
    rows = [["", "wall", "CPU", "memory", *outcomes]]
    for name, line in comparison.runners.items():
        memory = max(line.memory)
        rows.append(
            [
                name,
                f"{statistics.median(line.wall):.2f} s",
                f"{statistics.median(line.cpu):.2f} s",
                f"{memory / 1e6:.0f} MB" if memory else "-",
                *(str(line.outcomes.get(outcome, 0)) for outcome in outcomes),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        yield "   ".join([first.ljust(widths[0]), *cells]).rstrip()


def spent(found: Spent, workers: int) -> Iterator[str]:
    """Yield where the time of the farm went."""
    cpu = f"its coordinator used {found.coordinator_cpu:.2f} s of CPU"
    yield f"where the farm's {found.seconds:.2f} s went ({cpu}):"
    yield from _spans(found.wall, _WALL)
    total = sum(found.workers.values())
    yield f"what {counted(workers, 'worker', 'workers')} did, {total:.2f} s together:"
    yield from _spans(found.workers, _WORKERS)


def _spans(spans: Mapping[str, float], meanings: Mapping[str, str]) -> Iterator[str]:
    total = sum(spans.values()) or 1.0
    for name, seconds in spans.items():
        yield f"  {name:11}{seconds:7.2f} s {seconds / total:4.0%}   {meanings[name]}"


def verdict(comparison: Comparison) -> Iterator[str]:
    """Yield what differs, test by test, and the result."""
    found = comparison.verdict
    if found.unstable:
        count = counted(len(found.unstable), "test", "tests")
        yield f"unstable: {count}, which the same runner gives different outcomes"
        yield from _listed(found.unstable)
    if found.different:
        count = counted(len(found.different), "test", "tests")
        yield f"different: {count} of {found.tests}"
        yield from _listed(found.different)
        yield from _hints(comparison)
    if found.exit_statuses is not None:
        yield "different: the exit status"
        for runner, statuses in found.exit_statuses.items():
            yield f"  {runner}   {_rounds(list(map(str, statuses)))}"
    runs = comparison.rounds * len(comparison.runners)
    if found.equal:
        rest = found.tests - len(found.unstable)
        yield f"equal: {counted(rest, 'test', 'tests')}, the same outcome in each of {runs} runs"


def _listed(differences: Sequence[Difference]) -> Iterator[str]:
    for difference in differences[:_LISTED]:
        yield f"  {difference.nodeid}"
        width = max(map(len, difference.outcomes))
        for runner, tests in difference.outcomes.items():
            told = _rounds([test.outcome for test in tests])
            reason = _reason(tests)
            yield f"    {runner:{width}}  {told}{f'   {reason}' if reason else ''}"
    if len(differences) > _LISTED:
        yield f"  … and {len(differences) - _LISTED} more; --json FILE has all of them"


def _rounds(outcomes: Sequence[str]) -> str:
    return outcomes[0] if len(set(outcomes)) == 1 else " | ".join(outcomes)


def _reason(tests: Sequence[ItemOutcome]) -> str:
    found = next((test.reason for test in tests if test.reason), "")
    return found if len(found) <= _REASON else found[: _REASON - 1] + "…"


def _hints(comparison: Comparison) -> Iterator[str]:
    """Yield what may explain a difference."""
    if comparison.rounds == 1:
        yield "  (with --rounds 3, tests that are unstable by themselves are told apart)"
    peers = [name for name in comparison.runners if not name.startswith("plain")]
    if len(peers) < 2:
        return
    alike = sum(
        len({test.outcome for name in peers for test in line.outcomes[name]}) == 1
        for line in comparison.verdict.different
    )
    if alike:
        yield (
            f"  ({alike} of them alike with {' and '.join(peers)}: such tests ask whether they are "
            "distributed, or depend on the tests before them)"
        )
