"""The coordinator's shell: sockets, clock and processes; it decides nothing about items.

`poll()` turns frames, output and deaths into facts (`HubEvent`); the caller feeds them to the
dispatcher and sends what that wants. Snapshots, pulses and the last words of a dying worker are
handled here.

    launched -> greeted (Hello, Welcome) -> ... -> dying (its process ended) -> Died, forgotten

A process that ended is only declared dead when its messages have arrived. Its black box tells how
many items it had finished, and its exit status whether it said goodbye, so the hub knows what is
still to come, and gives up waiting for it after `_SETTLE` seconds.
"""

from __future__ import annotations

import collections
import contextlib
import enum
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import msgspec
import zmq

from snapfarm.broadcast import Broadcast, Frames
from snapfarm.launch.output import OutputPipe, borrow, captured_tail, text_of
from snapfarm.launch.worker import WorkerProcess
from snapfarm_worker import blackbox, wire
from snapfarm_worker.agent import EXIT_FAILED, STACKS_SIGNAL, WorkerFiles, WorkerSpec
from snapfarm_worker.errors import ProtocolError
from snapfarm_worker.wire import RESULTS_SUFFIX, DatabaseOrder, FromWorker, Message

#: How long to wait for the last results of a worker whose process has ended, seconds.
_SETTLE = 1.0
#: How long to wait at least, for what need not come, seconds.
_MOMENT = 0.03
#: Exit statuses of a worker that has sent a last message.
_SAID_GOODBYE = frozenset({0, EXIT_FAILED})
#: How long a worker has to write its stacks before it is killed, seconds.
_STACKS_TIME = 1.0
#: When to kill a process again that has not ended, seconds.
_KILL_AGAIN = 0.2
#: How long the first workers wait for the broadcast before they ask for chunks, seconds.
_BROADCAST_PATIENCE = 5.0
#: At most this many messages are handled before the caller gets its turn.
_BATCH = 500


class KillReason(enum.StrEnum):
    """Why the coordinator killed a worker; empty where it did not."""

    NONE = ""
    TIMEOUT = "timeout"
    STOPPED = "stopped"
    START = "start"
    ENDING = "ending"


class Arrived(msgspec.Struct, frozen=True):
    """A message came from a worker."""

    worker: str
    message: FromWorker


class Printed(msgspec.Struct, frozen=True):
    """A worker wrote complete lines to its output or errors, outside pytest's capture."""

    worker: str
    lines: tuple[str, ...]


class Silent(msgspec.Struct, frozen=True):
    """A worker whose process lives has sent no pulse for `seconds`."""

    worker: str
    seconds: float


class Oddity(msgspec.Struct, frozen=True):
    """A frame that nobody expected; it was answered and counted."""

    worker: str
    what: str


class Died(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's process has ended, and all that it had sent has arrived.

    `record` is what it did last. `exit_code` is negative for a signal, None where unknown.
    `missing` counts items that it finished and whose results were lost.
    """

    worker: str
    record: blackbox.Record
    exit_code: int | None
    killed: KillReason
    #: Captured output of the item that was running, and what went past the capture.
    captured_output: str
    captured_errors: str
    printed: str
    stacks: str
    missing: int

    @property
    def cause(self) -> str:
        """Return how the process ended, as "signal SIGKILL" or "exit status 3"."""
        if self.exit_code is None:
            return "unknown exit status"
        if self.exit_code < 0:
            with contextlib.suppress(ValueError):
                return f"signal {signal.Signals(-self.exit_code).name}"
            return f"signal {-self.exit_code}"
        return f"exit status {self.exit_code}"


HubEvent: TypeAlias = Arrived | Printed | Silent | Oddity | Died


class _Peer:
    """What the hub knows of one worker process."""

    def __init__(self, spec: WorkerSpec, process: WorkerProcess, output: OutputPipe, now: float):
        self.name = spec.worker
        self.files: WorkerFiles = spec.files
        self.process = process
        self.output = output
        #: When anything was last heard of it.
        self.heard = now
        self.greeted = False
        self.warned = False
        #: ItemFinished messages received, to compare with the black box.
        self.finished = 0
        #: Whether its last message has been received.
        self.goodbye = False
        #: Open descriptors of its captured output and errors.
        self.captured: tuple[int, ...] = ()
        self.killed = KillReason.NONE
        #: When to kill it, if that is decided.
        self.kill_at: float | None = None
        #: When its process was seen to have ended, and how it had.
        self.ended_at: float | None = None
        self.exit_code: int | None = None


class Hub:
    """All workers of one farm.

    `pulse` is the workers' interval and `silence` the seconds without one after which a stopped
    process is killed and any other reported; `expected` is how many workers the broadcast waits
    for.
    """

    def __init__(
        self,
        folder: Path,
        start: Callable[[WorkerSpec], WorkerProcess],
        *,
        expected: int,
        silence: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start = start
        self._silence = silence
        self._clock = clock
        self._expected = expected
        self._context = zmq.Context()
        self.control = f"ipc://{folder}/control"
        self.news = f"ipc://{folder}/news"
        self._router = self._context.socket(zmq.ROUTER)
        self._router.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self._bind(self._router, self.control)
        self._publisher = self._context.socket(zmq.XPUB)
        # Every subscription and its end is told, so that the listeners can be counted.
        self._publisher.setsockopt(zmq.XPUB_VERBOSER, 1)
        self._bind(self._publisher, self.news)
        self._poller = zmq.Poller()
        self._poller.register(self._router, zmq.POLLIN)
        self._poller.register(self._publisher, zmq.POLLIN)
        self._peers: dict[str, _Peer] = {}
        self._waiting_for_welcome: list[str] = []
        self._broadcast: Broadcast | None = None
        self._orders: tuple[DatabaseOrder, ...] = ()
        self._served_at: float | None = None
        self._subscribers = 0
        #: Whether the last `poll` took all messages that there were.
        self._drained = True
        self._published = False
        #: Frames that could not be understood, by the name of their sender.
        self._oddities: collections.Counter[str] = collections.Counter()

    @staticmethod
    def _bind(socket: zmq.Socket[bytes], endpoint: str) -> None:
        # Orders and snapshots are never dropped; what bounds them is how much is handed out.
        socket.set_hwm(0)
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind(endpoint)

    @property
    def workers(self) -> tuple[str, ...]:
        """Names of the workers whose death has not been told yet."""
        return tuple(self._peers)

    @property
    def databases(self) -> int:
        """How many databases each worker gets."""
        return len(self._orders)

    @property
    def served_at(self) -> float | None:
        """When the databases were there to be served; None as long as they are not."""
        return self._served_at

    @property
    def oddities(self) -> Mapping[str, int]:
        """How many frames of each sender could not be understood; all of them were answered."""
        return dict(self._oddities)

    # ------------------------------------------------------------ workers

    def launch(self, spec: WorkerSpec) -> None:
        """Start a worker process. Raises LaunchError."""
        output = OutputPipe(spec.files.output)
        try:
            process = self._start(spec)
        except BaseException:
            output.close()
            raise
        peer = _Peer(spec, process, output, self._clock())
        self._peers[spec.worker] = peer
        self._poller.register(process.fileno(), zmq.POLLIN)
        self._poller.register(output.fileno(), zmq.POLLIN)

    def serve(self, broadcast: Broadcast, orders: tuple[DatabaseOrder, ...]) -> None:
        """Set the databases; workers that are waiting for them, and all later ones, get them."""
        self._broadcast, self._orders, self._served_at = broadcast, orders, self._clock()
        waiting, self._waiting_for_welcome = self._waiting_for_welcome, []
        for worker in waiting:
            self._welcome(worker)
        self._publish_when_all_listen()

    def send(self, worker: str, message: Message) -> None:
        """Send an order; one to a worker that is gone is dropped, its death is on its way."""
        if worker in self._peers:
            self._router.send_multipart([worker.encode(), wire.encode(message)])

    def kill(self, worker: str, reason: KillReason, *, stacks: bool = False) -> None:
        """Kill a worker, after it has written the stacks of its threads if they are wanted."""
        peer = self._peers.get(worker)
        if peer is None or peer.killed:
            return
        peer.killed = reason
        peer.kill_at = self._clock()
        if stacks and not peer.process.is_stopped():
            peer.process.signal(STACKS_SIGNAL)
            peer.kill_at += _STACKS_TIME

    def interrupt(self, worker: str) -> None:
        """Send a worker SIGINT, as Ctrl-C would."""
        if worker in self._peers:
            self._peers[worker].process.signal(signal.SIGINT)

    def doing(self, worker: str) -> blackbox.Record:
        """Return what a worker does right now, from its black box."""
        return blackbox.read(self._peers[worker].files.box)

    # ------------------------------------------------------------ the loop

    def poll(self, timeout: float) -> list[HubEvent]:
        """Wait at most `timeout` seconds for something to happen; return what did, in order."""
        events: list[HubEvent] = []
        ready = dict(self._poller.poll(int(self._wait(timeout) * 1000)))
        if self._publisher in ready:
            self._take_subscriptions()
        if self._router in ready:
            events += self._receive()
        now = self._clock()
        for peer in list(self._peers.values()):
            if peer.output.fileno() in ready and (lines := peer.output.read()):
                events.append(Printed(peer.name, lines))
            if peer.process.fileno() in ready and peer.ended_at is None:
                peer.ended_at = now
                self._poller.unregister(peer.process.fileno())
                peer.exit_code = peer.process.reap()
        # Deaths come last, so that what a worker sent before is handled before.
        for peer in list(self._peers.values()):
            if peer.ended_at is not None:
                if self._settled(peer, now):
                    events += self._bury(peer)
            else:
                events += self._check_liveness(peer, now)
        return events

    def _wait(self, timeout: float) -> float:
        """Return how long `poll` may sleep: deadlines of workers come before the caller's."""
        now = self._clock()
        for peer in self._peers.values():
            if peer.ended_at is not None:
                timeout = min(timeout, 0.01)
            elif peer.kill_at is not None:
                timeout = min(timeout, max(0.0, peer.kill_at - now))
        return timeout

    def _receive(self) -> Iterator[HubEvent]:
        self._drained = False
        for _ in range(_BATCH):
            try:
                name, *frames = self._router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                self._drained = True
                return
            worker = name.decode("utf-8", "backslashreplace").removesuffix(RESULTS_SUFFIX)
            peer = self._peers.get(worker)
            try:
                if peer is None:
                    raise ProtocolError(f"this farm has no worker {worker!r}")
                peer.heard, peer.warned = self._clock(), False
                message = wire.decode_from_worker(frames[0] if frames else b"")
            except ProtocolError as error:
                self._router.send_multipart([name, wire.encode(wire.Rejected(str(error)))])
                self._oddities[worker] += 1
                yield Oddity(worker, str(error))
                continue
            if (event := self._handle(peer, message)) is not None:
                yield event

    def _handle(self, peer: _Peer, message: FromWorker) -> HubEvent | None:
        match message:
            case wire.Pulse():
                return None
            case wire.Hello():
                self._greet(peer, message)
            case wire.NeedChunks():
                return self._repair(peer, message)
            case wire.Capturing(output=output, errors=errors):
                peer.captured = tuple(borrow(peer.process.pid, fd) for fd in (output, errors))
                return None
            case wire.ItemFinished():
                peer.finished += 1
            case wire.SessionEnded() | wire.WorkerFailed():
                peer.goodbye = True
            case wire.Rejected(reason=reason):
                return Oddity(peer.name, f"it rejected a message: {reason}")
            case _:
                pass
        return Arrived(peer.name, message)

    def _greet(self, peer: _Peer, hello: wire.Hello) -> None:
        if hello.protocol != wire.PROTOCOL_VERSION:
            self.send(
                peer.name,
                wire.Refused(
                    f"it speaks protocol {hello.protocol}, this farm {wire.PROTOCOL_VERSION}: "
                    "install the same version of snapfarm for both"
                ),
            )
            return
        peer.greeted = True
        if self._broadcast is None:
            self._waiting_for_welcome.append(peer.name)
        else:
            self._welcome(peer.name)
            self._publish_when_all_listen()

    # ------------------------------------------------------------ snapshots

    def _welcome(self, worker: str) -> None:
        patience = 0.0 if self._published else _BROADCAST_PATIENCE
        self.send(worker, wire.Welcome(self._orders, patience))

    def _take_subscriptions(self) -> None:
        with contextlib.suppress(zmq.Again):
            while True:
                frame = self._publisher.recv(zmq.NOBLOCK)
                self._subscribers += 1 if frame[:1] == b"\x01" else -1
        self._publish_when_all_listen()

    def _publish_when_all_listen(self) -> None:
        """Broadcast once, when every worker that is expected has been greeted and listens."""
        if self._published or self._broadcast is None or not self._peers:
            return
        greeted = sum(peer.greeted for peer in self._peers.values())
        if min(greeted, self._subscribers) >= min(self._expected, len(self._peers)):
            self._published = True
            for frames in self._broadcast.everything():
                _send(self._publisher, frames)

    def _repair(self, peer: _Peer, question: wire.NeedChunks) -> Oddity | None:
        try:
            if self._broadcast is None:
                raise ProtocolError("nothing is being broadcast yet")
            for frames in self._broadcast.answer(question):
                _send(self._router, [peer.name.encode(), *frames])
        except ProtocolError as error:
            self.send(peer.name, wire.Rejected(str(error)))
            return Oddity(peer.name, str(error))
        return None

    # ------------------------------------------------------------ life and death

    def _check_liveness(self, peer: _Peer, now: float) -> Iterator[HubEvent]:
        if peer.kill_at is not None and now >= peer.kill_at:
            peer.process.kill()
            peer.kill_at = now + _KILL_AGAIN
            return
        silent = now - peer.heard
        if peer.killed or not peer.greeted or silent < self._silence or not self._drained:
            return
        if peer.process.is_stopped():
            self.kill(peer.name, KillReason.STOPPED)
        elif not peer.warned:
            # Alive and busy, say in C code that never lets other threads run: that is no crime.
            peer.warned = True
            yield Silent(peer.name, silent)

    def _settled(self, peer: _Peer, now: float) -> bool:
        """Return whether a dead worker's results have arrived, or won't any more."""
        if peer.ended_at is None:
            return False
        if now - peer.ended_at >= _SETTLE:
            return True
        if self._router.poll(0):
            return False
        record = blackbox.read(peer.files.box)
        if peer.finished < record.finished:
            return False
        if peer.exit_code in _SAID_GOODBYE and record.phase not in blackbox.RUNNING:
            return peer.goodbye
        # All that counts is here. Other last words can't be counted: allow them a moment.
        return now - peer.ended_at >= _MOMENT

    def _bury(self, peer: _Peer) -> Iterator[HubEvent]:
        if peer.ended_at is None:
            peer.exit_code = peer.process.reap()
        record = blackbox.read(peer.files.box)
        if lines := peer.output.read() + peer.output.rest():
            yield Printed(peer.name, lines)
        captured = [captured_tail(descriptor) for descriptor in peer.captured] or ["", ""]
        died = Died(
            worker=peer.name,
            record=record,
            exit_code=peer.exit_code,
            killed=peer.killed,
            captured_output=captured[0],
            captured_errors=captured[1],
            printed=peer.output.tail(),
            stacks=text_of(peer.files.stacks),
            missing=max(0, record.finished - peer.finished),
        )
        self._poller.unregister(peer.output.fileno())
        peer.output.close()
        peer.process.close()
        for path in (peer.files.box, peer.files.output, peer.files.stacks, peer.files.pid):
            path.unlink(missing_ok=True)
        del self._peers[peer.name]
        # Perhaps the others were waiting for this one.
        self._publish_when_all_listen()
        yield died

    def close(self) -> None:
        """Kill what is left and close the sockets; called once, at the end."""
        self._broadcast = None
        for peer in list(self._peers.values()):
            peer.process.kill()
            for _ in self._bury(peer):
                pass
        self._router.close()
        self._publisher.close()
        self._context.term()


def _send(socket: zmq.Socket[bytes], frames: Frames) -> None:
    """Send frames without copying their payload."""
    *heads, last = frames
    for head in heads:
        socket.send(head, zmq.SNDMORE)
    if isinstance(last, memoryview):
        socket.send(last, copy=False)
    else:
        socket.send(last)
