"""Lets `sqlite3.connect` know the rings of this process.

Once installed, `sqlite3.connect` looks at the name that it is given. The URI of a ring joins that
ring: at its present generation, with `uri=True` whatever the caller said, as a `RingConnection`.
Any other name goes to sqlite3 untouched.

    URI                                            ring kind
    file:farm-<name>?mode=memory&cache=shared      shared-cache
    file:/farm-<name>?vfs=memdb                    memdb
    file:/farm-<name>?vfs=farm-private             private; SQLite itself refuses this one
"""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
import sqlite3.dbapi2
import sys
import threading
import urllib.parse
import weakref
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Protocol

from snapfarm_worker.members import Home, Member, RingConnection, blend, newborn
from snapfarm_worker.stacks import callers

#: What sqlite3 raises here is the test's own: pytest shows where it called.
__tracebackhide__ = True

PREFIX = "farm-"

#: sqlite3's own; whoever patched it before this module was imported stays in the chain.
original_connect: Callable[..., sqlite3.Connection] = sqlite3.connect

_POSITIONS = (
    "timeout",
    "detect_types",
    "isolation_level",
    "check_same_thread",
    "factory",
    "cached_statements",
    "uri",
)
_DEFAULT_TIMEOUT = 5.0


class Joinable(Home, Protocol):
    """A ring, as connecting sees it."""

    @property
    def patient(self) -> bool:
        """Whether members have to wait for locks themselves."""

    def expect(self) -> str:
        """Return what to connect to just now; restores the ring if that was not done yet.

        It stays there until `arrived()`, which has to follow. Raises RingError once the ring is
        closed.
        """

    def arrived(self) -> None:
        """The connection that was expected is there, or will never be."""

    def welcome(self, conn: sqlite3.Connection, member: Member | None) -> None:
        """Take a new connection in; `member` is None if nothing can be recorded of it."""


class _Entry:
    """A ring in the register."""

    def __init__(self, uri: str, ring: Joinable) -> None:
        self.parameters = frozenset(uri.partition("?")[2].split("&"))
        self.ring = ring


_rings: dict[str, _Entry] = {}
#: Asked, the last one first, whether a connection to no ring is of interest, and to whom.
_outsides: list[Callable[[object], Home | None]] = []
#: Modules that had taken `sqlite3.connect` over before, with the name each of them uses.
_takers: list[tuple[ModuleType, str]] = []
_installs = 0
_install_lock = threading.Lock()


def register(key: str, uri: str, ring: Joinable) -> bool:
    """Make a ring known under its key, which starts with PREFIX; False if the key is taken."""
    return _rings.setdefault(key, _Entry(uri, ring)).ring is ring


def forget(key: str) -> None:
    """Remove a ring from the register."""
    _rings.pop(key, None)


def install() -> None:
    """Patch sqlite3; each call needs its `uninstall()`."""
    global _installs  # the patch is as global as what it patches
    with _install_lock:
        _installs += 1
        if _installs == 1:
            for module in (sqlite3, sqlite3.dbapi2):
                module.connect = connect  # type: ignore[attr-defined]  # two modules of sqlite3
            _takers[:] = _replaced()


def uninstall() -> None:
    """Undo one `install()`; the last one restores sqlite3, unless somebody patched it since."""
    global _installs
    with _install_lock:
        _installs = max(0, _installs - 1)
        if _installs == 0:
            for module in (sqlite3, sqlite3.dbapi2):
                if getattr(module, "connect") is connect:  # noqa: B009  # mypy knows no such name
                    module.connect = original_connect  # type: ignore[attr-defined]  # two modules of sqlite3
            for module, name in _takers:
                if vars(module).get(name) is connect:
                    setattr(module, name, original_connect)
            _takers.clear()


def _replaced() -> list[tuple[ModuleType, str]]:
    """Replace `connect` in modules that have imported it by name; return what was replaced."""
    ours = __name__
    found = [
        (module, name)
        for module in list(sys.modules.values())
        if type(module) is ModuleType and module.__name__ not in (ours, "_sqlite3")
        for name, value in list(vars(module).items())
        if value is original_connect
    ]
    for module, name in found:
        setattr(module, name, connect)
    return found


def watch_others(outside: Callable[[object], Home | None]) -> None:
    """Ask from now on what a connection to no ring belongs to; undone by `ignore_others()`."""
    _outsides.append(outside)


def ignore_others(outside: Callable[[object], Home | None]) -> None:
    """Ask no more."""
    if outside in _outsides:
        _outsides.remove(outside)


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Let `sqlite3.connect` know the rings inside of a `with` block, in all threads."""
    install()
    try:
        yield
    finally:
        uninstall()


@functools.wraps(original_connect)
def _connect(database: object, *args: object, **kwargs: object) -> sqlite3.Connection:
    """Stand in for `sqlite3.connect`."""
    if _rings:
        found = find(database)
        if found is not None:
            return join(found[0], found[1], args, kwargs)
        if _outsides:
            home = _outsides[-1](database)
            if home is not None:
                return _open_outside(home, database, args, kwargs)
    return original_connect(database, *args, **kwargs)


#: A class that takes it over as an attribute must not make a method of it, as of any function.
connect: Callable[..., sqlite3.Connection] = staticmethod(_connect)


def find(database: object) -> tuple[Joinable, str] | None:
    """Return the ring that a database name means, and the URI parameters added to the ring's."""
    if not isinstance(database, str):
        if not isinstance(database, bytes | os.PathLike):
            return None
        database = os.fsdecode(database)
    if not database.startswith("file:"):
        return None
    # An URI's path may be written with slashes, escapes and a fragment; parameters in any order.
    path, _, query = database[5:].partition("#")[0].partition("?")
    key = urllib.parse.unquote(path).lstrip("/")
    if not key.startswith(PREFIX):
        return None
    entry = _rings.get(key)
    if entry is None:
        return None
    given = query.split("&")
    if not entry.parameters.issubset(given):
        return None
    return entry.ring, "".join(f"&{p}" for p in given if p and p not in entry.parameters)


def join(
    ring: Joinable, more: str, args: tuple[object, ...], kwargs: dict[str, object]
) -> sqlite3.Connection:
    """Open a connection to a ring with the arguments of `sqlite3.connect` after the first."""
    options = _options(args, kwargs)
    if options is None:
        return original_connect(":memory:", *args, **kwargs)  # raises what sqlite3 says of it
    address = ring.expect()
    try:
        return _arrive(ring, address + more, options)
    finally:
        ring.arrived()


def _options(args: tuple[object, ...], kwargs: dict[str, object]) -> dict[str, object] | None:
    """Return the arguments by name; None where there are too many, or two of one name."""
    if len(args) > len(_POSITIONS) or any(name in kwargs for name in _POSITIONS[: len(args)]):
        return None
    return dict(zip(_POSITIONS, args, strict=False)) | kwargs


def _arrive(ring: Joinable, address: str, options: dict[str, object]) -> sqlite3.Connection:
    member = _member(ring, options, patient=ring.patient)
    options["uri"] = True
    return _adopted(_opened(member, address, options), ring, member)


def _open_outside(
    home: Home, database: object, args: tuple[object, ...], kwargs: dict[str, object]
) -> sqlite3.Connection:
    """Open a connection to no ring, which tells its home's watcher what it is used for."""
    options = _options(args, kwargs)
    if options is None:
        return original_connect(database, *args, **kwargs)
    member = _member(home, options, patient=False)
    conn = _opened(member, database, options)
    if isinstance(conn, RingConnection):
        member.ref = weakref.ref(conn)
        if home.watcher is not None:
            home.watcher.joined(member)
    return conn


def _member(home: Home, options: dict[str, object], *, patient: bool) -> Member:
    timeout = options.get("timeout", _DEFAULT_TIMEOUT)
    member = Member(
        home,
        patient=patient,
        timeout=float(timeout) if isinstance(timeout, int | float) else _DEFAULT_TIMEOUT,
    )
    member.opened, member.pooled = callers()
    current = threading.current_thread()
    member.thread, member.thread_id = current.name, current.ident or 0
    member.autocommit = options.get("autocommit") is not False
    return member


def _opened(member: Member, address: object, options: dict[str, object]) -> sqlite3.Connection:
    factory = options.get("factory", sqlite3.Connection)
    options["factory"] = blend(factory) if isinstance(factory, type) else factory
    newborn(member)
    try:
        return original_connect(address, **options)
    finally:
        newborn(None)


def _adopted(conn: sqlite3.Connection, ring: Joinable, member: Member) -> sqlite3.Connection:
    if not isinstance(conn, RingConnection) and type(conn) is not sqlite3.Connection:
        # A factory that is a function made an object of a class of its own.
        try:
            conn.__class__ = blend(type(conn))
        except TypeError:
            pass
        else:
            conn.farm_member = member  # type: ignore[attr-defined]  # of a blended class
    known = member if isinstance(conn, RingConnection) else None
    try:
        if isinstance(conn, RingConnection):
            member.ref = weakref.ref(conn, functools.partial(_gone, weakref.ref(ring), member))
        ring.welcome(conn, known)
    except BaseException:
        conn.close()
        raise
    return conn


def _gone(ring: Callable[[], Joinable | None], member: Member, _: object) -> None:
    home = ring()
    if home is not None:
        home.gone(member)
