"""Measures how long a snapshot takes from the coordinator to all workers, digests checked."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import cast

import zmq

from benchmarks.images import image, load
from benchmarks.model import Column, Result, Table
from benchmarks.options import Options, command
from benchmarks.receiving import ReceivingProcess, receive_file, receive_pipe, receive_whole
from snapfarm.broadcast import Broadcast
from snapfarm.config import FarmConfig
from snapfarm.happenings import Arrived, Died
from snapfarm.hub import Hub
from snapfarm.launch.folder import RunFolder
from snapfarm_worker import wire
from snapfarm_worker.anomaly import Level
from snapfarm_worker.jobs import PytestJob, WorkerFiles, WorkerSpec
from snapfarm_worker.snapshot import Snapshot

NAME = "broadcast"
SIZES = (1, 10, 100, 500)
QUICK_SIZES = (1, 10)
WORKERS = (1, 2, 4, 8)
QUICK_WORKERS = (1, 2, 4)
#: Rounds by size in MB.
ROUNDS = {1: 5, 10: 5, 100: 3, 500: 3}

FARM = "farm"
WHOLE = "whole message"
PIPE = "pipes"
FILE = "tmpfs file"

_NOTE = (
    "From the moment when all workers are connected until all have the image and its digest is "
    "checked; new processes in each round. *Farm*: the real hub, broadcast, link and receiver, "
    "without pytest and without restoring. *Whole message*: one message per worker, ROUTER to "
    "DEALER, not copied at the sender. *Pipes*: `send_bytes` of multiprocessing, one worker "
    "after the other. *tmpfs file*: written once, read by all."
)

#: Sends a snapshot to so many new workers; returns the seconds.
Send = Callable[[Snapshot, int], float]


def send_farm(snapshot: Snapshot, workers: int) -> float:
    """Send by the farm's broadcast."""
    folder = RunFolder()
    hub = Hub(folder.path, ReceivingProcess, expected=workers, silence=60.0)
    try:
        for number in range(workers):
            hub.launch(_specification(hub, folder.path, f"gw{number}"))
        _await(hub, wire.Hello, workers)
        broadcast = Broadcast(FarmConfig(root=folder.path).chunk_size)
        assert isinstance(snapshot.data, bytes)
        announce = broadcast.add(snapshot.manifest, snapshot.data)
        began = perf_counter()
        hub.serve(broadcast, (wire.DatabaseOrder(announce, "shared-cache", "test"),))
        _await(hub, wire.SnapshotRestored, workers)
        return perf_counter() - began
    finally:
        hub.close()
        folder.remove()


def _specification(hub: Hub, folder: Path, worker: str) -> WorkerSpec:
    return WorkerSpec(
        worker=worker,
        files=WorkerFiles(str(folder), worker),
        control=hub.control,
        broadcast=hub.news,
        coordinator=os.getpid(),
        pulse=1.0,
        sensors=Level.OFF,
        job=cast(PytestJob, None),  # nobody runs pytest here
    )


def _await(hub: Hub, kind: type[wire.Message], count: int) -> None:
    while count:
        for event in hub.poll(10.0):
            if isinstance(event, Died):
                raise RuntimeError(f"a receiving process died: {event.cause}")
            count -= isinstance(event, Arrived) and isinstance(event.message, kind)


def send_whole(snapshot: Snapshot, workers: int) -> float:
    """Send one message to each."""
    digest = snapshot.manifest.digest
    with (
        tempfile.TemporaryDirectory() as folder,
        zmq.Context() as context,
        context.socket(zmq.ROUTER) as router,
        contextlib.ExitStack() as stack,
    ):
        router.bind(endpoint := f"ipc://{folder}/socket")
        for _ in range(workers):
            _start(stack, receive_whole, endpoint, digest)
        names = [router.recv_multipart()[0] for _ in range(workers)]
        began = perf_counter()
        for name in names:
            router.send(name, zmq.SNDMORE)
            router.send(snapshot.data, copy=False)
        for _ in names:
            _check(router.recv_multipart()[1])
        return perf_counter() - began


def send_pipes(snapshot: Snapshot, workers: int) -> float:
    """Send through one pipe after the other."""
    with contextlib.ExitStack() as stack:
        pipes = _piped(stack, receive_pipe, snapshot, workers)
        began = perf_counter()
        for pipe in pipes:
            pipe.send_bytes(snapshot.data)
        for pipe in pipes:
            _check(pipe.recv_bytes())
        return perf_counter() - began


def send_file(snapshot: Snapshot, workers: int) -> float:
    """Write a file in memory and tell its name."""
    memory = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder,
        contextlib.ExitStack() as stack,
    ):
        pipes = _piped(stack, receive_file, snapshot, workers)
        path = Path(folder, "image")
        began = perf_counter()
        path.write_bytes(snapshot.data)
        for pipe in pipes:
            pipe.send_bytes(str(path).encode())
        for pipe in pipes:
            _check(pipe.recv_bytes())
        return perf_counter() - began


def _piped(
    stack: contextlib.ExitStack,
    target: Callable[[Connection, str], None],
    snapshot: Snapshot,
    workers: int,
) -> list[Connection]:
    pipes = []
    for _ in range(workers):
        ours, theirs = multiprocessing.Pipe()
        _start(stack, target, theirs, snapshot.manifest.digest)
        theirs.close()
        pipes.append(stack.enter_context(ours))
    for pipe in pipes:
        assert pipe.recv_bytes() == b"connected"
    return pipes


def _start(stack: contextlib.ExitStack, target: Callable[..., None], *args: object) -> None:
    process = multiprocessing.get_context("forkserver").Process(target=target, args=args)
    process.start()
    stack.callback(process.join)


def _check(verdict: bytes) -> None:
    if verdict != b"verified":
        raise RuntimeError(f"a worker says {verdict!r}")


VARIANTS: dict[str, Send] = {
    FARM: send_farm,
    WHOLE: send_whole,
    PIPE: send_pipes,
    FILE: send_file,
}


def run(options: Options) -> Result:
    """Measure all sizes and numbers of workers."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["benchmarks.receiving"])
    columns = tuple(Column(name, "ms") for name in VARIANTS)
    table = Table("all", "Broadcast until every worker has verified", _NOTE, columns, {})
    for size in options.sizes_of(SIZES, QUICK_SIZES):
        snapshot = load(image(options.scratch, size))
        for workers in QUICK_WORKERS if options.quick else WORKERS:
            row = f"{size} MB to {workers}"
            rounds = options.rounds_of(ROUNDS.get(size, 3), 2)
            # The first round warms up, unless a round is long enough to hide that.
            for number in range(rounds + (size < 100)):
                for name, send in VARIANTS.items():
                    seconds = send(snapshot, workers)
                    if number or size >= 100:
                        table.add(row, name, seconds)
    return Result(NAME, (table,), ())


if __name__ == "__main__":
    command({NAME: run})()
