"""While SQLite asks an authorizer, nothing is collected as garbage; and never longer."""

from __future__ import annotations

import gc
import os
import threading

import pytest

from snapfarm_worker import questions


@pytest.fixture
def uncollected() -> questions._Uncollected:
    """A context of its own, where the collector is on."""
    assert gc.isenabled()
    return questions._Uncollected()


def test_the_collector_is_as_it_was(uncollected: questions._Uncollected) -> None:
    with uncollected:
        with uncollected:
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with uncollected:
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_finalizer_may_ask_where_the_collector_is_about_to_be_disabled(
    uncollected: questions._Uncollected, monkeypatch: pytest.MonkeyPatch
) -> None:
    # From Python 3.12 on, garbage is collected between any two calls.
    is_enabled = gc.isenabled
    asked: list[bool] = []

    def collects() -> bool:
        if not asked:
            asked.append(True)
            with uncollected:
                assert not is_enabled()
        return is_enabled()

    def asks() -> None:
        with uncollected:
            asked.append(is_enabled())

    monkeypatch.setattr(gc, "isenabled", collects)
    thread = threading.Thread(target=asks, daemon=True)
    thread.start()
    thread.join(10)
    assert asked == [True, False]
    assert is_enabled()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_collects_garbage_where_another_thread_asked() -> None:
    # 1. A thread asks. 2. Another one forks. 3. In the child nobody is there to end the context.
    inside, forked = threading.Event(), threading.Event()

    def asks() -> None:
        with questions._uncollected:
            inside.set()
            forked.wait(10)

    thread = threading.Thread(target=asks)
    thread.start()
    assert inside.wait(10)
    pid = os.fork()
    if not pid:
        enabled = gc.isenabled()
        with questions._uncollected:
            disabled = not gc.isenabled()
        os._exit(0 if enabled and disabled and gc.isenabled() else 1)
    forked.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert gc.isenabled()
