"""Runs each foreign suite plain twice, with pytest-xdist and on a farm, and prints a table.

    PYTHONPATH=tests python -m real.timings [NAME ...]

The two plain runs tell which tests are flaky by themselves. One round, one run after the other:
the seconds tell what to expect, not which is faster by a few per cent.
"""

from __future__ import annotations

import sys

from support import real_suites
from support.real_suites import SUITES, Suite

_HEAD = "| suite | version | tests | plain s | xdist -n 2 s | farm -n 2 s | equal |"


def measure(suite: Suite) -> tuple[str, list[str]]:
    """Return a suite's line of the table, and what differed."""
    prepared = real_suites.prepare(suite)
    # A first run fills the caches of compiled modules, and shows what is flaky.
    first = real_suites.run_plain(prepared)
    plain = real_suites.run_plain(prepared)
    xdist = real_suites.run_xdist(prepared)
    farm = real_suites.run_farm(prepared)
    flaky = real_suites.differences(
        real_suites.without_flaky(suite, first.outcomes),
        real_suites.without_flaky(suite, plain.outcomes),
    )
    expected = real_suites.expected_on_a_farm(suite, plain.outcomes)
    different = real_suites.differences(expected, real_suites.without_flaky(suite, farm.outcomes))
    equal = "yes" if not different and farm.exit_status == plain.exit_status else "no"
    row = (
        f"| {suite.name} | {suite.version} | {plain.tests} | {plain.seconds:.1f} "
        f"| {xdist.seconds:.1f} | {farm.seconds:.1f} | {equal} |"
    )
    told = [f"{suite.name}, two plain runs: {line}" for line in flaky]
    told += [f"{suite.name}: {line}" for line in different]
    return row, told


def main(names: list[str]) -> int:
    """Print the table, then what differed; return 1 if anything did."""
    chosen = [suite for suite in SUITES if not names or suite.name in names]
    told: list[str] = []
    print(_HEAD)
    print("| --- | --- | ---: | ---: | ---: | ---: | --- |")
    for suite in chosen:
        row, differing = measure(suite)
        print(row, flush=True)
        told += differing
    print(*told, sep="\n")
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
