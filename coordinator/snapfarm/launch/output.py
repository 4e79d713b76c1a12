"""The pipe through which a worker's output and errors come to the coordinator, line by line."""

from __future__ import annotations

import os
from pathlib import Path

#: Characters of a worker's output that are kept for the report of its death.
_KEPT = 16_384
_READ = 1 << 16
#: A longer line is passed on in pieces.
_LONGEST_LINE = 1 << 20
#: Bytes read at a time, so that one chatty worker can't keep the coordinator busy.
_MOST = 1 << 22


class OutputPipe:
    """The reading end of a named pipe.

    It also holds a writing end: without one, the pipe would be at its end whenever no worker has
    it open, and for good if the worker closes its output.
    """

    def __init__(self, path: Path) -> None:
        os.mkfifo(path, 0o600)
        self._reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._writer = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        self._partial = b""
        self._tail = ""

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._reader

    def read(self) -> tuple[str, ...]:
        """Return the complete lines that have arrived."""
        chunks = []
        total = 0
        while total < _MOST:
            try:
                chunk = os.read(self._reader, _READ)
            except BlockingIOError:
                break
            chunks.append(chunk)
            total += len(chunk)
        *lines, self._partial = (self._partial + b"".join(chunks)).split(b"\n")
        if len(self._partial) > _LONGEST_LINE:
            lines.append(self._partial)
            self._partial = b""
        return self._kept(lines)

    def rest(self) -> tuple[str, ...]:
        """Return what was written after the last line end, once nothing more can come."""
        partial, self._partial = self._partial, b""
        return self._kept([partial]) if partial else ()

    def _kept(self, lines: list[bytes]) -> tuple[str, ...]:
        texts = tuple(line.decode("utf-8", "replace") for line in lines)
        if texts:
            self._tail = (self._tail + "\n".join(texts) + "\n")[-_KEPT:]
        return texts

    def tail(self) -> str:
        """Return the last lines that the worker wrote."""
        return self._tail

    def close(self) -> None:
        """Close both ends."""
        os.close(self._reader)
        os.close(self._writer)
