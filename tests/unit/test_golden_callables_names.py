"""Which callables a fresh process finds by name, and how the others are called in messages."""

from __future__ import annotations

import functools
import importlib.util
import json
import os.path
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from snapfarm.golden.callables import caller_search, is_importable, kind_of, name_of, title_of
from support.golden_project import write_files

SEEDS = """
import functools

def fill(conn):
    pass

def wrapper(function):
    @functools.wraps(function)
    def wrapped(conn):
        return function(conn)
    return wrapped

@wrapper
def decorated(conn):
    pass

def made():
    def inner(conn):
        pass
    return inner

inner = made()
renamed = fill
anonymous = lambda conn: None
part = functools.partial(fill)

class Seeds:
    def method(self, conn):
        pass

    @staticmethod
    def static(conn):
        pass

    @classmethod
    def of_class(cls, conn):
        pass

    def __call__(self, conn):
        pass

one = Seeds()
"""


@pytest.fixture
def seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """A module on sys.path."""
    write_files(tmp_path, {"some_seeds.py": SEEDS})
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("some_seeds")
    del sys.modules["some_seeds"]


def search() -> tuple[str, ...]:
    return caller_search(Path.cwd())


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("fill", "some_seeds:fill"),
        ("renamed", "some_seeds:fill"),
        ("decorated", "some_seeds:decorated"),
        ("Seeds.static", "some_seeds:Seeds.static"),
        ("Seeds", "some_seeds:Seeds"),
        ("Seeds.method", "some_seeds:Seeds.method"),
        ("Seeds.of_class", None),
        ("one.method", None),
        ("one", None),
        ("inner", None),
        ("anonymous", None),
        ("part", None),
    ],
)
def test_a_name_is_given_only_where_it_leads_to_the_same_object(
    seeds: types.ModuleType, path: str, name: str | None
) -> None:
    found: object = seeds
    for word in path.split("."):
        found = getattr(found, word)
    assert name_of(found, search()) == name


def test_a_function_that_was_replaced_under_its_name_has_none(seeds: types.ModuleType) -> None:
    first = seeds.fill
    seeds.fill = lambda conn: None  # type: ignore[attr-defined]  # what monkeypatching does
    assert name_of(first, search()) is None


def test_a_module_that_came_from_elsewhere_has_no_name(tmp_path: Path) -> None:
    # 1. a file is loaded under a name that is on no path, as pytest does with test modules
    write_files(tmp_path, {"aside.py": SEEDS})
    spec = importlib.util.spec_from_file_location("aside", tmp_path / "aside.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["aside"] = module
    try:
        spec.loader.exec_module(module)
        assert name_of(module.fill, search()) is None
        # 2. another module of that name is on the path
        write_files(tmp_path / "path", {"aside.py": SEEDS})
        assert name_of(module.fill, (str(tmp_path / "path"),)) is None
        # 3. and with its own folder on the path, it is the one
        assert name_of(module.fill, (str(tmp_path),)) == "aside:fill"
    finally:
        del sys.modules["aside"]


def test_modules_that_a_fresh_process_has(tmp_path: Path) -> None:
    assert is_importable("json.decoder", ())
    assert is_importable("sys", ())
    assert is_importable("pytest", search())
    assert is_importable("snapfarm.golden.handle", search())
    assert not is_importable("__main__", search())
    assert not is_importable("nothing_like_it", search())
    assert name_of(json.dumps, ()) == "json:dumps"
    assert name_of(print, ()) == "builtins:print"


def test_the_search_path_is_the_callers_and_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "lib", "/elsewhere", "", os.fsdecode(b"/caf\xe9")])
    here = str(tmp_path)
    assert caller_search(tmp_path) == (here, f"{here}/lib", "/elsewhere")
    assert caller_search(Path("/root")) == (here, f"{here}/lib", "/elsewhere", "/root")


def test_titles_say_where_it_is(seeds: types.ModuleType) -> None:
    titles: list[tuple[Callable[..., object], str]] = [
        (seeds.anonymous, "<lambda> (some_seeds.py, line 24)"),
        (seeds.inner, "made.<locals>.inner (some_seeds.py, line 18)"),
        (seeds.one.method, "Seeds.method (some_seeds.py, line 28)"),
        (seeds.one, "Seeds object"),
        (functools.partial(seeds.fill, 1), "partial of fill (some_seeds.py, line 4)"),
        (print, "print"),
    ]
    assert [title_of(function) for function, _ in titles] == [title for _, title in titles]


def test_kinds_are_written_as_in_code() -> None:
    assert [kind_of(one) for one in (1, Path.cwd(), json)] == [
        "int",
        f"{type(Path.cwd()).__module__}.PosixPath",
        "module json",
    ]
