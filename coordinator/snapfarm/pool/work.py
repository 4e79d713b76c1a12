"""What a pool has to do: calls in chunks, chunks in batches, and how each call ended.

A *chunk* is what the user waits for: one call of `submit`, or some of `map`. A *batch* is what a
worker is handed and what the dispatcher knows as an item: at first all calls of a chunk; where a
worker died in it, one batch has the call that is tried again, and another what is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Final, overload

import msgspec

from snapfarm.errors import TaskUnshippable
from snapfarm_worker.errors import ParcelError
from snapfarm_worker.parcels import Codec, Parcel

#: Stands for an outcome that is not known yet.
_OPEN: Final = object()


class Rows(Sequence[tuple[object]]):
    """Calls with one argument each, of which only the arguments are kept."""

    def __init__(self, values: list[object]) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, index: int) -> tuple[object]: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> tuple[object] | Rows:
        if isinstance(index, slice):
            return Rows(self.values[index])
        return (self.values[index],)


class Raised(msgspec.Struct, frozen=True):
    """The outcome of a call that raised."""

    error: BaseException


class Shipped(msgspec.Struct, frozen=True):
    """A function on its way: its id within the pool, its name for people, its frames."""

    id: str
    name: str
    frames: Parcel


class Chunk:
    """Calls of one function that have one future; that gets a list of outcomes.

    With `single` it is the future of one call, and gets its value or exception.
    """

    __slots__ = ("begun", "calls", "first", "function", "future", "left", "options", "outcomes",
                 "parcel", "raised", "seconds", "single", "submitted")  # fmt: skip

    def __init__(
        self,
        function: Shipped,
        calls: Sequence[tuple[object, ...]],
        options: Mapping[str, object],
        parcel: Parcel,
        *,
        first: int,
        single: bool,
        now: float,
    ) -> None:
        self.function = function
        self.calls = calls
        self.options = options
        #: The arguments of all calls.
        self.parcel = parcel
        #: Number of the first call.
        self.first = first
        self.single = single
        #: When it was submitted, seconds of the monotonic clock.
        self.submitted = now
        self.future: Future[object] = Future()
        #: Wall time of its calls on workers, as far as they have ended.
        self.seconds = 0.0
        #: Whether any of its calls raised.
        self.raised = False
        #: Whether any of it was sent to a worker, so that it can't be cancelled.
        self.begun = False
        #: A value or `Raised` for each call.
        self.outcomes: list[object] = [_OPEN] * len(calls)
        #: How many outcomes are missing.
        self.left = len(calls)

    def name(self, index: int) -> str:
        """Return the name of a call, for people."""
        return f"{self.function.name}[{self.first + index}]"

    def close(self, index: int, outcome: object) -> None:
        """Give a call its one outcome; the last one resolves the future."""
        if self.outcomes[index] is not _OPEN:
            raise RuntimeError(f"{self.name(index)} has an outcome already")
        self.outcomes[index] = outcome
        self.raised = self.raised or isinstance(outcome, Raised)
        self.left -= 1
        if not self.left:
            self._resolve()

    def close_all(self, outcomes: list[object], *, raised: bool) -> None:
        """Give all calls their outcomes at once; `raised` if one of them is that it raised."""
        self.outcomes, self.left, self.raised = outcomes, 0, raised
        self._resolve()

    def fail(self, error: BaseException) -> bool:
        """Give the calls without outcome this one; return False if they were cancelled before."""
        if not self.begun and not self.future.set_running_or_notify_cancel():
            return False
        self.begun = self.raised = True
        for index, outcome in enumerate(self.outcomes):
            if outcome is _OPEN:
                self.outcomes[index] = Raised(error)
        self.left = 0
        self._resolve()
        return True

    def _resolve(self) -> None:
        if not self.single:
            self.future.set_result(self.outcomes)
        elif isinstance(outcome := self.outcomes[0], Raised):
            self.future.set_exception(outcome.error)
        else:
            self.future.set_result(outcome)


class Batch:
    """Calls of a chunk that a worker gets together; None as `indexes` means all of them."""

    __slots__ = ("attempts", "chunk", "indexes", "key")

    def __init__(
        self, key: str, chunk: Chunk, indexes: Sequence[int] | None = None, attempts: int = 0
    ) -> None:
        self.key = key
        self.chunk = chunk
        self.indexes = indexes
        #: How often its calls were begun before.
        self.attempts = attempts

    def __len__(self) -> int:
        return len(self.chunk.calls) if self.indexes is None else len(self.indexes)

    def index(self, position: int) -> int:
        """Return which call of the chunk is at a position of the batch."""
        return position if self.indexes is None else self.indexes[position]

    def parcel(self, codec: Codec) -> Parcel:
        """Return the frames of the arguments."""
        if self.indexes is None:
            return self.chunk.parcel
        calls: Sequence[tuple[object, ...]] = [self.chunk.calls[index] for index in self.indexes]
        if isinstance(self.chunk.calls, Rows):
            calls = Rows([self.chunk.calls.values[index] for index in self.indexes])
        return pack_calls(codec, calls, self.chunk.options)


def pack_calls(
    codec: Codec, calls: Sequence[tuple[object, ...]], options: Mapping[str, object]
) -> Parcel:
    """Return the frames of arguments. Raises TaskUnshippable, which names the one at fault."""
    try:
        if isinstance(calls, Rows):
            return codec.pack((calls.values, options, True))
        return codec.pack((calls, options, False))
    except ParcelError as error:
        for name, value in _arguments(calls, options):
            try:
                codec.pack(value)
            except ParcelError as culprit:
                raise TaskUnshippable(f"{name} can't be shipped: {culprit}") from error
        raise TaskUnshippable(f"the arguments can't be shipped: {error}") from error


def pack_function(codec: Codec, function: object, number: int) -> Shipped:
    """Return a function on its way. Raises TaskUnshippable, which names the part at fault."""
    name = str(getattr(function, "__qualname__", None) or type(function).__qualname__)
    try:
        return Shipped(f"f{number}", name, codec.pack(function))
    except ParcelError as error:
        raise TaskUnshippable(f"the function {name!r} can't be shipped: {error}") from error


def _arguments(
    calls: Sequence[tuple[object, ...]], options: Mapping[str, object]
) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for number, args in enumerate(calls):
        of_call = f" of call {number}" if len(calls) > 1 else ""
        found += [(f"argument {place}{of_call}", arg) for place, arg in enumerate(args, 1)]
    return found + [(f"argument {name!r}", value) for name, value in options.items()]
