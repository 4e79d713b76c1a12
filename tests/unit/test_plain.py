"""Plain data survives the wire as it was, and nothing else gets onto it."""

from __future__ import annotations

import enum

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapfarm_worker import plain
from snapfarm_worker.errors import PlainDataError

_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.binary()
    | st.text(st.characters(codec=None))
)
_hashable = st.recursive(
    _leaves, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=5
)
_values = st.recursive(
    _leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(_hashable, inner, max_size=4)
        | st.sets(_hashable, max_size=3)
        | st.frozensets(_hashable, max_size=3)
    ),
    max_leaves=20,
)


@given(_values)
def test_every_plain_value_comes_back_with_its_types(value: object) -> None:
    decoded = plain.decode(plain.encode(value))
    assert decoded == value
    assert repr(type(decoded)) == repr(type(value))


def test_nested_tuples_stay_tuples() -> None:
    location = ("a.py", 3, "test_x")
    assert plain.decode(plain.encode({"location": location, "list": [location]})) == {
        "location": location,
        "list": [location],
    }


def test_lone_surrogates_travel() -> None:
    assert plain.decode(plain.encode({"out": "bad \udc80 byte"})) == {"out": "bad \udc80 byte"}


def test_subclasses_travel_as_the_plain_value() -> None:
    class Colour(enum.StrEnum):
        RED = "red"

    class Level(enum.IntEnum):
        HIGH = 3

    assert plain.decode(plain.encode([Colour.RED, Level.HIGH])) == ["red", 3]


def test_what_cannot_travel_is_refused_with_the_path_to_it() -> None:
    with pytest.raises(PlainDataError, match=r"\['a'\]\[1\] is a object"):
        plain.encode({"a": [1, object()]})


def test_describe_replaces_what_cannot_travel_by_its_repr() -> None:
    class Odd:
        def __repr__(self) -> str:
            return "odd one"

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    assert plain.decode(plain.encode([Odd(), Broken()], plain.describe)) == [
        "odd one",
        "<test_describe_replaces_what_cannot_travel_by_its_repr.<locals>.Broken "
        "whose repr() raised RuntimeError>",
    ]


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\xc7\x01\x63\x00", b"\x92\x01"])
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        plain.decode(data)
