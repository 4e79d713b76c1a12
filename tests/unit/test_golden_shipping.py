"""Callables as data: what travels with them, and what is in the way."""

from __future__ import annotations

import contextlib
import enum
import functools
import importlib
import json
import signal
import sqlite3
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import dill
import dill.detect
import pytest

from snapfarm.shipping import Unshippable, ship
from support.golden_project import write_files

ASIDE = """
import json
import threading
import xml.dom.minidom

HUGE = "x" * 100_000
OTHER = threading.local()
conn = None


class Row:
    def __init__(self, value):
        self.value = value


def helper(value):
    return Row(value).value


def fill(given):
    return json.dumps([helper(given), __name__])


def counts_down(given):
    return counts_down(given - 1) if given else "done"


def attribute(given):
    return given.conn


def is_even(given):
    return is_odd(given - 1) if given else True


def is_odd(given):
    return is_even(given - 1) if given else False


def nested(given):
    class Inner:
        value = LIMIT
        def get(self):
            return [n + OFFSET for n in range(given)], self.value
    return Inner().get()


LIMIT, OFFSET = 7, 1


def of_a_package(given):
    return xml.dom.minidom.parseString("<a/>").documentElement.tagName
"""


@pytest.fixture
def aside(tmp_path: Path) -> Iterator[types.ModuleType]:
    """A module that no other process can import."""
    write_files(tmp_path, {"only_here.py": ASIDE})
    sys.path.insert(0, str(tmp_path))
    module = importlib.import_module("only_here")
    sys.path.remove(str(tmp_path))
    yield module
    del sys.modules["only_here"]


def shipped(function: Callable[..., object]) -> bytes:
    return ship(function, tuple(sys.path))


def elsewhere(data: bytes, argument: str) -> str:
    """Call shipped data in a fresh process."""
    load = "import dill, sys; f = dill.loads(sys.stdin.buffer.read(), ignore=True)"
    code = f"{load}; print(f({argument}))"
    done = subprocess.run(
        [sys.executable, "-c", code], input=data, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def refusal(function: Callable[..., object]) -> str:
    with pytest.raises(Unshippable) as caught:
        shipped(function)
    return str(caught.value)


def test_a_function_travels_with_what_it_refers_to_and_no_more(aside: types.ModuleType) -> None:
    data = shipped(aside.fill)
    assert len(data) < 5000
    assert elsewhere(data, "3") == '[3, "only_here"]'
    assert elsewhere(shipped(aside.counts_down), "3") == "done"
    assert elsewhere(shipped(aside.is_even), "3") == "False"
    assert elsewhere(shipped(aside.nested), "2") == "([1, 2], 7)"
    assert elsewhere(shipped(aside.of_a_package), "0") == "a"


def test_the_name_of_an_attribute_is_no_global(aside: types.ModuleType) -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as conn:
        aside.conn = conn  # type: ignore[attr-defined]  # a global that `attribute` only seems to use
        shipped(aside.attribute)


def test_objects_travel_with_their_class(aside: types.ModuleType) -> None:
    class Adder:
        def __init__(self, left: int) -> None:
            self.left = left

        def add(self, right: int) -> int:
            return self.left + right

    helper = aside.helper
    assert elsewhere(shipped(Adder(2).add), "3") == "5"
    assert elsewhere(shipped(functools.partial(Adder(2).add, 5)), "") == "7"
    assert elsewhere(shipped(lambda given: helper(given)), "4") == "4"


def test_modules_travel_by_name(aside: types.ModuleType) -> None:
    assert elsewhere(shipped(lambda given: json.dumps(given)), "[1]") == "[1]"
    assert refusal(lambda _: aside.fill) == (
        "it refers to 'aside', a module only_here: the module 'only_here' can't be imported by "
        "another process"
    )


def test_dill_is_left_as_it_was(aside: types.ModuleType) -> None:
    before = dill._dill._locate_function, dill.detect.globalvars
    shipped(aside.fill)
    refusal(lambda _: aside)
    assert (dill._dill._locate_function, dill.detect.globalvars) == before


def test_what_is_open_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with (tmp_path / "file").open("r+") as file:
        assert refusal(lambda _: file.read()) == (
            "it refers to 'file', a _io.TextIOWrapper: an open file stays with its process"
        )
    with contextlib.closing(sqlite3.connect(":memory:")) as conn:
        expected = "a sqlite3.Connection: TypeError: cannot pickle 'sqlite3.Connection' object"
        assert refusal(lambda _: conn.total_changes) == f"it refers to 'conn', {expected}"
        assert refusal(functools.partial(print, conn)) == f"it refers to 'argument 0', {expected}"
        assert refusal(functools.partial(print, end=conn)) == f"it refers to 'end', {expected}"

        class Holder:
            def __init__(self) -> None:
                self.held = conn

            def fill(self, _: object) -> None: ...

        assert refusal(Holder().fill) == f"it refers to 'self.held', {expected}"
    assert (tmp_path / "file").read_text() == "precious"


def test_classes_that_refer_to_themselves_are_refused(aside: types.ModuleType) -> None:
    class Color(enum.Enum):
        RED = 1

    class Single:
        only: Single | None = None

    Single.only = Single()
    for refused in (Color, Single):
        name = f"test_classes_that_refer_to_themselves_are_refused.<locals>.{refused.__name__}"
        assert refusal(lambda _, refused=refused: refused).endswith(
            f"the class {name!r} refers to itself, and only modules can have such classes"
        )
    assert elsewhere(shipped(lambda given: signal.Signals(given).name), "9") == "SIGKILL"


def test_a_class_that_refuses_has_the_last_word() -> None:
    class Refuses:
        def __reduce__(self) -> str:
            raise LookupError("not me")

    refuses = Refuses()
    assert refusal(lambda _: refuses).endswith("Refuses: LookupError: not me")
