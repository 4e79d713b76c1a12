"""Reassembles broadcast snapshots, and knows what to ask for when chunks are missing.

Both classes are pure: chunks and times in, questions out. The agent feeds them and sends what
they ask. A worker asks when nothing has arrived for `PATIENCE` seconds: because it joined after
the broadcast, or because the broadcast lost something. Chunks that arrive damaged show in the
digest; the snapshot is then asked for once more from the start before the worker gives up.
"""

from __future__ import annotations

import ctypes
from typing import Protocol

from snapfarm_worker.errors import ProtocolError, SnapshotCorrupt
from snapfarm_worker.snapshot import Snapshot
from snapfarm_worker.wire import Announce, Chunk, DatabaseOrder, NeedChunks

#: Without news for this long, in seconds, a worker asks for the chunks that it lacks.
PATIENCE = 0.05

#: How many chunks a worker asks for at a time, so that repair never floods a slow reader.
REPAIR_WINDOW = 64

#: CPython's own constructor, through ctypes since Python has no name for it.
_new_bytearray = ctypes.pythonapi.PyByteArray_FromStringAndSize
_new_bytearray.argtypes = [ctypes.c_char_p, ctypes.c_ssize_t]
_new_bytearray.restype = ctypes.py_object


class Assembly:
    """The chunks of one announced snapshot, as far as they have arrived.

    Chunks may come in any order and more than once; the buffer is allocated once, at full size.
    """

    def __init__(self, announce: Announce) -> None:
        size, step = announce.manifest.size, announce.chunk_size
        if step <= 0 or announce.chunks != -(-size // step):
            raise ProtocolError(
                f"a snapshot of {size} bytes was announced as {announce.chunks} chunks of {step}"
            )
        self.announce = announce
        #: Chunks that came as an answer to NeedChunks rather than by broadcast.
        self.repaired = 0
        self._buffer = _unfilled(size)
        self._view = memoryview(self._buffer)
        self._have = bytearray(announce.chunks)
        self._left = announce.chunks
        self._asked: frozenset[int] = frozenset()

    @property
    def complete(self) -> bool:
        """Whether every chunk has arrived; the digest is not yet checked."""
        return self._left == 0

    def add(self, index: int, payload: bytes | memoryview) -> bool:
        """Take one chunk; return whether it was new. Raises ProtocolError for a wrong one."""
        announce = self.announce
        if not 0 <= index < announce.chunks:
            raise ProtocolError(f"chunk {index} of a snapshot that has {announce.chunks} chunks")
        start = index * announce.chunk_size
        end = min(start + announce.chunk_size, announce.manifest.size)
        if len(payload) != end - start:
            raise ProtocolError(
                f"chunk {index} has {len(payload)} bytes where {end - start} were announced"
            )
        if self._have[index]:
            return False
        self._view[start:end] = payload
        self._have[index] = 1
        self._left -= 1
        if index in self._asked:
            self.repaired += 1
        return True

    def ask(self) -> tuple[int, ...]:
        """Return the next missing indexes to ask for, at most REPAIR_WINDOW of them."""
        missing: list[int] = []
        index = self._have.find(0)
        while index >= 0 and len(missing) < REPAIR_WINDOW:
            missing.append(index)
            index = self._have.find(0, index + 1)
        self._asked |= frozenset(missing)
        return tuple(missing)

    def answered(self, asked: tuple[int, ...]) -> bool:
        """Return whether every chunk of a question has arrived."""
        return all(self._have[index] for index in asked)

    def snapshot(self) -> Snapshot:
        """Return the snapshot, its digest verified. Raises SnapshotCorrupt.

        The assembly gives its buffer away and can't be used any more.
        """
        self._view.release()
        snapshot = Snapshot(self.announce.manifest, self._buffer)
        snapshot.verify("as it arrived")
        return snapshot


def _unfilled(size: int) -> bytearray:
    """Return a bytearray of any content, whose memory is not touched before it is written to.

    `bytearray(size)` would fill it with zeros, in one go that lets no other thread run: that is a
    second for each few hundred megabytes, in which a worker gives no sign of life.
    """
    buffer: bytearray = _new_bytearray(None, size)
    return buffer


class Payload(Protocol):
    """A frame with the bytes of a chunk."""

    @property
    def buffer(self) -> memoryview:
        """The bytes, without a copy."""


class Receiver:
    """All snapshots that a worker waits for, at once."""

    def __init__(
        self, orders: tuple[DatabaseOrder, ...], now: float, patience: float = PATIENCE
    ) -> None:
        self._began = now
        self._waiting = {
            order.announce.manifest.digest: Assembly(order.announce) for order in orders
        }
        self._orders = list(orders)
        self._verified: dict[str, Snapshot] = {}
        #: Digests that were asked for anew because they arrived damaged.
        self._again: set[str] = set()
        self._repaired: dict[str, int] = {}
        self._asked: dict[str, tuple[int, ...]] = {}
        #: How long to stay quiet; shorter once the broadcast flows.
        self._patience = patience
        self._last_news = now
        #: Chunks that belonged to no snapshot of ours, or were refused.
        self.oddities = 0

    @property
    def waiting(self) -> bool:
        """Whether chunks are still missing."""
        return bool(self._waiting)

    def add(self, chunk: Chunk, payload: Payload | None, now: float) -> None:
        """Take a chunk from the broadcast or from a repair. Raises SnapshotCorrupt at last."""
        assembly = self._waiting.get(chunk.digest)
        if assembly is None or payload is None:
            self.oddities += 1
            return
        try:
            if assembly.add(chunk.index, payload.buffer):
                self._last_news = now
                self._patience = PATIENCE
        except ProtocolError:
            self.oddities += 1
            return
        if assembly.complete:
            self._completed(chunk.digest, assembly)

    def _completed(self, digest: str, assembly: Assembly) -> None:
        self._asked.pop(digest, None)
        self._repaired[digest] = self._repaired.get(digest, 0) + assembly.repaired
        try:
            self._verified[digest] = assembly.snapshot()
        except SnapshotCorrupt:
            if digest in self._again:
                raise
            self._again.add(digest)
            self._waiting[digest] = Assembly(assembly.announce)
        else:
            del self._waiting[digest]

    def questions(self, now: float) -> list[NeedChunks]:
        """Return what to ask for now: nothing while the broadcast is flowing."""
        quiet = now - self._last_news >= self._patience
        questions = []
        for digest, assembly in self._waiting.items():
            asked = self._asked.get(digest)
            if (
                (asked and assembly.answered(asked))
                or quiet
                or (digest in self._again and not asked)
            ):
                self._asked[digest] = assembly.ask()
                questions.append(NeedChunks(digest, self._asked[digest]))
        if questions:
            self._last_news = now
        return questions

    def ready(self) -> list[tuple[DatabaseOrder, Snapshot, int]]:
        """Return orders whose snapshot has arrived and is verified, each once, with its repairs."""
        ready = [o for o in self._orders if o.announce.manifest.digest in self._verified]
        self._orders = [o for o in self._orders if o not in ready]
        return [
            (
                order,
                Snapshot(
                    order.announce.manifest, self._verified[order.announce.manifest.digest].data
                ),
                self._repaired.get(order.announce.manifest.digest, 0),
            )
            for order in ready
        ]
