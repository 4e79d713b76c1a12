"""The processes that receive a broadcast: the farm's own receiver, and its peers.

Each tells when it is connected, receives one image, checks its digest, and tells so.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import platform
import signal
import sqlite3
import sys
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from unittest.mock import patch

import zmq

from snapfarm_worker import agent, wire
from snapfarm_worker.databases import Databases
from snapfarm_worker.jobs import WorkerSpec
from snapfarm_worker.link import Link
from snapfarm_worker.ring import ResetPolicy
from snapfarm_worker.snapshot import Snapshot


class ReceivingProcess:
    """A process of the farm's launcher protocol that runs `receive` instead of pytest."""

    def __init__(self, spec: WorkerSpec) -> None:
        context = multiprocessing.get_context("forkserver")
        self._process: ForkServerProcess = context.Process(target=receive, args=(spec,))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when the process has ended."""
        return self._process.sentinel

    def signal(self, number: int) -> None:
        """Send a signal."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the process."""
        self.signal(signal.SIGKILL)

    def is_stopped(self) -> bool:
        """Return whether the process is stopped; these never are."""
        return False

    def reap(self) -> int | None:
        """Wait for the end of the process."""
        self._process.join()
        return self._process.exitcode

    def close(self) -> None:
        """Release what is held for the ended process."""
        self._process.close()


def receive(spec: WorkerSpec) -> None:
    """Be a worker up to the point where its snapshots are verified: nothing is restored."""
    link = Link(
        spec.worker, spec.control, spec.broadcast, coordinator=spec.coordinator, pulse=spec.pulse
    )
    hello = wire.Hello(
        worker=spec.worker,
        pid=os.getpid(),
        protocol=wire.PROTOCOL_VERSION,
        python=sys.version,
        sqlite=sqlite3.sqlite_version,
        executable=sys.executable,
        platform=platform.platform(),
        cwd=str(Path.cwd()),
    )
    link.send_early(hello)
    databases = Databases(policy=ResetPolicy.NEVER, sensors=False)
    with patch.object(agent, "_restore", _verified):
        agent._restore_all(link, "", databases.hold)
    signal.pause()  # the hub ends it


def _verified(
    link: Link,
    databases: Databases,
    order: wire.DatabaseOrder,
    snapshot: Snapshot,
    received: float,
    repaired: int,
) -> None:
    """Stand where the agent restores a verified snapshot."""
    manifest = snapshot.manifest
    link.send_early(
        wire.SnapshotRestored(manifest.database, manifest.digest, received, 0.0, repaired)
    )


def receive_whole(endpoint: str, digest: str) -> None:
    """Receive an image as one message of a DEALER socket."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(endpoint)
        socket.send(b"connected")
        frame = socket.recv(copy=False)
        socket.send(_verdict(frame.buffer, digest))


def receive_pipe(conn: Connection, digest: str) -> None:
    """Receive an image through a pipe of multiprocessing."""
    conn.send_bytes(b"connected")
    conn.send_bytes(_verdict(conn.recv_bytes(), digest))


def receive_file(conn: Connection, digest: str) -> None:
    """Receive the name of a file, and read it."""
    conn.send_bytes(b"connected")
    data = Path(conn.recv_bytes().decode()).read_bytes()
    conn.send_bytes(_verdict(data, digest))


def _verdict(data: bytes | memoryview, digest: str) -> bytes:
    return b"verified" if hashlib.sha256(data).hexdigest() == digest else b"damaged"
