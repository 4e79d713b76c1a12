"""Ctrl-C waits until it is asked for, and is never swallowed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from snapfarm.interrupts import Interrupts


@pytest.fixture(autouse=True)
def _python_own_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_it_waits_until_it_is_asked_for() -> None:
    woken: list[str] = []
    with Interrupts(lambda: woken.append("now")) as interrupts:
        interrupts.check()
        _press()
        assert woken == ["now"]
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
        assert not interrupts.taken()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_each_is_taken_once() -> None:
    with Interrupts(lambda: None) as interrupts:
        _press()
        _press()
        assert [interrupts.taken() for _ in range(3)] == [True, True, False]


def test_one_that_nobody_asks_for_comes_through() -> None:
    interrupts = Interrupts(lambda: None)
    with interrupts:
        _press()
        _press()
        with pytest.raises(KeyboardInterrupt):
            _press()
        assert interrupts.taken()
        assert interrupts.taken()


def test_what_came_last_is_raised_at_the_end() -> None:
    with pytest.raises(KeyboardInterrupt), Interrupts(lambda: None):
        _press()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_error_is_not_replaced() -> None:
    def fail() -> None:
        with Interrupts(lambda: None):
            _press()
            raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        fail()


@pytest.mark.parametrize("theirs", [signal.SIG_IGN, lambda _number, _frame: None])
def test_a_handler_of_somebody_else_stays(theirs: signal.Handlers) -> None:
    signal.signal(signal.SIGINT, theirs)
    with Interrupts(lambda: None) as interrupts:
        assert signal.getsignal(signal.SIGINT) is theirs
        _press()
        assert not interrupts.taken()


def test_other_threads_hold_nothing_back() -> None:
    found: list[object] = []

    def hold() -> None:
        with Interrupts(lambda: None):
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]
