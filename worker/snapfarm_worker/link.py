"""A worker's sockets: orders in, results out, snapshots by broadcast.

Until `start()` the main thread has the sockets to itself and receives the snapshots; afterwards an
I/O thread sends pulses, takes orders at once, also while modules are imported or a test runs, and
ends the process when its coordinator is gone. Results may be sent from any thread.
"""

from __future__ import annotations

import os
import select
import sys
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import zmq

from snapfarm_worker import wire
from snapfarm_worker.errors import ProtocolError
from snapfarm_worker.originals import exit_now, kill, monotonic, new_lock, new_poll, start_thread
from snapfarm_worker.wire import RESULTS_SUFFIX, Message, ToWorker

#: Takes an order with the frames that follow it; what it returns is sent as the answer.
OrderHandler: TypeAlias = Callable[[ToWorker, Sequence[zmq.Frame]], Message | None]

#: Takes a chunk with its bytes.
ChunkHandler: TypeAlias = Callable[[wire.Chunk, Sequence[zmq.Frame]], None]

#: Exit status of a worker whose coordinator is gone.
EXIT_ORPHANED = 75
#: Exit status of a worker whose I/O thread failed.
EXIT_LINK_FAILED = 76

#: How long the last messages may take to leave, milliseconds.
_LINGER = 10_000

#: Frames below this size, in bytes, are cheaper to copy than to track.
_COPY_BELOW = 65536


class Link:
    """The connection of a worker to its coordinator.

    `coordinator` is the coordinator's process id; `pulse` the seconds between two pulses.
    """

    def __init__(
        self, worker: str, control: str, broadcast: str, *, coordinator: int, pulse: float
    ) -> None:
        self.worker = worker
        self._pulse = pulse
        #: Whether this is a child that a test has forked.
        self._forked = False
        forked = weakref.WeakMethod(self._note_fork)
        os.register_at_fork(after_in_child=lambda: (found := forked()) and found())
        self._context = zmq.Context()
        self._news = self._context.socket(zmq.SUB)
        self._news.set_hwm(0)
        self._news.subscribe(b"")
        self._news.connect(broadcast)
        self._orders = self._dealer(worker, control)
        self._results = self._dealer(worker + RESULTS_SUFFIX, control)
        self._sending = new_lock()
        self._stopped = False
        self._wake_reader, self._wake_writer = os.pipe()
        #: Held by the I/O thread as long as it runs.
        self._running = new_lock()
        #: Guards the two below.
        self._ordering = new_lock()
        self._handler: OrderHandler | None = None
        #: Takes chunks, in the I/O thread.
        self._take_chunk: ChunkHandler | None = None
        #: Orders that came before there was anybody to give them to.
        self._early: list[tuple[ToWorker, Sequence[zmq.Frame]]] = []
        self._last_pulse = 0.0
        self._at_pulse: Callable[[], object] | None = None
        self._parent = _Parent(coordinator)

    def _dealer(self, name: str, endpoint: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.DEALER)
        socket.set_hwm(0)
        socket.setsockopt(zmq.IDENTITY, name.encode())
        socket.setsockopt(zmq.LINGER, _LINGER)
        socket.connect(endpoint)
        return socket

    def send(self, message: Message, payload: Sequence[bytes | memoryview] = ()) -> None:
        """Send a result, and behind it frames of payload, long ones without copying them.

        Never blocks; a forked child of a test that gets here is ended. Raises ProtocolError for a
        message that is too long.
        """
        self.end_if_forked()
        frame = wire.encode(message)
        if len(frame) > wire.MESSAGE_LIMIT:
            raise ProtocolError(
                f"{type(message).__name__} of {len(frame)} bytes is over the limit of "
                f"{wire.MESSAGE_LIMIT}"
            )
        with self._sending:
            more = zmq.SNDMORE if payload else 0
            self._results.send(frame, more, copy=len(frame) < _COPY_BELOW)
            for left, part in enumerate(payload, 1 - len(payload)):
                self._results.send(
                    part, zmq.SNDMORE if left else 0, copy=memoryview(part).nbytes < _COPY_BELOW
                )

    def _note_fork(self) -> None:
        self._forked = True

    def end_if_forked(self) -> None:
        """End a forked child of a test; to be called before a lock that another thread may hold."""
        if self._forked:
            exit_now(0)

    def send_early(self, message: Message) -> None:
        """Send on the orders socket, before `start()`: it makes the worker known by its name."""
        self._orders.send(wire.encode(message))

    def exchange(self, timeout: float) -> Iterator[tuple[ToWorker, Sequence[zmq.Frame]]]:
        """Wait for messages at most `timeout` seconds, before `start()`; yield what is there.

        Yields each message with its payload frames. Keeps the pulse going.
        """
        self._beat()
        poller = zmq.Poller()
        poller.register(self._news, zmq.POLLIN)
        poller.register(self._orders, zmq.POLLIN)
        self._parent.register(poller.register)
        for socket, _ in poller.poll(int(min(timeout, self._pulse) * 1000)):
            if isinstance(socket, int):
                exit_now(EXIT_ORPHANED)
            yield from self._drain(socket)
        self._parent.check()

    def _drain(self, socket: zmq.Socket[bytes]) -> Iterator[tuple[ToWorker, Sequence[zmq.Frame]]]:
        while True:
            try:
                head, *payload = socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            try:
                message = wire.decode_to_worker(head.buffer)
            except ProtocolError as error:
                self._orders.send(wire.encode(wire.Rejected(str(error))))
                continue
            yield message, payload

    def start(self) -> None:
        """Hand the orders socket to the I/O thread."""
        self._news.close()
        self._running.acquire()
        start_thread(self._run, ())

    def take_orders(self, handle: OrderHandler) -> None:
        """Give each order to `handle`, beginning with those that have come since `start()`.

        It runs in the I/O thread: it must be quick.
        """
        with self._ordering:
            early, self._early = self._early, []
            for order, payload in early:
                self._answer(handle, order, payload)
            self._handler = handle

    def take_chunks(self, take: ChunkHandler) -> None:
        """Give each chunk that comes after `start()` to `take`; without it they are dropped.

        A repair may come after the broadcast that it was to repair, so some may be nobody's.
        """
        self._take_chunk = take

    def each_pulse(self, call: Callable[[], object]) -> None:
        """Call a function at each pulse, in the I/O thread; one that raises is never called again.

        It must be quick.
        """
        self._at_pulse = call

    def _take(self, order: ToWorker, payload: Sequence[zmq.Frame]) -> None:
        with self._ordering:
            if self._handler is None:
                self._early.append((order, payload))
            else:
                self._answer(self._handler, order, payload)

    def _answer(self, handle: OrderHandler, order: ToWorker, payload: Sequence[zmq.Frame]) -> None:
        answer = handle(order, payload)
        if answer is not None:
            self.send(answer)

    def _run(self) -> None:
        try:
            orders = self._orders.fileno()
            poller = new_poll()
            poller.register(orders, select.POLLIN)
            poller.register(self._wake_reader, select.POLLIN)
            self._parent.register(poller.register)
            while not self._stopped:
                self._beat()
                # A socket's descriptor tells only that something came since the socket was last
                # used. So all is taken before the wait, and nothing is sent in between.
                for message, payload in self._drain(self._orders):
                    if not isinstance(message, wire.Chunk):
                        self._take(message, payload)
                    elif self._take_chunk is not None:
                        self._take_chunk(message, payload)
                for descriptor, _ in poller.poll(int(self._pulse * 1000)):
                    if descriptor == self._wake_reader:
                        return
                    if descriptor != orders:
                        exit_now(EXIT_ORPHANED)
                self._parent.check()
        except Exception:
            if not self._stopped:
                traceback.print_exc(file=sys.__stderr__)
                exit_now(EXIT_LINK_FAILED)
        finally:
            self._running.release()

    def _beat(self) -> None:
        now = monotonic()
        if now - self._last_pulse >= self._pulse * 0.9:
            self._last_pulse = now
            self._orders.send(wire.encode(wire.Pulse(self.worker)))
            if self._at_pulse is not None:
                try:
                    self._at_pulse()
                except Exception:  # a full disk, say, is no reason to end
                    self._at_pulse = None

    def close(self) -> None:
        """Send what is still queued, then close; waits at most ten seconds."""
        self._stopped = True
        os.write(self._wake_writer, b"x")
        self._running.acquire(timeout=self._pulse + 1)
        self._orders.close()
        self._results.close()
        if not self._news.closed:
            self._news.close()
        self._context.term()


class _Parent:
    """Watches whether the coordinator lives: by a process descriptor, or by asking for it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        try:
            self._descriptor: int | None = os.pidfd_open(pid)
        except ProcessLookupError:
            exit_now(EXIT_ORPHANED)
        except (AttributeError, OSError):
            self._descriptor = None

    def register(self, register: Callable[[int, int], object]) -> None:
        if self._descriptor is not None:
            register(self._descriptor, select.POLLIN)

    def check(self) -> None:
        if self._descriptor is not None:
            return
        try:
            kill(self._pid, 0)
        except ProcessLookupError:
            exit_now(EXIT_ORPHANED)
