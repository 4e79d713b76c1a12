"""The coordinator's shell: sockets, clock and processes; it decides nothing about items.

`poll()` turns frames, output and deaths into facts (`HubEvent`); the caller feeds them to the
dispatcher and sends what that wants. Snapshots, pulses and the last words of a dying worker are
handled here.

    launched -> greeted (Hello, Welcome) -> ... -> dying (its process ended) -> Died, forgotten

A process that ended is only declared dead when its messages have arrived. Its black box tells how
many items it had finished, and its exit status whether it said goodbye, so the hub knows what is
still to come, and gives up waiting for it after a second.
"""

from __future__ import annotations

import collections
import contextlib
import hmac
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import zmq

from snapfarm.broadcast import Broadcast, Frames
from snapfarm.deadlines import Deadline, Deadlines, Kind
from snapfarm.happenings import Arrived, HubEvent, KillReason, Oddity, Overran, Printed, Silent
from snapfarm.launch.worker import WorkerProcess
from snapfarm.news import NewsStand, bind, send_frames
from snapfarm.peer import Patience, Peer
from snapfarm_worker import blackbox, wire
from snapfarm_worker.errors import ProtocolError
from snapfarm_worker.jobs import WorkerSpec
from snapfarm_worker.wire import RESULTS_SUFFIX, DatabaseOrder, FromWorker, Message

#: How long to wait for the last results of a worker whose process has ended, seconds.
_SETTLE = 1.0
#: How long to wait at least, for what need not come, seconds.
_MOMENT = 0.03
#: How often to look whether a silent worker has been stopped, seconds.
_STILL_SILENT = 1.0
#: Deadlines that the hub enforces; those in haste also while there are messages to read.
_HASTY = frozenset({Kind.KILL, Kind.MOMENT, Kind.SETTLE})
_OURS = _HASTY | {Kind.SILENT}
#: Deadlines that its owner enforces.
_OWNERS = frozenset(Kind) - _OURS
#: How long a worker has to write its stacks before it is killed, seconds.
_STACKS_TIME = 1.0
#: When to kill a process again that has not ended, seconds.
_KILL_AGAIN = 0.2
#: How long the first workers wait for the broadcast before they ask for chunks, seconds.
_BROADCAST_PATIENCE = 5.0
#: At most so many wake-ups are taken at once; they mean the same.
_WAKES = 4096
#: At most this many messages are handled before the caller gets its turn.
_BATCH = 500


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
        bind(self._router, self.control)
        self._news = NewsStand(self._context, self.news)
        self._poller = zmq.Poller()
        self._poller.register(self._router, zmq.POLLIN)
        self._poller.register(self._news.socket, zmq.POLLIN)
        self._wake_reader, self._wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poller.register(self._wake_reader, zmq.POLLIN)
        self._peers: dict[str, Peer] = {}
        self._waiting_for_welcome: list[str] = []
        self._orders: tuple[DatabaseOrder, ...] = ()
        self._layers: tuple[wire.Announce, ...] = ()
        #: Whether the last `poll` took all messages that there were.
        self._drained = True
        #: Frames that could not be understood, by the name of their sender.
        self._oddities: collections.Counter[str] = collections.Counter()
        #: All time limits, those of the hub's owner too.
        self.deadlines = Deadlines()

    @property
    def workers(self) -> tuple[str, ...]:
        """Names of the workers whose death has not been told yet."""
        return tuple(self._peers)

    @property
    def databases(self) -> int:
        """How many databases each worker gets."""
        return len(self._orders)

    @property
    def serving(self) -> bool:
        """Whether the databases are there to be served."""
        return self._news.serving

    @property
    def oddities(self) -> Mapping[str, int]:
        """How many frames of each sender could not be understood; all of them were answered."""
        return dict(self._oddities)

    # ------------------------------------------------------------ workers

    def launch(self, spec: WorkerSpec) -> None:
        """Start a worker process. Raises LaunchError."""
        promised = sum(peer.promised for peer in self._peers.values())
        peer = Peer(spec, self._start, promised=promised)
        self._peers[spec.worker] = peer
        self._poller.register(peer.process.fileno(), zmq.POLLIN)
        self._poller.register(peer.output.fileno(), zmq.POLLIN)

    def serve(
        self,
        broadcast: Broadcast,
        orders: tuple[DatabaseOrder, ...],
        layers: tuple[wire.Announce, ...] = (),
    ) -> None:
        """Set the databases; workers that are waiting for them, and all later ones, get them.

        Of the `layers` they are only told: they ask for those that they need.
        """
        self._news.serve(broadcast)
        self._orders = orders
        self._layers = layers
        waiting, self._waiting_for_welcome = self._waiting_for_welcome, []
        for worker in waiting:
            self._welcome(worker)
        self._publish_when_all_listen()

    def send(self, worker: str, message: Message, payload: Frames | None = None) -> None:
        """Send an order; one to a worker that is gone is dropped, its death is on its way.

        Frames of payload follow it, long ones without being copied.
        """
        if worker in self._peers:
            send_frames(self._router, [worker.encode(), wire.encode(message), *(payload or ())])

    def wake(self) -> None:
        """Make `poll` return now; the one method that may be called from any thread."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_writer, b"x")

    def kill(
        self, worker: str, reason: KillReason, *, key: str = "", step: int = 0, stacks: bool = False
    ) -> None:
        """Kill a worker, after it has written the stacks of its threads if they are wanted.

        With `key`, that is because of one item that it runs, at this step: if that ends before the
        worker is killed, the worker lives on, and an `Overran` tells of it.
        """
        peer = self._peers.get(worker)
        if peer is None or not peer.condemn(reason, key, step):
            return
        at, sooner = self._clock(), self.deadlines.at(Kind.KILL, worker)
        if sooner is not None:
            at = min(at, sooner) if not stacks else sooner
        elif stacks and peer.ask_for_stacks():
            at += _STACKS_TIME
        self.deadlines.set(Kind.KILL, at, worker)

    def spare(self, worker: str, key: str) -> Overran | None:
        """An item has ended: its worker is not killed for it. Return that it was late, if so."""
        peer = self._peers.get(worker)
        late = None if peer is None else peer.spare(key)
        if late is not None and peer is not None and not (peer.sentence or peer.killed):
            self.deadlines.drop(Kind.KILL, worker)
        return late

    def interrupt(self, worker: str) -> None:
        """Send a worker SIGINT, as Ctrl-C would."""
        if worker in self._peers:
            self._peers[worker].process.signal(signal.SIGINT)

    def doing(self, worker: str) -> tuple[blackbox.Record, ...]:
        """Return what a worker does right now in each lane, from its black boxes."""
        peer = self._peers.get(worker)
        return () if peer is None else peer.records()

    def due(self) -> list[Deadline]:
        """Return the owner's deadlines that have passed since the last `poll`."""
        if self.deadlines.blind:
            return []
        return self.deadlines.take_due(self._clock(), _OWNERS)

    # ------------------------------------------------------------ the loop

    def poll(self, timeout: float) -> list[HubEvent]:
        """Wait at most `timeout` seconds for something to happen; return what did, in order."""
        events: list[HubEvent] = []
        left = self.deadlines.left(self._clock())
        wait = timeout if left is None else min(timeout, left)
        ready = dict(self._poller.poll(math.ceil(wait * 1000)))
        self.deadlines.look(self._clock(), wait)
        if self._wake_reader in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_reader, _WAKES)
        if self._news.socket in ready:
            self._news.take_subscriptions()
            self._publish_when_all_listen()
        if self._router in ready:
            events += self._receive()
        now = self._clock()
        for peer in list(self._peers.values()):
            if peer.output.fileno() in ready and (lines := peer.output.read()):
                events.append(Printed(peer.name, lines))
            if peer.process.fileno() in ready and not peer.ended:
                self._poller.unregister(peer.process.fileno())
                peer.reap()
                self.deadlines.forget(peer.name)
                self.deadlines.set(Kind.MOMENT, now + _MOMENT, peer.name)
                self.deadlines.set(Kind.SETTLE, now + _SETTLE, peer.name)
        if not self.deadlines.blind:
            for deadline in self.deadlines.take_due(now, _OURS if self._drained else _HASTY):
                events += self._enforce(deadline.kind, self._peers[deadline.worker], now)
        # Deaths come last, so that what a worker sent before is handled before.
        for peer in list(self._peers.values()):
            if peer.ended and peer.settled(waiting=bool(self._router.poll(0))):
                events += self._bury(peer)
        return events

    def _receive(self) -> Iterator[HubEvent]:
        self._drained = False
        for _ in range(_BATCH):
            try:
                name = self._router.recv(zmq.NOBLOCK)
            except zmq.Again:
                self._drained = True
                return
            head, payload = self._rest()
            sender = name.decode("utf-8", "backslashreplace")
            worker = sender.removesuffix(RESULTS_SUFFIX)
            peer = self._peers.get(worker)
            try:
                if peer is None:
                    raise ProtocolError(f"this farm has no worker {worker!r}")
                peer.warned = False
                self._listen_for(peer, self._silence)
                peer.connected |= sender != worker
                message = wire.decode_from_worker(head)
            except ProtocolError as error:
                self._router.send_multipart([name, wire.encode(wire.Rejected(str(error)))])
                self._oddities[worker] += 1
                yield Oddity(worker, str(error))
                continue
            if (event := self._handle(peer, message, payload)) is not None:
                yield event

    def _rest(self) -> tuple[bytes, Sequence[zmq.Frame]]:
        """Receive what follows a sender's name: the message, then payload without copying it."""
        if not self._router.getsockopt(zmq.RCVMORE):
            return b"", ()
        head = self._router.recv()
        payload: list[zmq.Frame] = []
        while self._router.getsockopt(zmq.RCVMORE):
            payload.append(self._router.recv(copy=False))
        return head, payload

    def _handle(
        self, peer: Peer, message: FromWorker, payload: Sequence[zmq.Frame]
    ) -> HubEvent | None:
        match message:
            case wire.Pulse():
                return None
            case wire.Hello():
                self._greet(peer, message)
            case wire.NeedChunks():
                return self._repair(peer, message)
            case wire.Capturing(output=output, errors=errors):
                peer.captures(output, errors)
                return None
            case wire.ItemFinished():
                peer.finished += 1
            case wire.TaskFinished():
                if not peer.greeted:
                    self._oddities[peer.name] += 1
                    return Oddity(peer.name, "it sent a result before it had shown its token")
                peer.finished += 1
            case wire.SessionEnded() | wire.WorkerFailed():
                peer.goodbye = True
            case wire.Rejected(reason=reason):
                return Oddity(peer.name, f"it rejected a message: {reason}")
            case _:
                pass
        return Arrived(peer.name, message, payload)

    def _greet(self, peer: Peer, hello: wire.Hello) -> None:
        if hello.protocol != wire.PROTOCOL_VERSION:
            self.send(
                peer.name,
                wire.Refused(
                    f"it speaks protocol {hello.protocol}, this farm {wire.PROTOCOL_VERSION}: "
                    "install the same version of snapfarm for both"
                ),
            )
            return
        if not hmac.compare_digest(hello.token, peer.token):
            self._oddities[peer.name] += 1
            self.send(peer.name, wire.Refused("it does not know the token of this worker"))
            return
        peer.greeted = True
        self._listen_for(peer, self._silence)
        if not self._news.serving:
            self._waiting_for_welcome.append(peer.name)
        else:
            self._welcome(peer.name)
            self._publish_when_all_listen()

    # ------------------------------------------------------------ snapshots

    def _welcome(self, worker: str) -> None:
        patience = 0.0 if self._news.published else _BROADCAST_PATIENCE
        token = self._peers[worker].token
        self.send(worker, wire.Welcome(self._orders, patience, token, self._layers))

    def _publish_when_all_listen(self) -> None:
        greeted = sum(peer.greeted for peer in self._peers.values())
        self._news.publish_once(greeted, min(self._expected, len(self._peers)))

    def _repair(self, peer: Peer, question: wire.NeedChunks) -> Oddity | None:
        try:
            for frames in self._news.answer(question):
                send_frames(self._router, [peer.name.encode(), *frames])
        except ProtocolError as error:
            self.send(peer.name, wire.Rejected(str(error)))
            return Oddity(peer.name, str(error))
        return None

    # ------------------------------------------------------------ life and death

    def _listen_for(self, peer: Peer, seconds: float) -> None:
        """Be silent about a worker's silence for so long."""
        if peer.greeted and not peer.ended:
            self.deadlines.set(Kind.SILENT, self._clock() + seconds, peer.name)

    def _enforce(self, kind: Kind, peer: Peer, now: float) -> Iterator[HubEvent]:
        match kind:
            case Kind.KILL:
                yield from peer.spare_ended()
                if not (peer.sentence or peer.killed):
                    return
                peer.execute()
                self.deadlines.set(Kind.KILL, now + _KILL_AGAIN, peer.name)
            case Kind.SILENT if peer.killed:
                pass
            case Kind.SILENT if peer.process.is_stopped():
                self.kill(peer.name, KillReason.STOPPED)
            case Kind.SILENT:
                if not peer.warned:
                    # Alive and busy, say in C code that never lets other threads run: no crime.
                    peer.warned = True
                    yield Silent(peer.name, self._silence)
                self._listen_for(peer, min(_STILL_SILENT, self._silence))
            case Kind.MOMENT:
                peer.waited = Patience.MOMENT
            case Kind.SETTLE:
                peer.waited = Patience.OVER
            case _:
                raise AssertionError(f"not the hub's deadline: {kind}")

    def _bury(self, peer: Peer) -> Iterator[HubEvent]:
        yield from peer.spare_ended()
        if lines := peer.last_lines():
            yield Printed(peer.name, lines)
        self._poller.unregister(peer.output.fileno())
        died = peer.bury()
        del self._peers[peer.name]
        self.deadlines.forget(peer.name)
        # Perhaps the others were waiting for this one.
        self._publish_when_all_listen()
        yield died

    def close(self) -> None:
        """Kill what is left and close the sockets; called once, at the end."""
        self._news.close()
        for peer in list(self._peers.values()):
            peer.process.kill()
            for _ in self._bury(peer):
                pass
        self._router.close()
        self._context.term()
        os.close(self._wake_reader)
        os.close(self._wake_writer)
