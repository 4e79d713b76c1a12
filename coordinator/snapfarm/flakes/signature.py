"""What a failure looks like without what differs from run to run; equal ones are one cluster."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import pytest

#: Exception name of a failure that was the end of a process.
CRASH = "crash"
#: Exception name of a failure whose report names none.
UNKNOWN = "failure"
#: Characters of a message that count.
_LONGEST = 300

_UUID = re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE)
_ADDRESS = re.compile(r"\b0x[0-9a-f]+\b", re.IGNORECASE)
_DIGEST = re.compile(r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{12,}\b", re.IGNORECASE)
_PATH = re.compile(r"(?<![\w.])/(?:[\w.@+-]+/)+[\w.@+-]*")
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?", re.IGNORECASE)
_EXCEPTION = re.compile(r"^((?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*)(?::\s?|$)")
_FOREIGN = ("site-packages", "dist-packages", "/lib/python", "<")


class Signature(msgspec.Struct, frozen=True):
    """The exception's type, its normalised message, and the innermost frame in the project."""

    exception: str
    message: str = ""
    #: Path and line as "tests/test_a.py:12"; empty where no frame is in the project.
    frame: str = ""

    @property
    def cluster(self) -> tuple[str, str, str]:
        """What failures of one cause share: all but the line, which moves with each edit."""
        return self.exception, self.message, self.frame.rpartition(":")[0]

    def __str__(self) -> str:
        where = f" at {self.frame}" if self.frame else ""
        return (
            f"{self.exception}: {self.message}{where}" if self.message else self.exception + where
        )


def normalized(text: str) -> str:
    """Return a message with ids, addresses, paths and numbers replaced by what they are."""
    text = " ".join(text.split())[: 4 * _LONGEST]
    text = _UUID.sub("<uuid>", text)
    text = _ADDRESS.sub("<address>", text)
    text = _DIGEST.sub("<digest>", text)
    text = _PATH.sub("<path>", text)
    return _NUMBER.sub("<n>", text)[:_LONGEST]


def named(text: str) -> tuple[str, str]:
    """Split a message as a traceback ends with, "ValueError: no", into exception and message."""
    text = text.strip()
    if text.startswith("assert ") or not text:
        return ("AssertionError" if text else UNKNOWN), text
    if (found := _EXCEPTION.match(text)) and (found[1][:1].isupper() or "." in found[1]):
        return found[1].rpartition(".")[2], text[found.end() :]
    return UNKNOWN, text


def of_report(report: pytest.TestReport, root: Path) -> Signature:
    """Return the signature of a failed report."""
    if getattr(report, "farm_crash", False):
        return Signature(CRASH, normalized(str(report.longrepr).splitlines()[-1]))
    longrepr = report.longrepr
    crash = getattr(longrepr, "reprcrash", None)
    text = str(crash.message) if crash is not None else last_line(str(longrepr or ""))
    exception, message = named(text)
    frames = [
        (str(entry.reprfileloc.path), int(entry.reprfileloc.lineno))
        for entry in getattr(getattr(longrepr, "reprtraceback", None), "reprentries", ())
        if getattr(entry, "reprfileloc", None) is not None
    ]
    return Signature(exception, normalized(message), innermost(frames, root))


def last_line(text: str) -> str:
    """Return the line of a traceback's text that names the exception."""
    lines = [line for line in text.splitlines() if line.strip()]
    marked = [line[1:].strip() for line in lines if line.startswith("E ")]
    return marked[0] if marked else (lines[-1].strip() if lines else "")


def innermost(frames: Iterable[tuple[str, int]], root: Path) -> str:
    """Return the last of the frames that is the project's own, relative to its root."""
    shown = ""
    for path, line in frames:
        place = Path(path)
        if place.is_absolute() and not place.is_relative_to(root):
            continue
        relative = place.relative_to(root).as_posix() if place.is_absolute() else place.as_posix()
        if not any(part in relative for part in _FOREIGN) and not relative.startswith("../"):
            shown = f"{relative}:{line}"
    return shown


def clusters(failures: Mapping[str, Signature]) -> list[tuple[Signature, tuple[str, ...]]]:
    """Group failed tests by signature, the largest group first; each with one of its signatures."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for test, signature in failures.items():
        groups.setdefault(signature.cluster, []).append(test)
    found = [(failures[tests[0]], tuple(tests)) for tests in groups.values()]
    return sorted(found, key=lambda group: (-len(group[1]), group[1]))
