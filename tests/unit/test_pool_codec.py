"""What is packed once, what is packed anew, and what travels beside the pickle."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from json import dumps
from typing import cast

import pytest

from snapfarm.pool.codec import FunctionPacker, TaskCodec
from snapfarm_worker.errors import ParcelError
from snapfarm_worker.parcels import PickleCodec, at_home, keeping
from support.pool_tasks import Block, echo


def of_a_script(**scope: object) -> tuple[Callable[..., object], dict[str, object]]:
    """Return a function of a script that uses a global `LIMIT`, and the script's globals."""
    scope |= {"__name__": "__main__"}
    exec("def uses_limit(conn): return LIMIT", scope)
    return cast("Callable[..., object]", scope["uses_limit"]), scope


def uses_modules(conn: object) -> object:
    return json.loads(dumps([math.pi, len("x")]))


@pytest.fixture
def packer() -> FunctionPacker:
    return FunctionPacker(TaskCodec())


def test_an_unchanged_function_is_packed_once(packer: FunctionPacker) -> None:
    uses_limit, _ = of_a_script(LIMIT=5)
    inner, pair = 3, (1, ("a", None))

    def closure(conn: object, default: int = 4, *, key: str = "k") -> object:
        return inner, pair, uses_limit(conn), uses_modules(conn)

    def recursive(conn: object, n: int) -> int:
        return recursive(conn, n - 1) if n else 0

    for function in (echo, uses_limit, uses_modules, closure, recursive, len):
        assert packer.pack(function) is packer.pack(function), function


def test_what_may_have_changed_is_packed_anew(packer: FunctionPacker) -> None:
    log: list[int] = []
    note = log.append

    def writes(conn: object) -> None:
        note(1)

    class Counter:
        def __call__(self, conn: object) -> int:
            return 1

    counter = Counter()
    changing: list[Callable[..., object]] = [of_a_script(LIMIT={})[0], writes, counter]
    for function in changing:
        assert packer.pack(function) is not packer.pack(function), function


def test_a_function_that_has_changed_is_another_one(packer: FunctionPacker) -> None:
    value: object = 1

    def closure(conn: object, plus: int = 0) -> object:
        return value

    seen = [packer.pack(closure)]
    value = True  # equal, but not the same
    seen.append(packer.pack(closure))
    value = 1.0
    seen.append(packer.pack(closure))
    closure.__defaults__ = (1,)
    seen.append(packer.pack(closure))
    vars(closure)["attribute"] = 1
    seen.append(packer.pack(closure))
    assert len({shipped.id for shipped in seen}) == len(seen)

    uses_limit, scope = of_a_script(LIMIT=5)
    first = packer.pack(uses_limit)
    scope["LIMIT"] = 6
    second = packer.pack(uses_limit)
    del scope["LIMIT"]
    assert len({first.id, second.id, packer.pack(uses_limit).id}) == 3


def test_code_that_is_replaced_in_place_is_noticed(packer: FunctionPacker) -> None:
    """As an autoreloader of a notebook does it."""

    def before(conn: object) -> int:
        return 1

    def after(conn: object) -> int:
        return 2

    first = packer.pack(before)
    before.__code__ = after.__code__
    assert packer.pack(before) is not first


def test_large_buffers_travel_beside_the_pickle() -> None:
    data = bytearray(200_000)
    for codec in (TaskCodec(), PickleCodec()):
        parcel = codec.pack([Block(data), Block(bytearray(b"small"))])
        assert [memoryview(frame).nbytes >= 200_000 for frame in parcel] == [False, True]
        # Not copied: a change of the array shows.
        data[0] = 7
        assert memoryview(parcel[1])[0] == 7
        unpacked = codec.unpack(parcel)
        assert isinstance(unpacked, list)
        assert bytes(unpacked[1].data) == b"small"


def test_buffers_that_are_not_contiguous_stay_inside() -> None:
    buffers: list[memoryview] = []
    strided = pickle.PickleBuffer(memoryview(bytearray(400_000))[::2])
    assert keeping(buffers)(strided)
    assert buffers == []


def test_the_part_at_fault_is_found_deep_inside() -> None:
    class Config:
        def __init__(self) -> None:
            self.sources = [1, {"numbers": (n for n in range(3))}]

    with pytest.raises(ParcelError, match=r"^sources\[1\]\['numbers'\] is a generator"):
        TaskCodec().pack(Config())


def test_a_name_that_is_not_there_at_home_says_so() -> None:
    assert at_home("json", "loads") is json.loads
    with pytest.raises(AttributeError, match="no 'nothing' in its module 'json'"):
        at_home("json", "nothing")


def test_what_packing_raises_is_told_whatever_it_is() -> None:
    class Rude:
        def __reduce__(self) -> str:
            raise SystemExit("reduced")

    with pytest.raises(ParcelError, match="SystemExit: reduced"):
        PickleCodec().pack(Rude())
