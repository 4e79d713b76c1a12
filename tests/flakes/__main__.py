"""`python -m flakes`: the whole corpus, with a table for docs/flakes.md."""

from __future__ import annotations

import argparse
import concurrent.futures
import sys
from pathlib import Path

import msgspec

from flakes.corpus import CORPUS
from flakes.measure import ROUNDS, Scored, cause_lines, hunt_through, score


def main() -> int:
    """Run the corpus; return 1 where a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m flakes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="suites whose name has this in it")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    chosen = [case for case in CORPUS if given.only in case.name]
    results: list[Scored] = []
    with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
        waiting = [pool.submit(hunt_through, case, given.rounds) for case in chosen]
        for future in concurrent.futures.as_completed(waiting):
            result = future.result()
            results.append(result)
            print(f"{result.case}: {result.seconds:.1f} s", flush=True)
            for one in result.judged:
                if not (one.found and one.right_cause and one.right_culprits):
                    print(f"    {one}", flush=True)
    order = {case.name: index for index, case in enumerate(CORPUS)}
    results.sort(key=lambda result: order[result.case])
    if given.json is not None:
        given.json.write_bytes(msgspec.json.encode(results))
    print()
    for line in cause_lines(results):
        print(line)
    total = score(results)
    print(f"\n{len(results)} suites, {total}")
    hunting = sum(result.executions for result in results)
    judging = sum(result.verdict_executions for result in results)
    print(f"{hunting} tests run by hunts, {judging} for verdicts")
    met = (
        total.frequent_found >= 0.95 * total.frequent
        and not total.false_alarms
        and total.right_causes >= 0.9 * total.found
        and total.right_culprits >= 0.95 * total.with_culprits
        and not total.wrong_culprits
        and not total.long_searches
    )
    print("all bars are met" if met else "a bar is missed")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
