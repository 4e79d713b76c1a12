"""Declared layers as a farm's worker gets them: announced at the start, fetched on first use.

Most workers run tests of few layers, so an image comes only to who needs it: the worker asks for
its chunks as it would ask for those that a broadcast lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Protocol

from snapfarm_worker.errors import SnapshotCorrupt
from snapfarm_worker.receiver import Assembly, Payload
from snapfarm_worker.wire import Announce, Chunk, NeedChunks

if TYPE_CHECKING:
    from snapfarm_worker.snapshot import Snapshot

#: Without news for so long, in seconds, chunks are asked for again: the coordinator may be busy.
_PATIENCE = 2.0


class DeclaredLayers(Protocol):
    """The layers that a configuration declares."""

    @property
    def databases(self) -> Mapping[str, str]:
        """The database of each layer."""

    def snapshot(self, layer: str) -> Snapshot:
        """Return what a layer holds, verified. May take long, and fail as the layer's build may."""


class OfferedLayers:
    """The layers that a coordinator offers; `ask` sends it a question."""

    def __init__(self, offers: Sequence[Announce], ask: Callable[[NeedChunks], None]) -> None:
        self._offers = {offer.manifest.layer: offer for offer in offers}
        self._ask = ask
        self._arrived: SimpleQueue[tuple[Chunk, Payload]] = SimpleQueue()

    @property
    def databases(self) -> Mapping[str, str]:
        """The database of each layer."""
        return {name: offer.manifest.database for name, offer in self._offers.items()}

    def take(self, chunk: Chunk, payload: Sequence[Payload]) -> None:
        """Take a chunk; called by the I/O thread."""
        if payload:
            self._arrived.put((chunk, payload[0]))

    def snapshot(self, layer: str) -> Snapshot:
        """Fetch a layer. Raises SnapshotCorrupt if it arrives damaged twice, and ProtocolError."""
        offer = self._offers[layer]
        try:
            return self._fetched(offer)
        except SnapshotCorrupt:
            return self._fetched(offer)

    def _fetched(self, offer: Announce) -> Snapshot:
        assembly = Assembly(offer)
        while not assembly.complete:
            asked = assembly.ask()
            self._ask(NeedChunks(offer.manifest.digest, asked))
            self._await(assembly, asked)
        return assembly.snapshot()

    def _await(self, assembly: Assembly, asked: tuple[int, ...]) -> None:
        """Take chunks until the question is answered, or for too long nothing came."""
        while not assembly.answered(asked):
            try:
                chunk, payload = self._arrived.get(timeout=_PATIENCE)
            except Empty:
                return
            if chunk.digest == assembly.announce.manifest.digest:
                assembly.add(chunk.index, payload.buffer)
