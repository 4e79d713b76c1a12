"""Connections to databases that are no ring, as far as they may be meant for one.

A program that was told a wrong name opens a new, empty database: in memory, in a new file, or under
a name that nearly is a ring's. Other databases are left alone, and get sqlite3's own connections.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import urllib.parse
from collections.abc import Iterable

from snapfarm_worker.members import Member, Watcher

#: From here on, two names are one and a mistake.
_SIMILAR = 0.8


class Outside:
    """What stands in for a ring where a connection belongs to none."""

    database = ""
    generation = 0

    def __init__(self, name: str, watcher: Watcher, *, ring: str, misspelt: bool) -> None:
        #: What was opened, as the program wrote it.
        self.name = name
        self.watcher: Watcher | None = watcher
        #: The database whose ring's address, or nearly that, this is; "" for other names.
        self.ring = ring
        self.misspelt = misspelt

    @property
    def shared(self) -> bool:
        """Whether other connections may have opened the same database."""
        return self.name not in ("", ":memory:") and "::memory:" not in self.name

    def parted(self, member: Member) -> None:
        """A connection was closed."""

    def gone(self, member: Member) -> None:
        """A connection was freed."""

    def members(self) -> list[Member]:
        """Return nobody: these connections are not kept track of."""
        return []


def recognized(
    database: object, rings: Iterable[tuple[str, str]], watcher: Watcher
) -> Outside | None:
    """Return the outside that a database name means; None for one that is left alone.

    `rings` are names of databases with the addresses of their rings.
    """
    if isinstance(database, bytes | os.PathLike):
        database = os.fsdecode(database)
    if not isinstance(database, str):
        return None
    if database in (":memory:", ""):
        return Outside(database, watcher, ring="", misspelt=False)
    if database.startswith("file:"):
        key = _key(database)
        for name, uri in rings:
            exact = key == _key(uri)
            if exact or _is_similar(key, _key(uri)):
                return Outside(database, watcher, ring=name, misspelt=not exact)
        query = database.partition("?")[2]
        if "mode=memory" in query or ":memory:" in key or "vfs=memdb" in query:
            return Outside(database, watcher, ring="", misspelt=False)
        return None
    with contextlib.suppress(OSError, ValueError):
        if os.stat(database).st_size:  # noqa: PTH116  # the name may be anything
            return None
    return Outside(database, watcher, ring="", misspelt=False)


def _is_similar(key: str, other: str) -> bool:
    if not key or abs(len(key) - len(other)) > len(other) // 4:
        return False
    matcher = difflib.SequenceMatcher(None, key, other)
    return matcher.quick_ratio() >= _SIMILAR and matcher.ratio() >= _SIMILAR


def _key(uri: str) -> str:
    path = uri.removeprefix("file:").partition("#")[0].partition("?")[0]
    return urllib.parse.unquote(path).lstrip("/")
