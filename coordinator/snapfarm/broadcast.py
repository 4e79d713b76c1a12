"""Turns snapshots into chunks: one broadcast for those who listen, repair for those who missed it.

Nothing is copied on the sending side: a chunk is a view of the store's one hot `bytes` object,
which ZeroMQ keeps alive until the chunk has left. PUB/SUB loses what is sent before a subscription
has arrived, so a worker asks for what it lacks, and the answer goes to it alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from snapfarm_worker import wire
from snapfarm_worker.errors import ProtocolError
from snapfarm_worker.snapshot import Manifest
from snapfarm_worker.wire import Announce, Chunk, NeedChunks

#: The frames of one message: the message, then perhaps its payload.
Frames = list[bytes | memoryview]


class Broadcast:
    """The snapshots of one farm, cut into chunks of `chunk_size` bytes."""

    def __init__(self, chunk_size: int) -> None:
        if chunk_size <= 0:
            raise ValueError(f"a chunk needs a positive size, not {chunk_size}")
        self._chunk_size = chunk_size
        self._images: dict[str, memoryview] = {}
        self._announces: dict[str, Announce] = {}
        #: Digests of what is only sent to who asks for it.
        self._on_demand: set[str] = set()

    def add(self, manifest: Manifest, image: bytes, *, on_demand: bool = False) -> Announce:
        """Take a snapshot in; return its announcement. Adding it again changes nothing.

        With `on_demand` it only goes to who asks for it.
        """
        announce = self._announces.get(manifest.digest)
        if announce is None:
            announce = Announce(
                manifest, self._chunk_size, max(1, -(-len(image) // self._chunk_size))
            )
            self._announces[manifest.digest] = announce
            self._images[manifest.digest] = memoryview(image)
            if on_demand:
                self._on_demand.add(manifest.digest)
        # The same image may be several layers, or databases.
        return msgspec.structs.replace(announce, manifest=manifest)

    def everything(self) -> Iterator[Frames]:
        """Yield the frames of all snapshots that go to all, each announced before its chunks."""
        for digest, announce in self._announces.items():
            if digest in self._on_demand:
                continue
            yield [wire.encode(announce)]
            yield from self._frames(digest, range(announce.chunks))

    def answer(self, question: NeedChunks) -> Iterator[Frames]:
        """Yield the frames that a worker asked for. Raises ProtocolError for what isn't there."""
        announce = self._announces.get(question.digest)
        if announce is None:
            raise ProtocolError(f"no snapshot {question.digest[:12]} is being broadcast")
        for index in question.indexes:
            if not 0 <= index < announce.chunks:
                raise ProtocolError(f"chunk {index} of a snapshot that has {announce.chunks}")
        yield from self._frames(question.digest, question.indexes)

    def _frames(self, digest: str, indexes: Iterable[int]) -> Iterator[Frames]:
        image, step = self._images[digest], self._chunk_size
        for index in indexes:
            yield [wire.encode(Chunk(digest, index)), image[index * step : (index + 1) * step]]
