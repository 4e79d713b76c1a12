"""`python -m flakes.peers`: what plugins of pytest find in the same corpus, with as many rounds.

They live in an environment of their own (`.venv-peers`), since one of them shuffles every suite
that it is installed beside. Each runs the suite as often as a hunt has rounds; what it lets its
user see as flaky counts as found: a test that passed on a rerun, or ended in different ways.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import re
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec

from flakes.corpus import CORPUS
from flakes.measure import ROUNDS
from flakes.model import Case
from support.suite import clean_environment

ROOT = Path(__file__).parents[2]
PEERS = (
    "pytest", "pytest-rerunfailures", "pytest-flakefinder", "pytest-randomly",
    "detect-test-pollution",
)  # fmt: skip
#: Seconds that one process of a peer may take.
_LIMIT = 300


def environment() -> Path:
    """Return the interpreter of the peers' environment, made on first use."""
    folder = ROOT / ".venv-peers"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*command, *PEERS, str(ROOT)], check=True)
    return python


def _pytest(python: Path, root: Path, *arguments: str) -> tuple[dict[str, set[str]], str]:
    """Run pytest; return the outcomes of each test, by its name in JUnit, and what it printed."""
    with tempfile.TemporaryDirectory() as scratch:
        junit = Path(scratch, "junit.xml")
        command = [str(python), "-m", "pytest", "-p", "no:cacheprovider", "-rA", *arguments]
        done = subprocess.run(
            [*command, f"--junitxml={junit}"], cwd=root, env=clean_environment(),
            capture_output=True, text=True, errors="replace", timeout=_LIMIT, check=False,
        )  # fmt: skip
        outcomes: dict[str, set[str]] = {}
        if junit.exists():
            for case in ET.parse(junit).getroot().iter("testcase"):
                failed = case.find("failure") is not None or case.find("error") is not None
                name = f"{case.get('classname')}::{case.get('name')}"
                outcomes.setdefault(name, set()).add("failed" if failed else "passed")
    return outcomes, done.stdout


def rerunfailures(python: Path, root: Path, rounds: int) -> set[str]:
    """Tests that failed and passed on a rerun."""
    found: set[str] = set()
    for _ in range(rounds):
        outcomes, output = _pytest(python, root, "-p", "no:randomly", "--reruns", "1")
        rerun = {_named(one) for one in re.findall(r"^RERUN (\S+)", output, re.MULTILINE)}
        found |= {test for test in rerun if outcomes.get(test) == {"passed"}}
    return found


def flakefinder(python: Path, root: Path, rounds: int) -> set[str]:
    """Tests of which some of many copies in one process failed, and others did not."""
    arguments = ("-p", "no:randomly", "--flake-finder", f"--flake-runs={rounds}")
    outcomes, _ = _pytest(python, root, *arguments)
    together: dict[str, set[str]] = {}
    for test, seen in outcomes.items():
        # A copy has its number among the parameters, which are its own where there were none.
        bare = re.sub(r"-?\d+\]$", "]", test).replace("[]", "")
        together.setdefault(bare, set()).update(seen)
    return {test for test, seen in together.items() if len(seen) > 1}


def randomly(python: Path, root: Path, rounds: int) -> set[str]:
    """Tests that ended in different ways in runs of different seeds."""
    together: dict[str, set[str]] = {}
    for seed in range(rounds):
        outcomes, _ = _pytest(python, root, f"--randomly-seed={seed}")
        for test, seen in outcomes.items():
            together.setdefault(test, set()).update(seen)
    return {test for test, seen in together.items() if len(seen) > 1}


def pollution(python: Path, root: Path, test: str) -> str:
    """Return the polluter that detect-test-pollution names; "" for none."""
    done = subprocess.run(
        [str(python.parent / "detect-test-pollution"), "--failing-test", test, "--tests", "."],
        cwd=root, env=clean_environment() | {"PYTEST_ADDOPTS": "-p no:randomly"},
        capture_output=True, text=True, errors="replace", timeout=_LIMIT, check=False,
    )  # fmt: skip
    found = re.search(r"the polluting test is: (\S+)", done.stdout)
    return "" if found is None else found[1]


def _named(nodeid: str) -> str:
    path, _, rest = nodeid.partition("::")
    return f"{Path(path).with_suffix('').as_posix().replace('/', '.')}::{rest}"


class Found(msgspec.Struct, frozen=True):
    """What a peer found in one suite."""

    peer: str
    case: str
    right: int
    wrong: int


_FINDERS: dict[str, Callable[[Path, Path, int], set[str]]] = {
    "pytest-rerunfailures": rerunfailures,
    "pytest-flakefinder": flakefinder,
    "pytest-randomly": randomly,
}


def compare(python: Path, case: Case, rounds: int) -> list[Found]:
    """Run all peers on one suite."""
    flaky = {_named(test) for test, one in case.flakes.items() if one.cause != "deterministic"}
    found = []
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        root = Path(folder).resolve()
        case.write(root)
        for peer, finder in _FINDERS.items():
            try:
                seen = finder(python, root, rounds)
            except subprocess.TimeoutExpired:
                seen = set()
            found.append(Found(peer, case.name, len(seen & flaky), len(seen - flaky)))
        for test, one in case.flakes.items():
            if one.culprits and one.role == "victim":
                named = pollution(python, root, test)
                right = frozenset({named}) in one.culprits
                wrong = bool(named) and not right
                found.append(Found("detect-test-pollution", case.name, right, wrong))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of what each peer found."""
    parser = argparse.ArgumentParser(prog="python -m flakes.peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, help="only each N-th suite")
    given = parser.parse_args(arguments)
    chosen = CORPUS[:: given.every]
    python = environment()
    results: list[Found] = []
    with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
        waiting = [pool.submit(compare, python, case, given.rounds) for case in chosen]
        for future in concurrent.futures.as_completed(waiting):
            results += future.result()
            print(results[-len(_FINDERS) :], flush=True)
    there = sum(one.cause != "deterministic" for case in chosen for one in case.flakes.values())
    victims = sum(one.peer == "detect-test-pollution" for one in results)
    print(f"\n{len(chosen)} suites, {there} flakes, {victims} victims")
    print("| peer | found | of | wrong |\n| --- | --- | --- | --- |")
    for peer in (*_FINDERS, "detect-test-pollution"):
        mine = [one for one in results if one.peer == peer]
        of = victims if peer == "detect-test-pollution" else there
        right, wrong = sum(one.right for one in mine), sum(one.wrong for one in mine)
        print(f"| {peer} | {right} | {of} | {wrong} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
