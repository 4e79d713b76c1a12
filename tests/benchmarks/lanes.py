"""Variants that run in processes of their own and take turns.

What a process did before decides how fast it gets memory: an allocator that was told to keep what
is freed, or that has already grown, saves the page faults that cost two thirds of a restore. So
each variant has a process to itself, and only the one whose turn it is does anything. It may do
its work several times in a row then, as a worker does: right after a process was woken, short times
would tell of its cold caches instead.
"""

from __future__ import annotations

import gc
import multiprocessing
import statistics
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

#: Does the work of one round; returns the seconds of each thing that it timed.
Step = Callable[[], tuple[float, ...]]
#: Prepares a variant in its process from the file of an image.
Prepare = Callable[[Path], AbstractContextManager[Step]]

_PRELOAD = ["snapfarm_worker.databases", "benchmarks.images"]


class Lane:
    """A process that does its step, `in_a_row` times, whenever it is told to."""

    def __init__(self, prepare: Prepare, image: Path, in_a_row: int = 1) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOAD)
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, prepare, image, in_a_row))
        self._process.start()
        theirs.close()

    def step(self) -> tuple[float, ...]:
        """Take a turn; return the medians of its steps.

        Raises RuntimeError, with the traceback if there is one.
        """
        self._ours.send(True)
        try:
            answer = self._ours.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(f"a variant ended with {self._process.exitcode}") from None
        if isinstance(answer, str):
            raise RuntimeError(f"a variant failed:\n{answer}")
        assert isinstance(answer, tuple)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ours.close()
        self._process.join()


def _serve(conn: Connection, prepare: Prepare, image: Path, in_a_row: int) -> None:
    try:
        with prepare(image) as step:
            while True:
                conn.recv()
                gc.collect()
                samples = [step() for _ in range(in_a_row)]
                conn.send(tuple(statistics.median(each) for each in zip(*samples, strict=True)))
    except EOFError:
        return
    except Exception:
        conn.send(traceback.format_exc())


def take_turns(
    variants: Mapping[str, Prepare],
    image: Path,
    rounds: int,
    record: Callable[[str, tuple[float, ...]], None],
    *,
    fresh: Mapping[str, Prepare] | None = None,
    in_a_row: int = 1,
) -> None:
    """Run every variant once a round, in turn; one round before is not recorded.

    A variant of `fresh` gets a new process in each round, and does its step once.
    """
    with ExitStack() as stack:
        lanes = {
            name: stack.enter_context(Lane(prepare, image, in_a_row))
            for name, prepare in variants.items()
        }
        for round_number in range(rounds + 1):
            for name, prepare in (fresh or {}).items():
                with Lane(prepare, image) as lane:
                    samples = lane.step()
                if round_number:
                    record(name, samples)
            for name, lane in lanes.items():
                samples = lane.step()
                if round_number:
                    record(name, samples)
