"""Snapshots reach every worker whole, whatever the wire does to them, or it says why not."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from snapfarm import hub
from snapfarm.broadcast import Broadcast
from snapfarm_worker import receiver, wire
from snapfarm_worker.errors import SnapshotCorrupt
from snapfarm_worker.snapshot import Snapshot, take
from support.hub import FaultyBroadcast, HubStage, PlayedWorker, flipped, hub_stage, snapshot_of

CHUNK = 64 * 1024
SMALL = snapshot_of(1)
OTHER = snapshot_of(0.5, "other")
WORKERS = ("gw0", "gw1", "gw2")


def _play(stage: HubStage, *names: str) -> list[PlayedWorker]:
    """Return workers that have all restored or failed."""
    workers = [PlayedWorker(stage, name).start() for name in names]
    stage.until(lambda: all(worker.done for worker in workers))
    return workers


def _repaired(stage: HubStage) -> dict[str, int]:
    """Return how many chunks each worker had to ask for."""
    counts: dict[str, int] = {}
    for worker, message in stage.messages(wire.SnapshotRestored):
        counts[worker] = counts.get(worker, 0) + message.repaired_chunks
    return counts


def _rows(snapshot: Snapshot) -> int:
    return next(table.rows or 0 for table in snapshot.manifest.tables if table.name == "t")


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have workers ask for nothing because a busy machine keeps them waiting."""
    monkeypatch.setattr(receiver, "PATIENCE", 60.0)
    monkeypatch.setattr(hub, "_BROADCAST_PATIENCE", 60.0)


@pytest.mark.usefixtures("_patient")
def test_one_broadcast_serves_all_who_listen() -> None:
    sent = []

    def watch(payload: memoryview, index: int, before: int) -> memoryview:
        sent.append((index, before))
        return payload

    with hub_stage(expected=3) as stage:
        stage.serve(FaultyBroadcast(CHUNK, watch), SMALL, OTHER)
        workers = _play(stage, *WORKERS)
        assert [worker.error for worker in workers] == [None] * 3
        for worker in workers:
            assert {name: len(rows) for name, rows in worker.restored.items()} == {
                "default": _rows(SMALL),
                "other": _rows(OTHER),
            }
        assert _repaired(stage) == dict.fromkeys(WORKERS, 0)
        assert len(sent) == -(-SMALL.manifest.size // CHUNK) + -(-OTHER.manifest.size // CHUNK)


@pytest.mark.usefixtures("_patient")
def test_the_others_get_the_broadcast_when_one_dies_before_it_listens() -> None:
    with hub_stage(expected=3) as stage:
        stage.serve(Broadcast(CHUNK), SMALL)
        process = stage.launch("gw9")
        workers = [PlayedWorker(stage, name).start() for name in ("gw0", "gw1")]
        stage.until(lambda: len(stage.messages(wire.Hello)) == 2)
        process.end(-9)
        stage.until(lambda: all(worker.done for worker in workers))
        assert _repaired(stage) == {"gw0": 0, "gw1": 0}


def test_who_joins_later_gets_the_same_by_asking() -> None:
    with hub_stage(expected=1) as stage:
        stage.serve(Broadcast(CHUNK), SMALL)
        (first,) = _play(stage, "gw0")
        (late,) = _play(stage, "gw1")
        assert late.restored == first.restored
        assert _repaired(stage) == {"gw0": 0, "gw1": -(-SMALL.manifest.size // CHUNK)}


@pytest.mark.parametrize("lost", ["every third", "the first", "the last", "all"])
def test_lost_chunks_are_asked_for(lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_BROADCAST_PATIENCE", 0.1)
    chunks = -(-SMALL.manifest.size // CHUNK)
    wanted = {
        "every third": set(range(0, chunks, 3)),
        "the first": {0},
        "the last": {chunks - 1},
        "all": set(range(chunks)),
    }[lost]

    def lose(payload: memoryview, index: int, before: int) -> memoryview | None:
        return None if before == 0 and index in wanted else payload

    with hub_stage(expected=1) as stage:
        stage.serve(FaultyBroadcast(CHUNK, lose), SMALL)
        (worker,) = _play(stage, "gw0")
        assert worker.error is None
        assert len(worker.restored["default"]) == _rows(SMALL)
        assert _repaired(stage) == {"gw0": len(wanted)}


def test_chunks_that_get_lost_again_are_asked_for_again() -> None:
    def lose(payload: memoryview, index: int, before: int) -> memoryview | None:
        return None if before < 3 and index % 5 == 0 else payload

    with hub_stage(expected=1) as stage:
        stage.serve(FaultyBroadcast(CHUNK, lose), SMALL)
        (worker,) = _play(stage, "gw0")
        assert worker.error is None
        assert len(worker.restored["default"]) == _rows(SMALL)


def test_a_flipped_bit_is_repaired_by_asking_once_more() -> None:
    def harm(payload: memoryview, index: int, before: int) -> memoryview:
        return flipped(payload) if (index, before) == (3, 0) else payload

    with hub_stage(expected=1) as stage:
        stage.serve(FaultyBroadcast(CHUNK, harm), SMALL)
        (worker,) = _play(stage, "gw0")
        assert worker.error is None
        assert len(worker.restored["default"]) == _rows(SMALL)
        assert _repaired(stage) == {"gw0": -(-SMALL.manifest.size // CHUNK)}


def test_damage_that_stays_is_an_error_and_nothing_is_restored() -> None:
    def harm(payload: memoryview, index: int, before: int) -> memoryview:
        del before
        return flipped(payload) if index == 3 else payload

    with hub_stage(expected=1) as stage:
        stage.serve(FaultyBroadcast(CHUNK, harm), SMALL)
        (worker,) = _play(stage, "gw0")
        assert isinstance(worker.error, SnapshotCorrupt)
        assert "the snapshot as it arrived is damaged" in str(worker.error)
        assert worker.restored == {}
        assert stage.messages(wire.SnapshotRestored) == []


def test_a_chunk_of_a_wrong_size_is_as_good_as_lost() -> None:
    def harm(payload: memoryview, index: int, before: int) -> memoryview:
        return payload[:-1] if (index, before) == (2, 0) else payload

    with hub_stage(expected=1) as stage:
        stage.serve(FaultyBroadcast(CHUNK, harm), SMALL)
        (worker,) = _play(stage, "gw0")
        assert worker.error is None
        assert _repaired(stage) == {"gw0": 1}


def test_sixty_megabytes_reach_three_workers() -> None:
    big = snapshot_of(60)
    with hub_stage(expected=3) as stage:
        stage.serve(Broadcast(512 * 1024), big)
        workers = _play(stage, *WORKERS)
        assert [worker.error for worker in workers] == [None] * 3
        assert all(worker.restored == workers[0].restored for worker in workers)
        assert len(workers[0].restored["default"]) == _rows(big)


def test_an_empty_database_travels_too() -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as conn:
        conn.execute("CREATE TABLE t(x)")
        empty = take(conn, "default")
    with hub_stage(expected=1) as stage:
        stage.serve(Broadcast(CHUNK), empty)
        (worker,) = _play(stage, "gw0")
        assert worker.restored == {"default": []}
