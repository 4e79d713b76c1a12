"""`WorkerPool.map`: cuts calls into chunks, keeps a window of them in flight, yields in order.

Calls are taken from the iterables as the window moves on, so endless ones work. Where all iterables
have a length, chunks also follow by themselves, without anybody who asks for results, as users of
`concurrent.futures` expect; else the window moves only as results are taken.

Without a chunk size, chunks grow until one takes a few milliseconds: one call each where calls are
slow, hundreds where the way to the worker would take longer than the call.
"""

from __future__ import annotations

import collections
import functools
import itertools
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence, Sized
from typing import Protocol, cast

from snapfarm.errors import TaskUnshippable
from snapfarm.pool.work import Chunk, Raised, Rows, Shipped, pack_calls
from snapfarm_worker.parcels import Codec

#: Seconds that a chunk should take, at least, and most calls of one.
_TARGET = 0.004
_MOST_CALLS = 2048
#: The sizes of the chunks of so many functions are remembered.
_KEPT_SIZES = 64
#: How much longer a chunk may be than the last one whose time is known.
_GROWTH = 8
#: Chunks in flight for each thread of the pool.
_CHUNKS_PER_THREAD = 3


class Submitter(Protocol):
    """What takes chunks: the pool."""

    def submit_chunk(self, chunk: Chunk, *, continuing: bool = False) -> None:
        """Take a chunk. Raises PoolBroken, and RuntimeError once the pool was shut down.

        With `continuing` it belongs to a map that began before, and runs to its end.
        """


class Feed:
    """The calls of one map on their way into the pool.

    Iterables without a length are the user's code, which may block: only who takes results runs
    it, never the pool's thread.
    """

    def __init__(
        self,
        pool: Submitter,
        codec: Codec,
        function: Shipped,
        iterables: Sequence[Iterable[object]],
        sizes: dict[str, int],
        *,
        threads: int,
        chunksize: int | None,
        buffersize: int | None,
    ) -> None:
        self._pool = pool
        self._codec = codec
        self._function = function
        #: Whether chunks follow without anybody taking results.
        self.by_itself = buffersize is None and all(hasattr(each, "__len__") for each in iterables)
        if self.by_itself:
            # The pool's thread takes from these: it must run no code of the user's, and what the
            # user changes meanwhile is not to change the calls.
            iterables = [each if type(each) in (range, tuple) else list(each) for each in iterables]
        #: Whether calls have one argument, and so travel as a list of these.
        self._flat = len(iterables) == 1
        self._calls: Iterator[object] = (
            iter(iterables[0]) if self._flat else zip(*iterables, strict=False)
        )
        self._window = _CHUNKS_PER_THREAD * threads
        self._chunksize = chunksize
        self._buffersize = buffersize
        #: So large a chunk leaves calls for all threads.
        self._share = _MOST_CALLS
        if buffersize is not None:
            self._share = max(1, buffersize // threads)
        elif self.by_itself:
            count = min((len(cast("Sized", each)) for each in iterables), default=0)
            self._share = max(1, min(_MOST_CALLS, count // (2 * threads)))
        self._lock = threading.RLock()
        #: Chunks in order, from the first one whose results were not taken.
        self.chunks: collections.deque[Chunk] = collections.deque()
        self._taken = 0
        self._in_flight = 0
        self._exhausted = False
        self._filling = False
        self._begun = False
        #: The size that chunks of a function had last, by its id.
        self._sizes = sizes
        known = min(sizes.get(function.id, 1), self._share)
        self._size = known if chunksize is None else chunksize
        #: What the iterables, or sending, have raised: it comes in its turn, after the results of
        #: the calls before it.
        self._error: BaseException | None = None

    def begin(self) -> None:
        """Send the first chunks. Raises what the iterables and `submit` raise."""
        self.fill()
        self._begun = True
        if self._error is not None:
            raise self._error

    def fill(self) -> None:
        """Send chunks until the window is full."""
        with self._lock:
            if self._filling:
                return  # a chunk was so quick that its end is told while the next one is made
            self._filling = True
            try:
                while not self._exhausted and self._has_room():
                    calls = self._next_calls()
                    if calls:
                        self._send(calls)
            except Exception as error:
                self._error, self._exhausted = error, True
            finally:
                self._filling = False

    def _has_room(self) -> bool:
        if self._buffersize is not None:
            waiting = sum(len(chunk.calls) for chunk in self.chunks)
            return waiting < self._buffersize
        if self.by_itself:
            return self._in_flight < self._window
        return len(self.chunks) < self._window

    def _next_calls(self) -> list[object]:
        size = self._size
        if self._buffersize is not None:
            waiting = sum(len(chunk.calls) for chunk in self.chunks)
            size = max(1, min(size, self._buffersize - waiting))
        calls: list[object] = []
        try:
            calls.extend(itertools.islice(self._calls, size))
        except Exception as error:
            # What came before it is in the list, and is run.
            self._error, self._exhausted = error, True
        else:
            self._exhausted = len(calls) < size
        return calls

    def _send(self, calls: list[object]) -> None:
        rows = Rows(calls) if self._flat else cast("list[tuple[object, ...]]", calls)
        try:
            parcel = pack_calls(self._codec, rows, {})
        except TaskUnshippable:
            if len(calls) == 1:
                raise
            # One by one, so that those before the one at fault are run.
            for call in calls:
                self._send([call])
            return
        chunk = Chunk(
            self._function,
            rows,
            {},
            parcel,
            first=self._taken,
            single=False,
            now=time.monotonic(),
        )
        self._pool.submit_chunk(chunk, continuing=self.by_itself and self._taken > 0)
        self._taken += len(calls)
        self._in_flight += 1
        self.chunks.append(chunk)
        # Called at once if it has its outcomes already; the lock is this thread's own.
        chunk.future.add_done_callback(functools.partial(self._done, chunk))
        if not self._begun:
            # Let the pool's thread send it, rather than when this one has made all others.
            time.sleep(0)

    def _done(self, chunk: Chunk, _future: object) -> None:
        """Take note that a chunk has its outcomes; called by the pool's thread."""
        if self._chunksize is None and chunk.seconds:
            fitting = int(_TARGET * len(chunk.calls) / chunk.seconds)
            self._size = max(1, min(fitting, len(chunk.calls) * _GROWTH, self._share))
            if len(self._sizes) >= _KEPT_SIZES:
                self._sizes.clear()
            self._sizes[self._function.id] = self._size
        if not self.by_itself:
            return
        with self._lock:
            self._in_flight -= 1
            try:
                self.fill()
            except BaseException as error:  # whatever it is, it is not the pool's thread's
                self._error, self._exhausted = error, True

    def take(self, deadline: float | None) -> Chunk | None:
        """Wait for the next chunk's outcomes; None once there is none. Raises TimeoutError."""
        if not self.by_itself:
            self.fill()
        with self._lock:
            if not self.chunks:
                if self._error is not None:
                    raise self._error
                return None
            chunk = self.chunks[0]
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        chunk.future.result(left)
        with self._lock:
            self.chunks.popleft()
        if not self.by_itself and self._buffersize is None:
            # Before the results are used, so that the workers are not idle meanwhile.
            self.fill()
        return chunk

    def cancel(self) -> None:
        """Send nothing more, and cancel what has not begun."""
        with self._lock:
            self._exhausted = True
            chunks, self.chunks = list(self.chunks), collections.deque()
        for chunk in reversed(chunks):
            chunk.future.cancel()


class Results(Generator[object, None, None]):
    """The results of a map, in order. What ends it early cancels what has not begun.

    A loop over them, and `list`, take them from a C iterator: a third of what a generator takes for
    each. `deadline` is of the monotonic clock.
    """

    def __init__(self, feed: Feed, deadline: float | None) -> None:
        self._chunks = _outcomes(feed, deadline)
        self._each: Iterator[object] = itertools.chain.from_iterable(self._chunks)

    def __iter__(self) -> Iterator[object]:  # type: ignore[override]  # wider: no generator
        return self._each

    def __next__(self) -> object:
        return next(self._each)

    def send(self, value: None, /) -> object:
        """Return the next result; what is sent is of no use, as to any generator of results."""
        del value
        return next(self._each)

    def throw(self, *error: object) -> object:
        """End it by an error, which is raised."""
        self._each = iter(())
        return self._chunks.throw(*error)  # type: ignore[call-overload]  # as above

    def close(self) -> None:
        """Cancel what has not begun; there are no more results."""
        self._each = iter(())
        self._chunks.close()


def _outcomes(feed: Feed, deadline: float | None) -> Generator[Iterable[object], None, None]:
    """Yield the results of each chunk."""
    try:
        while (chunk := feed.take(deadline)) is not None:
            outcomes = cast("list[object]", chunk.future.result())
            if not chunk.raised:
                yield outcomes
                continue
            found = list(itertools.takewhile(lambda each: not isinstance(each, Raised), outcomes))
            yield found
            # Once they are taken: the first exception ends it.
            raise cast("Raised", outcomes[len(found)]).error
    finally:
        feed.cancel()
