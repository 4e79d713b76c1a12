"""A run on a terminal: a pseudo terminal of a given width, and what a person sees on it.

    seen = on_a_terminal([sys.executable, "-m", "pytest"], cwd=tmp_path, columns=80)
    assert seen.lines[-1] == "1 passed"

`Screen` knows as much of a terminal as pytest and the farm ask of one. It has no bottom: since all
movement is relative, what scrolls out of a real one stays as it is.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from support.suite import LIMIT, clean_environment

_TOKEN = re.compile(r"\x1b\[([0-9;]*)([A-Za-z])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|(.)", re.DOTALL)


class Screen:
    """What is to be seen on a terminal of so many columns."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._rows: list[list[str]] = [[]]
        self._row = self._column = 0
        #: Colours and other markup that were asked for.
        self.markup: set[str] = set()
        #: Every line that stood at the bottom at some time, and is gone.
        self.erased: list[str] = []

    @property
    def lines(self) -> list[str]:
        """The lines, without blanks at their ends."""
        return ["".join(row).rstrip() for row in self._rows]

    def feed(self, text: str) -> None:
        """Take what a program has written."""
        for found in _TOKEN.finditer(text):
            number, command, character = found.groups()
            if character is not None:
                self._write(character)
            elif command is not None:
                self._obey(command, number)

    def _write(self, character: str) -> None:
        if character == "\r":
            self._column = 0
            return
        if character == "\n" or self._column >= self._columns:
            self._row += 1
            if character != "\n":
                self._column = 0
            if self._row == len(self._rows):
                self._rows.append([])
        if character != "\n":
            row = self._rows[self._row]
            row += " " * (self._column + 1 - len(row))
            row[self._column] = character
            self._column += 1

    def _obey(self, command: str, number: str) -> None:
        if command == "m":
            self.markup.add(number)
        elif command == "A":
            self._row = max(0, self._row - int(number or 1))
        elif command == "C":
            self._column = min(self._columns, self._column + int(number or 1))
        elif command in "JK":
            gone = self._rows[self._row][self._column :]
            del self._rows[self._row][self._column :]
            if command == "J":
                for row in self._rows[self._row + 1 :]:
                    gone += row
                    row.clear()
            if text := "".join(gone).strip():
                self.erased.append(text)
        else:
            raise AssertionError(f"a command that this screen does not know: {command!r}")


class Seen(msgspec.Struct, frozen=True):
    """What a finished program has shown."""

    exit_code: int
    lines: list[str]
    erased: list[str]
    markup: set[str]
    raw: str

    @property
    def text(self) -> str:
        """All that is to be seen in the end."""
        return "\n".join(self.lines)

    @property
    def written(self) -> list[str]:
        """The lines as they were written: the terminal's width has not cut them."""
        plain = _TOKEN.sub(lambda found: found[3] or "", self.raw)
        return [line.rstrip() for line in plain.replace("\r", "").split("\n")]


def on_a_terminal(
    command: Sequence[str], *, cwd: Path, columns: int, env: Mapping[str, str] = {}
) -> Seen:
    """Run a program with a terminal as its output, and wait for its end."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {**clean_environment(), "TERM": "xterm", **env}
    for name in ("COLUMNS", "LINES", "CI", "NO_COLOR", "BUILD_NUMBER"):
        if name not in env:
            environment.pop(name, None)
    process = subprocess.Popen(
        command, cwd=cwd, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    data = b""
    try:
        while True:
            try:
                read = os.read(ours, 65536)
            except OSError:  # nobody has the other end any more
                break
            if not read:
                break
            data += read
        exit_code = process.wait(LIMIT)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    raw = data.decode("utf-8", "replace")
    screen = Screen(columns)
    screen.feed(raw)
    return Seen(exit_code, screen.lines, screen.erased, screen.markup, raw)
