"""Runs each foreign suite plain, with pytest-xdist and on a farm, in turns, and prints a table.

    PYTHONPATH=tests python -m real.timings [--rounds N] [NAME ...]

Medians over the rounds: wall clock, and CPU seconds of the whole tree of processes. An unmeasured
plain run goes first: it fills the caches of compiled modules, and tells with the measured ones
which tests are flaky by themselves. Ratios are taken round by round, between neighbours in time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence

from support import real_suites
from support.real_suites import SUITES, Prepared, Run, Suite

_HEAD = (
    "| suite | version | tests | plain, s (CPU) | xdist -n 2, s (CPU) | farm -n 2, s (CPU) "
    "| xdist / farm, wall | CPU | equal |"
)
_RUNNERS: dict[str, Callable[[Prepared], Run]] = {
    "plain": real_suites.run_plain,
    "xdist": real_suites.run_xdist,
    "farm": real_suites.run_farm,
}


def measure(suite: Suite, rounds: int) -> tuple[str, list[str]]:
    """Return a suite's line of the table, and what differed."""
    prepared = real_suites.prepare(suite)
    first = real_suites.run_plain(prepared)
    runs: dict[str, list[Run]] = {name: [] for name in _RUNNERS}
    for _ in range(rounds):
        for name, runner in _RUNNERS.items():
            runs[name].append(runner(prepared))

    expected = real_suites.expected_on_a_farm(suite, first.outcomes)
    told: list[str] = []
    different = {"xdist": False, "farm": False}
    for plain in runs["plain"]:
        lines = real_suites.differences(
            real_suites.without_flaky(suite, first.outcomes),
            real_suites.without_flaky(suite, plain.outcomes),
        )
        told += [f"{suite.name}, two plain runs: {line}" for line in lines]
    for name in different:
        for run in runs[name]:
            found = real_suites.without_flaky(suite, run.outcomes)
            lines = real_suites.differences(expected, found)
            told += [f"{suite.name}, {name}: {line}" for line in lines]
            different[name] |= bool(lines) or run.exit_status != first.exit_status
    equal = "yes" if not different["farm"] else "no"
    if different["xdist"]:
        equal += ", pytest-xdist: no"

    both = list(zip(runs["xdist"], runs["farm"], strict=True))
    wall = statistics.median(xdist.seconds / farm.seconds for xdist, farm in both)
    cpu = statistics.median(xdist.cpu / farm.cpu for xdist, farm in both)
    cells = [suite.name, suite.version, str(first.tests), *map(_times, runs.values())]
    return f"| {' | '.join(cells)} | {wall:.2f} | {cpu:.2f} | {equal} |", told


def _times(runs: Sequence[Run]) -> str:
    """Return the medians of some runs, as a cell shows them."""
    wall = statistics.median(run.seconds for run in runs)
    return f"{wall:.1f} ({statistics.median(run.cpu for run in runs):.1f})"


def main(arguments: list[str]) -> int:
    """Print the table, then what differed; return 1 if anything did."""
    parser = argparse.ArgumentParser(description="time suites of others")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("names", nargs="*", metavar="NAME")
    wanted = parser.parse_args(arguments)
    if unknown := set(wanted.names) - {suite.name for suite in SUITES}:
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    told: list[str] = []
    print(_HEAD)
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |", flush=True)
    for suite in SUITES:
        if not wanted.names or suite.name in wanted.names:
            row, differing = measure(suite, wanted.rounds)
            print(row, flush=True)
            told += differing
    print(*told, sep="\n")
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
