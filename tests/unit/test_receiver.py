"""Snapshots are reassembled whatever order, loss or damage the chunks come with."""

from __future__ import annotations

import random
import resource
import sqlite3
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapfarm.broadcast import Broadcast
from snapfarm_worker import wire
from snapfarm_worker.errors import ProtocolError, SnapshotCorrupt
from snapfarm_worker.receiver import PATIENCE, REPAIR_WINDOW, Assembly, Receiver
from snapfarm_worker.snapshot import Snapshot, take
from support.frames import Payload

CHUNK = 4096


def _snapshot(rows: int) -> Snapshot:
    conn = sqlite3.connect(":memory:")
    conn.execute("CREATE TABLE t(x)")
    conn.executemany("INSERT INTO t VALUES (?)", [(f"{i:0500}",) for i in range(rows)])
    conn.commit()
    try:
        return take(conn, "default")
    finally:
        conn.close()


SNAPSHOT = _snapshot(600)


def _broadcast(snapshot: Snapshot = SNAPSHOT) -> tuple[Broadcast, wire.DatabaseOrder]:
    broadcast = Broadcast(CHUNK)
    announce = broadcast.add(snapshot.manifest, bytes(snapshot.data))
    return broadcast, wire.DatabaseOrder(announce, "shared-cache", "test")


def _chunks(broadcast: Broadcast) -> list[tuple[wire.Chunk, Payload]]:
    found = []
    for head, *payload in broadcast.everything():
        message = wire.decode_to_worker(head)
        if isinstance(message, wire.Chunk):
            found.append((message, Payload(payload[0])))
    return found


def test_broadcast_copies_nothing() -> None:
    image = bytes(SNAPSHOT.data)
    broadcast = Broadcast(CHUNK)
    broadcast.add(SNAPSHOT.manifest, image)
    payloads = [frames[1] for frames in broadcast.everything() if len(frames) > 1]
    assert all(isinstance(p, memoryview) and p.obj is image for p in payloads)


@given(st.randoms(use_true_random=False), st.floats(0, 0.9))
def test_every_order_with_losses_is_repaired(rng: random.Random, loss: float) -> None:
    broadcast, order = _broadcast()
    receiver = Receiver((order,), now=0.0)
    chunks = [chunk for chunk in _chunks(broadcast) if rng.random() >= loss]
    rng.shuffle(chunks)
    for chunk, payload in chunks:
        receiver.add(chunk, payload, 0.0)
    now, rounds = 0.0, 0
    while receiver.waiting:
        now += PATIENCE
        rounds += 1
        assert rounds < 100
        for question in receiver.questions(now):
            assert len(question.indexes) <= REPAIR_WINDOW
            for head, payload_bytes in broadcast.answer(question):
                message = wire.decode_to_worker(head)
                assert isinstance(message, wire.Chunk)
                receiver.add(message, Payload(payload_bytes), now)
    [(_order, snapshot, repaired)] = receiver.ready()
    assert snapshot.data == SNAPSHOT.data
    assert repaired == order.announce.chunks - len(chunks)


def test_nothing_is_asked_while_the_broadcast_flows() -> None:
    broadcast, order = _broadcast()
    receiver = Receiver((order,), now=0.0, patience=5.0)
    now = 0.0
    assert receiver.questions(4.9) == []
    for chunk, payload in _chunks(broadcast)[:-1]:
        now += PATIENCE / 2
        receiver.add(chunk, payload, now)
        assert receiver.questions(now) == []
    assert receiver.questions(now + PATIENCE) == [
        wire.NeedChunks(SNAPSHOT.manifest.digest, (order.announce.chunks - 1,))
    ]


def test_damaged_snapshot_is_asked_for_once_more_and_then_refused() -> None:
    broadcast, order = _broadcast()
    receiver = Receiver((order,), now=0.0)

    def deliver(*, damaged: bool) -> None:
        for chunk, payload in _chunks(broadcast):
            data = bytearray(payload.buffer)
            if damaged and chunk.index == 3:
                data[100] ^= 1
            receiver.add(chunk, Payload(bytes(data)), 0.0)

    deliver(damaged=True)
    assert receiver.waiting
    assert receiver.questions(0.0)[0].indexes[0] == 0
    with pytest.raises(SnapshotCorrupt, match="as it arrived is damaged"):
        deliver(damaged=True)


def test_second_delivery_of_a_damaged_snapshot_may_be_sound() -> None:
    broadcast, order = _broadcast()
    receiver = Receiver((order,), now=0.0)
    for chunk, payload in _chunks(broadcast):
        data = bytearray(payload.buffer)
        data[0] ^= chunk.index == 1
        receiver.add(chunk, Payload(bytes(data)), 0.0)
    for chunk, payload in _chunks(broadcast):
        receiver.add(chunk, payload, 0.0)
    assert receiver.ready()[0][1].data == SNAPSHOT.data


def test_foreign_and_misshapen_chunks_are_counted_and_change_nothing() -> None:
    broadcast, order = _broadcast()
    receiver = Receiver((order,), now=0.0)
    digest = SNAPSHOT.manifest.digest
    receiver.add(wire.Chunk("0" * 64, 0), Payload(b"x"), 0.0)
    receiver.add(wire.Chunk(digest, 10_000), Payload(b"x"), 0.0)
    receiver.add(wire.Chunk(digest, 0), Payload(b"short"), 0.0)
    receiver.add(wire.Chunk(digest, 0), None, 0.0)
    assert receiver.oddities == 4
    for chunk, payload in _chunks(broadcast):
        receiver.add(chunk, payload, 0.0)
    assert not receiver.waiting


def test_two_databases_with_one_image_are_both_delivered() -> None:
    broadcast, order = _broadcast()
    other = msgspec.structs.replace(SNAPSHOT.manifest, database="other")
    # The farm adds both: the second one once was announced under the name of the first.
    second = wire.DatabaseOrder(broadcast.add(other, bytes(SNAPSHOT.data)), "memdb", "never")
    receiver = Receiver((order, second), now=0.0)
    for chunk, payload in _chunks(broadcast):
        receiver.add(chunk, payload, 0.0)
    names = [snapshot.manifest.database for _order, snapshot, _repaired in receiver.ready()]
    assert names == ["default", "other"]
    assert receiver.ready() == []


@pytest.mark.parametrize(("chunk_size", "chunks"), [(0, 1), (4096, 1), (-1, 5)])
def test_announcement_that_does_not_add_up_is_refused(chunk_size: int, chunks: int) -> None:
    with pytest.raises(ProtocolError, match="was announced as"):
        Assembly(wire.Announce(SNAPSHOT.manifest, chunk_size, chunks))


def test_question_for_what_is_not_broadcast_is_refused() -> None:
    broadcast, order = _broadcast()
    with pytest.raises(ProtocolError, match="no snapshot"):
        list(broadcast.answer(wire.NeedChunks("0" * 64, (0,))))
    with pytest.raises(ProtocolError, match="chunk 9999"):
        list(broadcast.answer(wire.NeedChunks(order.announce.manifest.digest, (9999,))))


def test_an_assembly_takes_memory_only_as_chunks_arrive() -> None:
    def resident() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    size = 256 * 1024 * 1024
    manifest = msgspec.structs.replace(SNAPSHOT.manifest, size=size)
    before = resident()
    # Filling so much in one go would keep all threads of the worker waiting, its pulse among them.
    assembly = Assembly(wire.Announce(manifest, size // 4, 4))
    assert resident() - before < size // 8
    assert not assembly.complete
