"""`python -m flakes.peers`: what plugins of pytest find in the same corpus, with as many rounds.

They live in an environment of their own (`.venv-peers`), since one of them shuffles every suite
that it is installed beside. Each runs the suite as often as a hunt has rounds; what it lets its
user see as flaky counts as found: a test that passed on a rerun, or ended in different ways, the
end of the process among them.

Each suite's results are written as they come, and are not measured again by the next call.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import venv
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from flakes.corpus import CORPUS
from flakes.measure import ROUNDS
from flakes.model import Case
from support.suite import clean_environment

ROOT = Path(__file__).parents[2]
PLUGIN = Path(__file__).parent / "peer_plugin"
RESULTS = ROOT / "bench-results" / "flake-peers.jsonl"
PEERS = (
    "pytest", "pytest-rerunfailures", "pytest-flakefinder", "pytest-randomly",
    "detect-test-pollution",
)  # fmt: skip
#: Seconds that one process of a peer may take.
_LIMIT = 300


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer found in one suite, and how many tests it ran for that."""

    peer: str
    right: int
    wrong: int
    #: How many there were to be found.
    there: int
    executions: int


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """All peers on one suite, as it is written down. `digest` is of the suite's files."""

    case: str
    digest: str
    rounds: int
    found: list[Found]


class Watched(msgspec.Struct):
    """How often attempts ended in which way, by test. A test that ended its process has failed."""

    outcomes: dict[str, Counter[str]]
    executions: int


def environment() -> Path:
    """Return the interpreter of the peers' environment, made on first use."""
    folder = ROOT / ".venv-peers"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*command, *PEERS, str(ROOT)], check=True)
    return python


def _watched(root: Path, command: Sequence[str], options: str) -> tuple[Watched, str]:
    """Run a command that runs pytest; return what happened in it, and what it printed."""
    with tempfile.TemporaryDirectory() as scratch:
        record = Path(scratch, "record")
        record.touch()
        env = clean_environment() | {
            "PYTHONPATH": str(PLUGIN),
            "FLAKES_RECORD": str(record),
            "PYTEST_ADDOPTS": f"-p flakes_recorder -p no:cacheprovider {options}",
        }
        done = subprocess.run(
            command, cwd=root, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=_LIMIT, check=False,
        )  # fmt: skip
        lines = [line.split("\t", 1) for line in record.read_text("utf-8").splitlines()]
    outcomes: dict[str, Counter[str]] = {}
    running: dict[str, str] = {}
    for what, test in lines:
        if what == "begins":
            running[test] = "passed"
        elif what != "over":
            running[test] = what
        else:
            outcomes.setdefault(test, Counter())[running.pop(test, "passed")] += 1
    for test in running:
        outcomes.setdefault(test, Counter())["failed"] += 1
    return Watched(outcomes, sum(what == "begins" for what, _ in lines)), done.stdout


class Peer:
    """One finder: runs a suite with its plugin; counts what it ran."""

    def __init__(self, python: Path, root: Path, case: Case, rounds: int) -> None:
        self._python = python
        self._case = case
        self._root = root
        self._rounds = rounds
        self.executions = 0

    def _pytest(self, *arguments: str) -> dict[str, Counter[str]]:
        command = [str(self._python), "-m", "pytest", "-q", *arguments]
        seen, _ = _watched(self._root, command, "")
        self.executions += seen.executions
        return seen.outcomes

    def rerunfailures(self) -> set[str]:
        """Tests that failed and passed on a rerun."""
        found: set[str] = set()
        for _ in range(self._rounds):
            outcomes = self._pytest("-p", "no:randomly", "--reruns", "1")
            found |= {one for one, seen in outcomes.items() if seen["rerun"] and seen["passed"]}
        return found

    def flakefinder(self) -> set[str]:
        """Tests of which some of many copies in one process failed, and others did not."""
        outcomes = self._pytest(
            "-p", "no:randomly", "--flake-finder", f"--flake-runs={self._rounds}"
        )
        # A copy has its number behind the parameters, or as the only one.
        bare = {test: re.sub(r"-?\d+\]$", "]", test).replace("[]", "") for test in outcomes}
        return _mixed((bare[test], seen) for test, seen in outcomes.items())

    def randomly(self) -> set[str]:
        """Tests that ended in different ways in runs of different seeds."""
        # Its orders follow from seed and names; names are much the same in all of these suites.
        first = zlib.crc32(self._case.name.encode())
        seeds = range(first, first + self._rounds)
        rounds = (self._pytest(f"--randomly-seed={seed}") for seed in seeds)
        return _mixed(one for outcomes in rounds for one in outcomes.items())

    def polluter(self, test: str) -> str:
        """Return the polluter that detect-test-pollution names; "" for none."""
        name = "detect-test-pollution"
        command = [str(self._python.parent / name), "--failing-test", test, "--tests", "."]
        seen, output = _watched(self._root, command, "-p no:randomly")
        self.executions += seen.executions
        found = re.search(r"the polluting test is: (\S+)", output)
        return "" if found is None else found[1]


def _mixed(attempts: Iterator[tuple[str, Counter[str]]]) -> set[str]:
    together: dict[str, Counter[str]] = {}
    for test, seen in attempts:
        together.setdefault(test, Counter()).update(seen)
    return {test for test, seen in together.items() if seen["failed"] and seen["passed"]}


_FINDERS: dict[str, Callable[[Peer], set[str]]] = {
    "pytest-rerunfailures": Peer.rerunfailures,
    "pytest-flakefinder": Peer.flakefinder,
    "pytest-randomly": Peer.randomly,
}
_BISECTOR = "detect-test-pollution"


def compare(python: Path, case: Case, rounds: int) -> Line:
    """Run all peers on one suite."""
    flaky = {test for test, one in case.flakes.items() if one.cause != "deterministic"}
    found = []
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        root = Path(folder).resolve()
        case.write(root)
        for name, finder in _FINDERS.items():
            peer = Peer(python, root, case, rounds)
            try:
                seen = finder(peer)
            except subprocess.TimeoutExpired:
                seen = set()
            found.append(Found(
                peer=name, right=len(seen & flaky), wrong=len(seen - flaky), there=len(flaky),
                executions=peer.executions,
            ))  # fmt: skip
        for test, one in case.flakes.items():
            # It looks for polluters of tests that pass alone, so not for those of brittle ones.
            if one.culprits and one.role != "brittle":
                peer = Peer(python, root, case, rounds)
                try:
                    named = peer.polluter(test)
                except subprocess.TimeoutExpired:
                    named = ""
                right = frozenset({named}) in one.culprits
                found.append(Found(
                    peer=_BISECTOR, right=int(right), wrong=int(bool(named) and not right), there=1,
                    executions=peer.executions,
                ))  # fmt: skip
    return Line(case=case.name, digest=_digest(case), rounds=rounds, found=found)


def _digest(case: Case) -> str:
    return hashlib.sha256(repr(sorted(case.files.items())).encode()).hexdigest()[:16]


def known(path: Path, rounds: int) -> dict[str, Line]:
    """Return what has been written of suites that are still the same, by name."""
    if not path.exists():
        return {}
    lines = [
        msgspec.json.decode(text, type=Line)
        for text in path.read_bytes().splitlines(keepends=True)
        if text.endswith(b"\n")
    ]
    now = {case.name: _digest(case) for case in CORPUS}
    return {
        line.case: line
        for line in lines
        if line.rounds == rounds and now.get(line.case) == line.digest
    }


def table(lines: Sequence[Line]) -> Iterator[str]:
    """Yield the table for docs/flakes.md."""
    yield "| peer | found | recall | wrong | precision | tests run |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for peer in (*_FINDERS, _BISECTOR):
        mine = [one for line in lines for one in line.found if one.peer == peer]
        there, right = sum(one.there for one in mine), sum(one.right for one in mine)
        wrong = sum(one.wrong for one in mine)
        recall = f"{right / there:.0%}" if there else "-"
        precision = f"{right / (right + wrong):.0%}" if right + wrong else "-"
        ran = sum(one.executions for one in mine)
        yield f"| {peer} | {right} of {there} | {recall} | {wrong} | {precision} | {ran:,} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of what each peer found."""
    parser = argparse.ArgumentParser(prog="python -m flakes.peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, help="only each N-th suite")
    parser.add_argument("--results", type=Path, default=RESULTS, help="what was measured before")
    given = parser.parse_args(arguments)
    chosen = CORPUS[:: given.every]
    lines = known(given.results, given.rounds)
    missing = [case for case in chosen if case.name not in lines]
    given.results.parent.mkdir(parents=True, exist_ok=True)
    python = environment() if missing else Path(os.devnull)
    with (
        given.results.open("ab") as file,
        concurrent.futures.ThreadPoolExecutor(given.jobs) as pool,
    ):
        waiting = [pool.submit(compare, python, case, given.rounds) for case in missing]
        for future in concurrent.futures.as_completed(waiting):
            line = future.result()
            lines[line.case] = line
            file.write(msgspec.json.encode(line) + b"\n")
            file.flush()
            shown = ", ".join(f"{one.peer} {one.right}/{one.there}" for one in line.found)
            print(f"{line.case}: {shown}", flush=True)
    print(f"\n{len(chosen)} suites, {given.rounds} rounds")
    for text in table([lines[case.name] for case in chosen]):
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
