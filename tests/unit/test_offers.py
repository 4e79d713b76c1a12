"""A worker fetches a layer when it needs it, whatever is lost or damaged on the way."""

from __future__ import annotations

import contextlib
import sqlite3

import msgspec
import pytest

from snapfarm.broadcast import Broadcast
from snapfarm_worker import offers, wire
from snapfarm_worker.errors import SnapshotCorrupt
from snapfarm_worker.offers import OfferedLayers
from snapfarm_worker.receiver import REPAIR_WINDOW
from snapfarm_worker.snapshot import Snapshot, take
from support.frames import Payload
from support.golden import golden


def layer(name: str) -> Snapshot:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        conn.execute("CREATE TABLE t(x)")
        conn.execute("INSERT INTO t VALUES (zeroblob(500000))")
        return take(conn, "default", layer=name)


class Coordinator:
    """Answers questions at once; chunks in `lost` are lost once, those in `damaged` so often."""

    def __init__(self, *layers: Snapshot) -> None:
        self.broadcast = Broadcast(4096)
        self.broadcast.add(golden().manifest, bytes(golden().data))
        self.offers = [
            self.broadcast.add(one.manifest, bytes(one.data), on_demand=True) for one in layers
        ]
        self.offered = OfferedLayers(self.offers, self.ask)
        self.questions: list[wire.NeedChunks] = []
        self.lost: set[int] = set()
        self.damaged: dict[int, int] = {}

    def ask(self, question: wire.NeedChunks) -> None:
        self.questions.append(question)
        for head, payload in self.broadcast.answer(question):
            chunk = wire.decode_to_worker(head)
            assert isinstance(chunk, wire.Chunk)
            if chunk.index in self.lost:
                self.lost.remove(chunk.index)
                continue
            if self.damaged.get(chunk.index, 0):
                self.damaged[chunk.index] -= 1
                payload = bytes(len(payload))
            # A late chunk of something else is nobody's.
            self.offered.take(wire.Chunk("other", chunk.index), [Payload(payload)])
            self.offered.take(chunk, [])
            self.offered.take(chunk, [Payload(payload)])


def test_a_layer_is_fetched_in_windows() -> None:
    first, second = layer("first"), layer("second")
    coordinator = Coordinator(first, second)
    assert coordinator.offered.databases == {"first": "default", "second": "default"}
    assert coordinator.questions == []
    fetched = coordinator.offered.snapshot("second")
    assert fetched.data == second.data
    # The same image as the first's, yet it is the second.
    assert fetched.manifest == second.manifest
    assert [len(each.indexes) for each in coordinator.questions] == [REPAIR_WINDOW, 60]


def test_nothing_of_it_is_broadcast() -> None:
    frames = list(Coordinator(layer("first")).broadcast.everything())
    announce = wire.decode_to_worker(frames[0][0])
    assert isinstance(announce, wire.Announce)
    assert announce.manifest.layer == "base"
    assert len(frames) == 1 + announce.chunks


def test_what_is_lost_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offers, "_PATIENCE", 0.001)
    coordinator = Coordinator(layer("first"))
    coordinator.lost = {3, 60, 100}
    assert coordinator.offered.snapshot("first").data == layer("first").data
    assert len(coordinator.questions) == 3
    assert coordinator.questions[1].indexes[:3] == (3, 60, 64)


@pytest.mark.parametrize("times", [1, 2])
def test_what_arrives_damaged_is_fetched_once_more(times: int) -> None:
    coordinator = Coordinator(layer("first"))
    coordinator.damaged = {0: times}
    if times == 1:
        assert coordinator.offered.snapshot("first").data == layer("first").data
    else:
        with pytest.raises(SnapshotCorrupt):
            coordinator.offered.snapshot("first")


def test_an_offer_travels_with_the_welcome() -> None:
    welcome = wire.Welcome((), layers=tuple(Coordinator(layer("first")).offers))
    assert wire.decode_to_worker(wire.encode(welcome)) == welcome
    older = msgspec.msgpack.encode({"type": "Welcome", "databases": []})
    assert wire.decode_to_worker(older) == wire.Welcome(())
