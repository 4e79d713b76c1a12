"""Stacks as the interpreter's fault handler writes them, without what is no business of a test.

Of the forty frames of a test that crashed, one or two are the project's: pytest, pluggy and the
farm itself are counted only, and threads in which there is nothing else are left out.
"""

from __future__ import annotations

import re
from itertools import groupby

_FRAME = re.compile(r'  File "(?P<path>[^"]*)", line \d+')
_THREAD = re.compile(r"(?:Current thread|Thread) 0x[0-9a-f]+.*\(most recent call first\):")
#: Parts of the paths of frames that are counted only.
_MACHINERY = re.compile(
    r"[\\/](?:_pytest|pluggy|snapfarm_worker|snapfarm|multiprocess|multiprocessing)[\\/]"
    r"|^<string>$|^<frozen "
)
#: The line with which the fault handler begins.
FATAL = "Fatal Python error: "


def without_machinery(text: str) -> str:
    """Return stacks with the project's frames, and those of libraries; others are counted."""
    blocks: list[list[str]] = [[]]
    for line in text.splitlines():
        if _THREAD.match(line):
            blocks.append([])
        blocks[-1].append(line)
    shown = [line for block in blocks if not _idle(block) for line in _abridged(block)]
    return "\n".join(shown) + ("\n" if text.endswith("\n") else "")


def _idle(block: list[str]) -> bool:
    """Whether it is a thread of the farm, or of pytest, and not the one that crashed."""
    frames = [line for line in block if _FRAME.match(line)]
    return block[:1] != [] and block[0].startswith("Thread ") and all(map(_is_machinery, frames))


def _abridged(block: list[str]) -> list[str]:
    lines: list[str] = []
    for machinery, group in groupby(block, _is_machinery):
        found = list(group)
        if machinery:
            plural = "s" if len(found) > 1 else ""
            lines.append(f"  … {len(found)} frame{plural} of pytest and the farm")
        else:
            lines += found
    return lines


def _is_machinery(line: str) -> bool:
    found = _FRAME.match(line)
    return found is not None and _MACHINERY.search(found["path"]) is not None
