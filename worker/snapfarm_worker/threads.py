"""Runs one function on several threads at once, each with a connection of its own."""

from __future__ import annotations

import inspect
import sqlite3
import sys
import threading
import traceback
from collections.abc import Callable
from typing import TypeVar

from snapfarm_worker.originals import monotonic

_T = TypeVar("_T")

DEFAULT_THREADS = 4
DEFAULT_TIMEOUT = 60.0


def run_threads(
    function: Callable[..., _T],
    connect: Callable[[], sqlite3.Connection],
    threads: int = DEFAULT_THREADS,
    timeout: float = DEFAULT_TIMEOUT,
) -> list[_T]:
    """Call `function(conn)`, or `function(conn, index)`, on all threads at once.

    Returns the results in the order of the index. Every connection is opened and closed by its own
    thread. Raises an ExceptionGroup of all that was raised, or TimeoutError with the stacks of the
    threads that did not end.
    """
    if threads < 1:
        raise ValueError(f"threads is {threads}: expected 1 or more")
    with_index = _takes_index(function)
    barrier = threading.Barrier(threads)
    results: dict[int, _T] = {}
    errors: dict[int, BaseException] = {}

    def run(index: int) -> None:
        started = False
        try:
            conn = connect()
            try:
                try:
                    barrier.wait(timeout)
                except threading.BrokenBarrierError:
                    return  # the thread that broke it tells why
                started = True
                results[index] = function(conn, index) if with_index else function(conn)
            finally:
                _close(conn)
        except BaseException as error:
            errors[index] = error
            if not started:
                barrier.abort()

    running = [
        threading.Thread(target=run, args=(index,), name=f"farm-thread-{index}", daemon=True)
        for index in range(threads)
    ]
    for thread in running:
        thread.start()
    deadline = monotonic() + timeout
    for thread in running:
        thread.join(max(0.0, deadline - monotonic()))
    stuck = [thread for thread in running if thread.is_alive()]
    if stuck:
        raise TimeoutError(_told(stuck, timeout))
    if errors:
        raised = [errors[index] for index in sorted(errors)]
        raise BaseExceptionGroup(f"{len(raised)} of {threads} threads failed", raised)
    return [results[index] for index in range(threads)]


def _takes_index(function: Callable[..., object]) -> bool:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return True
    if not positional:
        raise TypeError(
            f"{function!r} takes no positional argument: farm_threads calls it with a connection, "
            "or with a connection and the thread's index"
        )
    return len(positional) > 1 and (
        positional[1].default is inspect.Parameter.empty or positional[1].name == "index"
    )


def _close(conn: sqlite3.Connection) -> None:
    try:
        if conn.in_transaction:
            conn.rollback()
    except sqlite3.ProgrammingError:
        return  # the function closed it
    conn.close()


def _told(stuck: list[threading.Thread], timeout: float) -> str:
    frames = sys._current_frames()  # noqa: SLF001  # the only way to see another thread's stack
    stacks = "".join(
        f"\n{thread.name}:\n" + "".join(traceback.format_stack(frames.get(thread.ident or 0)))
        for thread in stuck
    )
    return f"{len(stuck)} threads did not end within {timeout:g} s: {stacks}"
