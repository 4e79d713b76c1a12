"""Programs that use a runner, a process for each, and take orders one at a time.

A runner's processes are those of a program with nothing else in it: `__main__` is empty, so that no
worker imports more than its tasks.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Concatenate, Generic, ParamSpec, TypeVar

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_P = ParamSpec("_P")
_S = TypeVar("_S")
_T = TypeVar("_T")

_PROGRAM = "import sys; from benchmarks.hosts import serve; serve(int(sys.argv[1]))"
#: How long a program may take to leave, in seconds.
_LEAVING = 30.0


class Host(Generic[_S]):
    """A program that holds what `prepare` makes; raises RuntimeError where it fails."""

    def __init__(self, prepare: Callable[[], AbstractContextManager[_S]]) -> None:
        self._ours, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._ours.send(prepare)

    def ready(self) -> Self:
        """Wait until it is prepared."""
        self._answer()
        return self

    def ask(
        self, order: Callable[Concatenate[_S, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Call a function there with what it holds, and return its result."""
        self._ours.send((order, args, kwargs))
        answer: _T = self._answer()  # type: ignore[assignment]  # pickle knows no types
        return answer

    def _answer(self) -> object:
        try:
            failed, answer = self._ours.recv()
        except EOFError:
            raise RuntimeError(f"a runner's program ended with {self._process.wait()}") from None
        if failed:
            raise RuntimeError(f"a runner failed:\n{answer}")
        found: object = answer
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ours.close()
        try:
            self._process.wait(_LEAVING)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise


def serve(descriptor: int) -> None:
    """Take orders until nobody is there to give any."""
    with Connection(descriptor) as conn:
        try:
            with conn.recv()() as held:
                conn.send((False, None))
                while True:
                    order, args, kwargs = conn.recv()
                    gc.collect()
                    conn.send((False, order(held, *args, **kwargs)))
        except EOFError:
            return
        except Exception:
            conn.send((True, traceback.format_exc()))


def taking_turns(
    hosts: Mapping[str, Host[_S]],
    warm_up: int,
    rounds: int,
    ask: Callable[[str, Host[_S]], _T],
    record: Callable[[str, _T], None],
) -> None:
    """Ask every host once a round, in turn; the rounds to warm up are not recorded."""
    for number in range(warm_up + rounds):
        for name, host in hosts.items():
            answer = ask(name, host)
            if number >= warm_up:
                record(name, answer)
