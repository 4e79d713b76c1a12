"""What the doctor knows before it judges; sizes in bytes."""

from __future__ import annotations

import enum

import msgspec

from snapfarm.init.facts import EngineFact


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The interpreter, its SQLite, and what the operating system grants."""

    #: As in `CPython 3.11.7`.
    python: str
    implementation: str
    #: Whether the interpreter was built without a global lock, and runs so.
    free_threaded: bool
    sqlite: str
    #: `sqlite3.threadsafety`: 3 serialized, 1 one connection per thread, 0 none.
    threadsafety: int
    #: Whether `sqlite3.Connection` has `serialize` and `deserialize`.
    serialize: bool
    #: By kind of ring: why two connections can't share a database; empty where they can.
    rings: dict[str, str]
    #: Memory that new processes can have; None where that is unknown.
    memory: int | None
    #: Where `memory` is from.
    memory_source: str
    #: Open files that this process may have: now, and if it asks for more; None means no limit.
    descriptors: tuple[int | None, int | None]
    #: Free space of /dev/shm; None where there is none that can be written to.
    shared_memory: int | None
    #: The temporary directory, and its free space; None where it can't be written to.
    temporary: str
    temporary_free: int | None
    start_methods: tuple[str, ...]
    system: str


class Golden(msgspec.Struct, frozen=True, kw_only=True):
    """A golden database: the kind of its ring, and its size if it was ever built here."""

    name: str
    ring: str
    size: int | None


class Plugin(msgspec.Struct, frozen=True):
    """An installed distribution with a plugin for pytest."""

    name: str
    version: str


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """The project as its configuration and its files describe it."""

    root: str
    #: The file of the configuration; empty without one.
    source: str
    workers: int
    start_method: str
    golden: tuple[Golden, ...]
    plugins: tuple[Plugin, ...]
    engines: tuple[EngineFact, ...]
    #: The settings of a Django project whose databases will be golden ones; empty without.
    django: str = ""


class Level(enum.StrEnum):
    """How much a finding matters: an `ERROR` breaks runs, a `WARNING` may."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found, and what to do about it; `remedy` is empty where all is well."""

    check: str
    level: Level
    message: str
    remedy: str = ""
