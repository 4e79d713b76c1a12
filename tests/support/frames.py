"""Frames as ZeroMQ gives them, without a socket."""

from __future__ import annotations


class Payload:
    """A frame with the bytes of a chunk."""

    def __init__(self, data: bytes | memoryview) -> None:
        self.buffer = memoryview(data)
