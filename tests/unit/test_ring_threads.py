"""Functions on several threads at once."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator

import pytest

from snapfarm_worker.ring import Ring
from snapfarm_worker.threads import run_threads
from support.golden import golden


@pytest.fixture
def ring() -> Iterator[Ring]:
    with Ring.restore(golden()) as ring:
        yield ring


def test_results_come_in_the_order_of_the_index(ring: Ring) -> None:
    assert run_threads(lambda conn, index: index, ring.connect, 5) == [0, 1, 2, 3, 4]


def test_the_signature_decides_on_the_index(ring: Ring) -> None:
    def with_default(conn: sqlite3.Connection, limit: int = 9) -> int:
        return limit

    def named(conn: sqlite3.Connection, index: int = 9) -> int:
        return index

    def anything(*args: object) -> int:
        return len(args)

    assert run_threads(with_default, ring.connect, 2) == [9, 9]
    assert run_threads(named, ring.connect, 2) == [0, 1]
    assert run_threads(anything, ring.connect, 2) == [2, 2]
    with pytest.raises(TypeError, match="takes no positional argument"):
        run_threads(lambda: 1, ring.connect, 2)
    with pytest.raises(ValueError, match="threads is 0"):
        run_threads(anything, ring.connect, 0)


def test_all_threads_run_at_once_each_on_its_own_connection(ring: Ring) -> None:
    meeting = threading.Barrier(4)

    def meet(conn: sqlite3.Connection) -> int:
        conn.execute("SELECT count(*) FROM orders").fetchone()
        meeting.wait(30)
        return id(conn)

    assert len(set(run_threads(meet, ring.connect, 4))) == 4
    assert all(member.closed for member in ring.members())


def test_what_is_uncommitted_is_rolled_back(ring: Ring) -> None:
    run_threads(lambda conn: conn.execute("DELETE FROM log") and None, ring.connect, 1)
    assert ring.is_free()
    assert not ring.is_dirty()


def test_all_exceptions_are_raised_together(ring: Ring) -> None:
    def fail(conn: sqlite3.Connection, index: int) -> None:
        if index != 1:
            raise LookupError(f"number {index}")

    with pytest.raises(ExceptionGroup, match="2 of 3 threads failed") as caught:
        run_threads(fail, ring.connect, 3)
    assert [str(each) for each in caught.value.exceptions] == ["number 0", "number 2"]


def test_a_thread_may_fail_as_pytest_does(ring: Ring) -> None:
    with pytest.raises(BaseExceptionGroup, match="1 of 1") as caught:
        run_threads(lambda conn: pytest.fail("no"), ring.connect, 1)
    assert isinstance(caught.value.exceptions[0], pytest.fail.Exception)


def test_a_connection_that_can_not_be_made_ends_all(ring: Ring) -> None:
    turns = iter([True, False, True])

    def connect() -> sqlite3.Connection:
        if not next(turns):
            raise LookupError("no connection")
        return ring.connect()

    with pytest.raises(ExceptionGroup, match="1 of 3 threads failed"):
        run_threads(lambda conn: None, connect, 3)


def test_a_thread_that_does_not_end_is_named_with_its_stack(ring: Ring) -> None:
    release = threading.Event()

    def waits_for_ever(conn: sqlite3.Connection, index: int) -> None:
        if index == 1:
            release.wait(30)

    try:
        with pytest.raises(TimeoutError, match="1 threads did not end") as caught:
            run_threads(waits_for_ever, ring.connect, 2, timeout=0.2)
    finally:
        release.set()
    assert "farm-thread-1" in str(caught.value)
    assert "waits_for_ever" in str(caught.value)
