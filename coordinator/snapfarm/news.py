"""The hub's broadcasting socket: counts its listeners, and sends every snapshot to them once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import zmq

from snapfarm.broadcast import Broadcast, Frames
from snapfarm_worker import wire
from snapfarm_worker.errors import ProtocolError

#: Frames below this size, in bytes, are cheaper to copy than to track.
_COPY_BELOW = 65536


class NewsStand:
    """Holds the broadcast, once there is one, and the socket that it goes out by."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        self.socket = context.socket(zmq.XPUB)
        # Every subscription and its end is told, so that the listeners can be counted.
        self.socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        bind(self.socket, endpoint)
        self._broadcast: Broadcast | None = None
        self._subscribers = 0
        #: Whether everything was sent to all who were there.
        self.published = False

    @property
    def serving(self) -> bool:
        """Whether there is something to serve."""
        return self._broadcast is not None

    def serve(self, broadcast: Broadcast) -> None:
        """Set what is served."""
        self._broadcast = broadcast

    def take_subscriptions(self) -> None:
        """Count who has begun or ceased to listen."""
        with contextlib.suppress(zmq.Again):
            while True:
                frame = self.socket.recv(zmq.NOBLOCK)
                self._subscribers += 1 if frame[:1] == b"\x01" else -1

    def publish_once(self, greeted: int, expected: int) -> None:
        """Broadcast, when every worker that is expected has been greeted and listens."""
        if self.published or self._broadcast is None or not expected:
            return
        if min(greeted, self._subscribers) >= expected:
            self.published = True
            for frames in self._broadcast.everything():
                send_frames(self.socket, frames)

    def answer(self, question: wire.NeedChunks) -> Iterator[Frames]:
        """Yield what a worker asks for. Raises ProtocolError."""
        if self._broadcast is None:
            raise ProtocolError("nothing is being broadcast yet")
        yield from self._broadcast.answer(question)

    def close(self) -> None:
        """Close the socket, and serve nothing any more."""
        self._broadcast = None
        self.socket.close()


def bind(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """Bind a socket that drops nothing; what bounds it is how much is handed out."""
    socket.set_hwm(0)
    socket.setsockopt(zmq.LINGER, 0)
    socket.bind(endpoint)


def send_frames(socket: zmq.Socket[bytes], frames: Frames) -> None:
    """Send frames, long ones without copying them."""
    for left, frame in enumerate(frames, 1 - len(frames)):
        more = zmq.SNDMORE if left else 0
        socket.send(frame, more, copy=memoryview(frame).nbytes < _COPY_BELOW)
