"""What a worker writes: the pipe through which its output comes, and what pytest had captured."""

from __future__ import annotations

import os
from pathlib import Path

#: Characters of a worker's output that are kept for the report of its death.
_KEPT = 16_384
#: Bytes of a killed worker's captured output that are shown.
_TAIL = 8192
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
        try:
            self._writer = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            os.close(self._reader)
            raise
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


def borrow(pid: int, descriptor: int) -> int:
    """Open the file behind another process's descriptor; -1 where that can't be done."""
    try:
        return os.open(f"/proc/{pid}/fd/{descriptor}", os.O_RDONLY)
    except OSError:
        return -1


def captured_tail(descriptor: int) -> str:
    """Return the last bytes of a borrowed file as text, and close it."""
    if descriptor < 0:
        return ""
    try:
        size = os.fstat(descriptor).st_size
        data = os.pread(descriptor, _TAIL, max(0, size - _TAIL))
    except OSError:
        data = b""
    finally:
        os.close(descriptor)
    return data.decode("utf-8", "replace")


def text_of(path: Path, start: int = 0) -> str:
    """Return what stands in a file from a byte on; nothing where there is none."""
    try:
        return path.read_bytes()[start:].decode("utf-8", "replace")
    except OSError:
        return ""
