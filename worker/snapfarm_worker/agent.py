"""The worker process: its start, its end, and what lies between.

    connect -> Hello -> Welcome -> receive, verify and restore each snapshot -> the job

Everything that a worker prints goes to a pipe that the coordinator reads; what it does stands in
its black box; on `STACKS_SIGNAL` it writes the stacks of all its threads into a file, whatever
its main thread is busy with.
"""

from __future__ import annotations

import faulthandler
import hmac
import os
import platform
import signal
import sqlite3
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TextIO

import msgspec
import zmq

from snapfarm_worker import wire
from snapfarm_worker.blackbox import BlackBox, Phase
from snapfarm_worker.errors import ProtocolError, WorkerError
from snapfarm_worker.jobs import EXIT_FAILED, STACKS_SIGNAL, PytestJob, WorkerFiles, WorkerSpec
from snapfarm_worker.link import EXIT_ORPHANED, Link
from snapfarm_worker.receiver import PATIENCE, Receiver
from snapfarm_worker.snapshot import Snapshot
from snapfarm_worker.tracker import forget_resource_tracker
from snapfarm_worker.wire import Chunk


class Runner(Protocol):
    """Does a worker's job; made before the worker says Hello."""

    #: Where a failure of `run` happens, for messages.
    stage: str

    def prepare(self) -> None:
        """Set up the process before anything of the user's is imported."""

    def hold(self, order: wire.DatabaseOrder, snapshot: Snapshot) -> None:
        """Restore a verified snapshot as ordered. Raises WorkerError."""

    def offer(self, layers: tuple[wire.Announce, ...]) -> None:
        """Know of layers that can be asked for; called once, if there are any."""

    def run(self) -> bool:
        """Do the job to its end; return whether that was an orderly one."""

    def close(self) -> None:
        """Close the databases; called once `hold` may have been called."""


class Working(msgspec.Struct, frozen=True):
    """What a spawned worker is started with."""

    spec: WorkerSpec

    def run(self) -> None:
        """Be the worker."""
        main(self.spec)


def main(spec: WorkerSpec) -> None:
    """Run a worker; the target of its process. Ends the process by itself when told or orphaned."""
    _separate(spec.files)
    forget_resource_tracker()
    boxes = [BlackBox(spec.files.lane_box(lane)) for lane in range(spec.lanes)]
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
    orderly = _run(spec, link, boxes)
    _flush_output()
    link.close()
    if not orderly:
        # Not by sys.exit(), which waits for threads that the user's code may have started.
        os._exit(EXIT_FAILED)


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
    for opened, places in ((nothing, (0,)), (output, (1, 2))):
        for place in places:
            os.dup2(opened, place)
            os.set_inheritable(place, True)  # which it is not if it was opened there
        if opened not in places:
            os.close(opened)
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


def _run(spec: WorkerSpec, link: Link, boxes: Sequence[BlackBox]) -> bool:
    """Do the worker's job; return whether it got to an orderly end."""
    stage = "start"
    try:
        runner = _runner(spec, link, boxes)
        runner.prepare()
        link.send_early(_hello(spec.worker, spec.token))
        boxes[0].write(Phase.RESTORING, "")
        stage = "restore"
        try:
            if layers := _restore_all(link, spec.token, runner.hold):
                runner.offer(layers)
            link.start()
            stage = runner.stage
            return runner.run()
        finally:
            runner.close()
    except WorkerError as error:
        link.send(wire.WorkerFailed(stage, str(error)))
    except SystemExit as error:
        link.send(wire.WorkerFailed(stage, f"SystemExit({error.code!r}) was raised", usage=True))
    except BaseException:
        link.send(wire.WorkerFailed(stage, traceback.format_exc()))
    return False


def _runner(spec: WorkerSpec, link: Link, boxes: Sequence[BlackBox]) -> Runner:
    """Return what does the job, which alone is imported."""
    if isinstance(spec.job, PytestJob):
        from snapfarm_worker.testing import PytestRunner

        return PytestRunner(spec.job, link, boxes[0], sensors=spec.sensors)
    from snapfarm_worker.tasks import TaskRunner

    return TaskRunner(spec.job, link, boxes, sensors=spec.sensors)


def _hello(worker: str, token: str = "") -> wire.Hello:
    return wire.Hello(
        worker=worker,
        pid=os.getpid(),
        protocol=wire.PROTOCOL_VERSION,
        python=sys.version,
        sqlite=sqlite3.sqlite_version,
        executable=sys.executable,
        platform=platform.platform(),
        cwd=str(Path.cwd()),
        token=token,
    )


# ---------------------------------------------------------------- receiving and restoring


def _restore_all(
    link: Link, token: str, hold: Callable[[wire.DatabaseOrder, Snapshot], object]
) -> tuple[wire.Announce, ...]:
    """Receive, verify and restore every database of the Welcome; return the layers that it offers.

    Raises WorkerError.
    """
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
                    early.append((message, payload[0] if payload else None))
                case _:
                    continue
    if not hmac.compare_digest(welcome.token, token):
        raise ProtocolError("whoever answered is not the coordinator that started this worker")
    if not welcome.databases:
        return ()
    began = time.monotonic()
    receiver = Receiver(welcome.databases, began, welcome.patience)
    for chunk, frame in early:
        receiver.add(chunk, frame, began)
    while True:
        for order, snapshot, repaired in receiver.ready():
            received = time.monotonic() - began
            _restore(link, hold, order, snapshot, received, repaired)
        if not receiver.waiting:
            return welcome.layers
        for question in receiver.questions(time.monotonic()):
            link.send_early(question)
        for message, payload in link.exchange(PATIENCE):
            if isinstance(message, Chunk):
                receiver.add(message, payload[0] if payload else None, time.monotonic())


def _restore(
    link: Link,
    hold: Callable[[wire.DatabaseOrder, Snapshot], object],
    order: wire.DatabaseOrder,
    snapshot: Snapshot,
    received: float,
    repaired: int,
) -> None:
    began = time.monotonic()
    hold(order, snapshot)
    manifest = snapshot.manifest
    link.send_early(
        wire.SnapshotRestored(
            manifest.database, manifest.digest, received, time.monotonic() - began, repaired
        )
    )
