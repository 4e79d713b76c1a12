"""`python -m flakes`: the corpus and its held-out part, with tables for docs/flakes.md."""

from __future__ import annotations

import argparse
import concurrent.futures
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from flakes.corpus import PARTS
from flakes.measure import ROUNDS, Scored, cause_lines, hunt_through, score
from flakes.model import Case


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was chosen; return 1 where the corpus misses a bar."""
    parser = argparse.ArgumentParser(prog="python -m flakes", description=__doc__)
    parser.add_argument("--part", choices=PARTS, action="append", help="corpus and held-out")
    parser.add_argument("--only", default="", help="suites in whose name this expression is found")
    parser.add_argument("--repeat", type=int, default=1, help="each suite so often")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    everything: list[Scored] = []
    missed = False
    for part in given.part or ("corpus", "held-out"):
        chosen = [case for case in PARTS[part] if re.search(given.only, case.name)]
        results = _run(chosen * given.repeat, given.rounds, given.jobs)
        everything += results
        if given.json is not None:
            given.json.write_bytes(msgspec.json.encode(everything))
        print(f"\n{part}")
        for line in cause_lines(results):
            print(line)
        met = _told(results)
        missed = missed or not (met or part == "held-out")
    return int(missed)


def _run(chosen: Sequence[Case], rounds: int, jobs: int) -> list[Scored]:
    results: list[Scored] = []
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(hunt_through, case, rounds) for case in chosen]
        for future in concurrent.futures.as_completed(waiting):
            result = future.result()
            results.append(result)
            print(f"{result.case}: {result.seconds:.1f} s", flush=True)
            for one in result.judged:
                if not (one.found and one.right_cause and one.right_culprits):
                    print(f"    {one}", flush=True)
    order = {case.name: index for index, case in enumerate(chosen)}
    return sorted(results, key=lambda result: order[result.case])


def _told(results: Iterable[Scored]) -> bool:
    """Print the figures that the bars are about; return whether all are met."""
    results = list(results)
    total = score(results)
    print(f"\n{len(results)} suites, {total}")
    hunting = sum(result.executions for result in results)
    judging = sum(result.verdict_executions for result in results)
    print(f"{hunting} tests run by hunts, {judging} for verdicts")
    met = total.meets_all_bars
    print("all bars are met" if met else "a bar is missed")
    return met


if __name__ == "__main__":
    sys.exit(main())
