"""The worker process: its start, its end, and what lies between.

    connect -> Hello -> Welcome -> receive, verify and restore each snapshot -> pytest session

Everything that a worker prints goes to a pipe that the coordinator reads; what it does stands in
its black box; on `STACKS_SIGNAL` it writes the stacks of all its threads into a file, whatever
its main thread is busy with.
"""

from __future__ import annotations

import faulthandler
import os
import platform
import signal
import sqlite3
import sys
import time
import traceback
from pathlib import Path
from typing import TextIO

import msgspec
import pytest
import zmq
from _pytest.config import ConftestImportFailure

from snapfarm_worker import items, wire
from snapfarm_worker.blackbox import BlackBox, Phase
from snapfarm_worker.courier import keep_freed_memory
from snapfarm_worker.databases import Databases
from snapfarm_worker.errors import ProtocolError, WorkerError
from snapfarm_worker.fixtures import DatabasePlugin
from snapfarm_worker.items import PytestJob
from snapfarm_worker.link import EXIT_ORPHANED, Link
from snapfarm_worker.receiver import PATIENCE, Receiver
from snapfarm_worker.ring import ResetPolicy, Ring, RingKind
from snapfarm_worker.snapshot import Snapshot
from snapfarm_worker.tracker import forget_resource_tracker
from snapfarm_worker.wire import Chunk

#: Makes a worker write its stacks; no test framework that we know of uses it.
STACKS_SIGNAL = signal.SIGRTMIN + 7 if hasattr(signal, "SIGRTMIN") else signal.SIGUSR2

#: Exit status of a worker that has told why it can't go on.
EXIT_FAILED = 77


class WorkerFiles(msgspec.Struct, frozen=True):
    """Where a worker's files lie in the run's private folder."""

    folder: str
    worker: str

    def _path(self, suffix: str) -> Path:
        return Path(self.folder, f"{self.worker}.{suffix}")

    @property
    def box(self) -> Path:
        """The black box."""
        return self._path("box")

    @property
    def output(self) -> Path:
        """The named pipe that takes the worker's output and errors."""
        return self._path("output")

    @property
    def stacks(self) -> Path:
        """What the worker writes on `STACKS_SIGNAL`."""
        return self._path("stacks")

    @property
    def pid(self) -> Path:
        """The worker's process id, for whoever has to end it when the coordinator is gone."""
        return self._path("pid")


class WorkerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """All that a worker process is started with. `pulse` in seconds."""

    worker: str
    files: WorkerFiles
    control: str
    broadcast: str
    coordinator: int
    pulse: float
    sensors: bool
    job: PytestJob


def main(spec: WorkerSpec) -> None:
    """Run a worker; the target of its process. Ends the process by itself when told or orphaned."""
    _separate(spec.files)
    forget_resource_tracker()
    box = BlackBox(spec.files.box)
    try:
        link = Link(
            spec.worker,
            spec.control,
            spec.broadcast,
            coordinator=spec.coordinator,
            pulse=spec.pulse,
        )
    except zmq.ZMQError:
        os._exit(EXIT_ORPHANED)
    orderly = _run(spec, link, box)
    _flush_output()
    link.close()
    if not orderly:
        sys.exit(EXIT_FAILED)


def _separate(files: WorkerFiles) -> None:
    """Give the process a session, an output and a stack dump of its own.

    Of its own session, so that Ctrl-C reaches the coordinator only, which then decides; and so
    that all that its tests have started can be ended with it.
    """
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        # Without this flag it would wait for a reader, for good if the coordinator is gone.
        output = os.open(files.output, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        os._exit(EXIT_ORPHANED)
    os.set_blocking(output, True)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(nothing)
    os.close(output)
    # Under the fork start method the parent's streams may be captured ones.
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  # open for life
    sys.stdout, sys.stderr = _stream(1), _stream(2)
    vars(sys).update(__stdin__=sys.stdin, __stdout__=sys.stdout, __stderr__=sys.stderr)
    # faulthandler keeps the file open for the life of the process.
    faulthandler.register(STACKS_SIGNAL, file=files.stacks.open("w"), all_threads=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _stream(descriptor: int) -> TextIO:
    return open(
        descriptor, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
    )


def _flush_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue


def _run(spec: WorkerSpec, link: Link, box: BlackBox) -> bool:
    """Run the worker's session; return whether it got to an orderly end."""
    stage = "start"
    try:
        items.apply_environment(spec.job)
        link.send_early(_hello(spec.worker))
        box.write(Phase.RESTORING, "")
        stage = "restore"
        databases = Databases(policy=ResetPolicy.TEST, sensors=spec.sensors)
        try:
            _restore_all(link, databases)
            link.start()
            os.environ.update(databases.environment())
            stage = "pytest"
            plugin = DatabasePlugin(databases)
            items.run_session(spec.job, link, box, plugin)
        finally:
            databases.close()
    except WorkerError as error:
        link.send(wire.WorkerFailed(stage, str(error)))
    except (pytest.UsageError, ConftestImportFailure) as error:
        link.send(wire.WorkerFailed("configure", _told(error), usage=True))
    except SystemExit as error:
        link.send(wire.WorkerFailed(stage, f"SystemExit({error.code!r}) was raised", usage=True))
    except BaseException:
        link.send(wire.WorkerFailed(stage, traceback.format_exc()))
    else:
        return True
    return False


def _told(error: Exception) -> str:
    if isinstance(error, ConftestImportFailure):
        cause = "".join(traceback.format_exception(error.cause))
        return f"ImportError while loading conftest {str(error.path)!r}\n{cause}"
    return "\n".join(str(part) for part in error.args)


def _hello(worker: str) -> wire.Hello:
    return wire.Hello(
        worker=worker,
        pid=os.getpid(),
        protocol=wire.PROTOCOL_VERSION,
        python=sys.version,
        sqlite=sqlite3.sqlite_version,
        executable=sys.executable,
        platform=platform.platform(),
        cwd=str(Path.cwd()),
    )


# ---------------------------------------------------------------- receiving and restoring


def _restore_all(link: Link, databases: Databases) -> None:
    """Receive, verify and restore every database of the Welcome. Raises WorkerError."""
    early: list[tuple[Chunk, zmq.Frame | None]] = []
    welcome: wire.Welcome | None = None
    while welcome is None:
        for message, payload in link.exchange(1.0):
            match message:
                case wire.Welcome():
                    welcome = message
                case wire.Refused(reason=reason):
                    raise ProtocolError(f"the coordinator refused this worker: {reason}")
                case Chunk():
                    early.append((message, payload))
                case _:
                    continue
    if not welcome.databases:
        return
    keep_freed_memory()
    began = time.monotonic()
    receiver = Receiver(welcome.databases, began, welcome.patience)
    for chunk, payload in early:
        receiver.add(chunk, payload, began)
    while True:
        for order, snapshot, repaired in receiver.ready():
            received = time.monotonic() - began
            _restore(link, databases, order, snapshot, received, repaired)
        if not receiver.waiting:
            return
        for question in receiver.questions(time.monotonic()):
            link.send_early(question)
        for message, payload in link.exchange(PATIENCE):
            if isinstance(message, Chunk):
                receiver.add(message, payload, time.monotonic())


def _restore(
    link: Link,
    databases: Databases,
    order: wire.DatabaseOrder,
    snapshot: Snapshot,
    received: float,
    repaired: int,
) -> None:
    began = time.monotonic()
    ring = Ring.restore(snapshot, kind=RingKind(order.ring), verified=True)
    databases.add(ring, policy=ResetPolicy(order.reset))
    manifest = snapshot.manifest
    link.send_early(
        wire.SnapshotRestored(
            manifest.database, manifest.digest, received, time.monotonic() - began, repaired
        )
    )
