"""The shape of a Django project is the same in each process, and names what differs."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from snapfarm.golden.django_project import golden_name
from snapfarm_worker.django_shape import as_plain, differences


class Router:
    """An object in DATABASE_ROUTERS."""


def some_function() -> None:
    """A function in OPTIONS."""


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (None, None),
        ({"timeout": 20, "init_command": "PRAGMA x"}, {"timeout": 20, "init_command": "PRAGMA x"}),
        ((1, 2.5, True), [1, 2.5, True]),
        ({"b", "a"}, ["a", "b"]),
        (Path("/fixtures"), "/fixtures"),
        (b"\x00\xff", "00ff"),
        ([Router()], [f"{__name__}.Router"]),
        (Router, f"{__name__}.Router"),
        (some_function, f"{__name__}.some_function"),
        (pickle.dumps, "_pickle.dumps"),
    ],
)
def test_a_value_of_settings_is_the_same_in_each_process(value: object, plain: object) -> None:
    assert as_plain(value) == plain


def test_what_differs_is_named() -> None:
    shape = {"USE_TZ": "1", "SITE_ID": "1", "LANGUAGE_CODE": "1"}
    assert differences(shape, dict(shape)) == ""
    assert differences(shape, {"USE_TZ": "2", "SITE_ID": "1", "OTHER": "1"}) == (
        "LANGUAGE_CODE, OTHER, USE_TZ"
    )


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("default", "default"),
        ("read-replica", "read-replica"),
        ("my db", "my_db"),
        ("2024", "django-2024"),
        ("Größe", "Gr__e"),
        ("über", "django-_ber"),
    ],
)
def test_an_alias_may_be_any_text(alias: str, name: str) -> None:
    assert golden_name(alias) == name
