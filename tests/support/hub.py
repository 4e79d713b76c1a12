"""A hub with real sockets whose workers are played: threads with a link, or a bare socket."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar, cast

import zmq

from snapfarm.broadcast import Broadcast, Frames
from snapfarm.happenings import Arrived, HubEvent
from snapfarm.hub import Hub
from snapfarm_worker import agent, wire
from snapfarm_worker.anomaly import Level
from snapfarm_worker.databases import Databases
from snapfarm_worker.jobs import PytestJob, WorkerFiles, WorkerSpec
from snapfarm_worker.link import Link
from snapfarm_worker.ring import ResetPolicy
from snapfarm_worker.snapshot import Snapshot, take

#: Seconds after which a hub is taken for stuck.
LIMIT = 60.0

_E = TypeVar("_E")


def snapshot_of(megabytes: float, name: str = "default") -> Snapshot:
    """Return a snapshot of about this size: a table `t` whose rows differ from each other."""
    with contextlib.closing(sqlite3.connect(":memory:")) as conn:
        conn.execute("CREATE TABLE t(x)")
        for _ in range(max(1, int(megabytes * 16))):
            conn.execute("INSERT INTO t VALUES (?)", (os.urandom(64 * 1024),))
        conn.commit()
        return take(conn, name)


class PlayedProcess:
    """A worker process that does what the test says."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self.pid = os.getpid()
        self.stopped = False
        self.signals: list[int] = []
        self.killed = False
        self.exit_code: int | None = None
        self._ended, self._end = os.pipe()

    def end(self, exit_code: int) -> None:
        """Make the process end."""
        self.exit_code = exit_code
        os.write(self._end, b"x")

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when the process has ended."""
        return self._ended

    def signal(self, number: int) -> None:
        """Keep the signal."""
        self.signals.append(number)

    def kill(self) -> None:
        """End by SIGKILL."""
        if not self.killed and self.exit_code is None:
            self.killed = True
            self.end(-9)

    def is_stopped(self) -> bool:
        """Return what the test set."""
        return self.stopped

    def reap(self) -> int | None:
        """Return how it ended."""
        return self.exit_code

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._ended)
        os.close(self._end)


class Clock:
    """The real time, that a test can move on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


class HubStage:
    """A hub in a folder of its own, with all that it starts."""

    def __init__(self, *, expected: int, silence: float = 10.0) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hub-", dir="/tmp"))
        self.processes: dict[str, PlayedProcess] = {}
        self.clock = Clock()
        self.hub = Hub(
            self.folder, self._start, expected=expected, silence=silence, clock=self.clock
        )
        self.events: list[HubEvent] = []
        self._closing = contextlib.ExitStack()

    def _start(self, spec: WorkerSpec) -> PlayedProcess:
        self.processes[spec.worker] = PlayedProcess(spec)
        return self.processes[spec.worker]

    def spec(self, worker: str, lanes: int = 1) -> WorkerSpec:
        """Return what a worker is started with."""
        return WorkerSpec(
            worker=worker,
            files=WorkerFiles(str(self.folder), worker),
            control=self.hub.control,
            broadcast=self.hub.news,
            coordinator=os.getpid(),
            pulse=1.0,
            sensors=Level.OFF,
            job=cast("PytestJob", None),  # nobody runs pytest here
            lanes=lanes,
        )

    def launch(self, worker: str, lanes: int = 1) -> PlayedProcess:
        """Let the hub start a worker, which does nothing yet."""
        self.hub.launch(self.spec(worker, lanes))
        return self.processes[worker]

    def serve(self, broadcast: Broadcast, *snapshots: Snapshot) -> None:
        """Let the hub serve snapshots."""
        orders = tuple(
            wire.DatabaseOrder(
                broadcast.add(snapshot.manifest, bytes(snapshot.data)), "private", "test"
            )
            for snapshot in snapshots
        )
        self.hub.serve(broadcast, orders)

    def until(self, state: Callable[[], _E]) -> _E:
        """Run the hub until `state` returns something true; return that."""
        deadline = time.monotonic() + LIMIT
        while not (found := state()):
            assert time.monotonic() < deadline, f"not within {LIMIT:g} s; events: {self.events}"
            self.events += self.hub.poll(0.02)
        return found

    def pass_time(self, seconds: float) -> None:
        """Let time pass while the hub looks at its sockets now and then."""
        for _ in range(math.ceil(seconds / 0.5)):
            self.clock.ahead += 0.5
            self.events += self.hub.poll(0)

    def seen(self, kind: type[_E]) -> list[_E]:
        """Return the events of a kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def messages(self, kind: type[_E]) -> list[tuple[str, _E]]:
        """Return worker and message of each message of a kind that has arrived so far."""
        return [
            (event.worker, event.message)
            for event in self.seen(Arrived)
            if isinstance(event.message, kind)
        ]

    def socket(self, name: str) -> zmq.Socket[bytes]:
        """Return a bare socket that has connected to the hub under a name."""
        context = self._closing.enter_context(zmq.Context())
        socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.IDENTITY, name.encode())
        socket.setsockopt(zmq.LINGER, 0)
        self._closing.callback(socket.close)
        socket.connect(self.hub.control)
        return socket

    def answer(self, socket: zmq.Socket[bytes]) -> wire.ToWorker:
        """Run the hub until a bare socket has an answer; return it."""
        self.until(lambda: socket.poll(0))
        return wire.decode_to_worker(socket.recv_multipart()[0])

    def close(self) -> None:
        """Close the hub and all sockets."""
        self._closing.close()
        self.hub.close()
        shutil.rmtree(self.folder)


@contextlib.contextmanager
def hub_stage(*, expected: int, silence: float = 10.0) -> Iterator[HubStage]:
    """Return a hub for the time of a test."""
    stage = HubStage(expected=expected, silence=silence)
    try:
        yield stage
    finally:
        stage.close()


class PlayedWorker:
    """A thread with a real link that joins, receives, verifies and restores, as an agent does.

    `restored` holds the rows of table `t` of each database; `error` what it failed with.
    """

    def __init__(self, stage: HubStage, name: str) -> None:
        self.name = name
        self.restored: dict[str, list[bytes]] = {}
        self.error: Exception | None = None
        self._stage = stage
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        stage.launch(name)

    def start(self) -> PlayedWorker:
        """Begin to play."""
        self._thread.start()
        return self

    @property
    def done(self) -> bool:
        """Whether it has restored everything, or failed."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        hub = self._stage.hub
        link = Link(self.name, hub.control, hub.news, coordinator=os.getpid(), pulse=1.0)
        databases = Databases(policy=ResetPolicy.TEST, sensors=False)
        try:
            link.send_early(agent._hello(self.name))
            agent._restore_all(link, "", databases.hold)
            for name in databases.names:
                with contextlib.closing(databases.get(name).connect()) as conn:
                    self.restored[name] = [row[0] for row in conn.execute("SELECT x FROM t")]
        except Exception as error:
            self.error = error
        finally:
            databases.close()
            link.close()


class FaultyBroadcast(Broadcast):
    """Sends its chunks through `harm`, which may change or drop (None) each.

    `harm` gets the payload, the chunk's index, and how often that one was sent before.
    """

    def __init__(
        self, chunk_size: int, harm: Callable[[memoryview, int, int], memoryview | None]
    ) -> None:
        super().__init__(chunk_size)
        self._harm = harm
        self._sent: dict[tuple[str, int], int] = {}

    def _frames(self, digest: str, indexes: Iterable[int]) -> Iterator[Frames]:
        for head, payload in super()._frames(digest, indexes):
            chunk = wire.decode_to_worker(head)
            assert isinstance(chunk, wire.Chunk)
            assert isinstance(payload, memoryview)
            before = self._sent.get((digest, chunk.index), 0)
            self._sent[digest, chunk.index] = before + 1
            harmed = self._harm(payload, chunk.index, before)
            if harmed is not None:
                yield [head, harmed]


def flipped(payload: memoryview) -> memoryview:
    """Return a payload of which one bit is wrong."""
    data = bytearray(payload)
    data[len(data) // 2] ^= 0x10
    return memoryview(bytes(data))
