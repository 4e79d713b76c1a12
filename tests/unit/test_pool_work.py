"""Chunks and batches: each call gets exactly one outcome, and the last one resolves the future."""

from __future__ import annotations

from concurrent.futures import CancelledError

import pytest

from snapfarm.errors import TaskUnshippable
from snapfarm.pool.codec import TaskCodec
from snapfarm.pool.work import Batch, Chunk, Raised, Rows, Shipped, pack_calls
from snapfarm_worker.parcels import PlainCodec

CODEC = TaskCodec()


def chunk(count: int, *, single: bool = False) -> Chunk:
    calls = [(n,) for n in range(count)]
    function = Shipped("f1", "task", [])
    parcel = pack_calls(CODEC, calls, {"k": 1})
    return Chunk(function, calls, {"k": 1}, parcel, first=10, single=single, now=0.0)


def test_a_single_call_resolves_to_its_value_or_exception() -> None:
    one = chunk(1, single=True)
    one.close(0, "value")
    assert one.future.result(0) == "value"
    other = chunk(1, single=True)
    error = ValueError("x")
    other.close(0, Raised(error))
    assert other.future.exception(0) is error


def test_several_calls_resolve_together_once_all_have_an_outcome() -> None:
    three = chunk(3)
    three.close(2, "c")
    three.close(0, "a")
    assert not three.future.done()
    with pytest.raises(RuntimeError, match=r"task\[12\] has an outcome already"):
        three.close(2, "again")
    error = ValueError("b")
    three.close(1, Raised(error))
    assert three.future.result(0) == ["a", Raised(error), "c"]
    assert three.raised


def test_failing_leaves_outcomes_as_they_are() -> None:
    three = chunk(3)
    three.begun = three.future.set_running_or_notify_cancel()
    three.close(1, "b")
    error = ValueError("the rest")
    assert three.fail(error)
    assert three.future.result(0) == [Raised(error), "b", Raised(error)]


def test_what_was_cancelled_is_not_failed() -> None:
    one = chunk(1, single=True)
    assert one.future.cancel()
    assert not one.fail(ValueError("late"))
    with pytest.raises(CancelledError):
        one.future.result(0)


def test_a_batch_is_some_calls_of_a_chunk() -> None:
    five = chunk(5)
    whole = Batch("1", five)
    assert (len(whole), whole.index(4)) == (5, 4)
    assert whole.parcel(CODEC) is five.parcel
    some = Batch("2", five, [3, 4], attempts=1)
    assert (len(some), some.index(1)) == (2, 4)
    assert CODEC.unpack(some.parcel(CODEC)) == ([(3,), (4,)], {"k": 1}, False)


def test_the_argument_at_fault_is_named() -> None:
    bad = (n for n in range(3))
    with pytest.raises(TaskUnshippable, match="argument 2 of call 1 can't be shipped: a generator"):
        pack_calls(CODEC, [(1, 2), (3, bad)], {})
    with pytest.raises(TaskUnshippable, match="argument 'key' can't be shipped: a generator"):
        pack_calls(CODEC, [(1,)], {"key": bad})
    with pytest.raises(TaskUnshippable, match="argument 1 can't be shipped: the value is a object"):
        pack_calls(PlainCodec(), [(object(),)], {})


def test_calls_with_one_argument_travel_as_a_list_of_these() -> None:
    parcel = pack_calls(CODEC, Rows([1, 2, 3]), {})
    assert CODEC.unpack(parcel) == ([1, 2, 3], {}, True)
    function = Shipped("f1", "task", [])
    flat = Chunk(function, Rows([1, 2, 3]), {}, parcel, first=0, single=False, now=0.0)
    assert len(flat.calls) == 3
    assert flat.calls[1] == (2,)
    assert list(flat.calls[1:]) == [(2,), (3,)]
    assert CODEC.unpack(Batch("1", flat, [0, 2]).parcel(CODEC)) == ([1, 3], {}, True)
