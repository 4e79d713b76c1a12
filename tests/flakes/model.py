"""One suite of the corpus: its files, and what is known of its tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from snapfarm.flakes.verdict import Cause

#: Tests that have nothing to do with anything; they stand between the others.
FILLERS = "".join(f"def test_filler_{number}():\n    assert {number} + 1\n" for number in range(3))

#: In front of each suite. `luck` is the scheduler's: no seed has any influence on it.
HEAD = """
import os, sys, time, random, threading, socket, sqlite3, pytest
STATE = {}
def luck(one_in):
    time.perf_counter_ns()
    return hash(time.perf_counter_ns() // 100 * 2654435761) // 7919 % one_in == 0
"""


class Flake(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a test that fails at times."""

    cause: Cause
    #: How often it fails by itself; 1.0 where order, zone or seed decide.
    rate: float = 1.0
    #: Groups of tests any of which may be blamed; empty where nobody is.
    culprits: tuple[frozenset[str], ...] = ()
    role: str = ""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A suite. All tests that are not among its flakes are clean."""

    name: str
    files: Mapping[str, str]
    flakes: Mapping[str, Flake] = {}

    def write(self, folder: Path) -> None:
        """Write the suite into a folder of its own."""
        for name, text in {"pytest.ini": "[pytest]\n", **self.files}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")


def tests_of(*functions: tuple[str, str]) -> str:
    """Return the source of tests, `(name, body)`; a body may begin with a signature in brackets."""
    source = HEAD
    for name, body in functions:
        signature = "()"
        if body.startswith("("):
            signature, _, body = body.partition(") ")
            signature += ")"
        lines = "".join(f"    {line}\n" for line in body.split("; "))
        source += f"def test_{name}{signature}:\n{lines}"
    return source


def node(name: str, file: str = "test_it.py") -> str:
    """Return the node id of a test."""
    return f"{file}::test_{name}"


def polluted(
    name: str,
    pollute: str,
    check: str,
    *,
    before: str = "",
    cause: Cause = Cause.ORDER_DEPENDENT,
    role: str = "victim",
    files: Mapping[str, str] = {},
) -> Case:
    """Return a suite in which one test breaks another one that runs later."""
    source = tests_of(("first", "pass"), ("pollutes", pollute)) + before
    source += FILLERS + tests_of(("suffers", check)).removeprefix(HEAD)
    source += tests_of(("last", "pass")).removeprefix(HEAD)
    return Case(
        name=name,
        files={"test_it.py": source, **files},
        flakes={
            node("suffers"): Flake(
                cause=cause, culprits=(frozenset({node("pollutes")}),), role=role
            )
        },
    )


def brittle(name: str, prepare: str, check: str, *, before: str = "") -> Case:
    """Return a suite in which a test passes only after another one."""
    return polluted(name, prepare, check, before=before, role="brittle")


def chancy(
    name: str, cause: Cause, rate: float, body: str, *, files: Mapping[str, str] = {}
) -> Case:
    """Return a suite with a test that fails by itself at times."""
    source = tests_of(("first", "pass")) + FILLERS
    source += tests_of(("flips", body), ("last", "pass")).removeprefix(HEAD)
    return Case(
        name=name,
        files={"test_it.py": source, **files},
        flakes={node("flips"): Flake(cause=cause, rate=rate)},
    )


def clean(name: str, *functions: tuple[str, str], files: Mapping[str, str] = {}) -> Case:
    """Return a suite that only looks suspicious."""
    return Case(name=name, files={"test_it.py": tests_of(*functions) + FILLERS, **files})
