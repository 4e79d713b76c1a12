"""Reassembles broadcast snapshots, and knows what to ask for when chunks are missing.

`Assembly` is pure: chunks in, missing indexes out. The agent feeds it and sends its questions.
"""

from __future__ import annotations

from snapfarm_worker.errors import ProtocolError
from snapfarm_worker.snapshot import Snapshot
from snapfarm_worker.wire import Announce

#: How many chunks a worker asks for at a time, so that repair never floods a slow reader.
REPAIR_WINDOW = 64


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
        self._buffer = bytearray(size)
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
        missing = []
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
