"""Tasks of worker pools that workers import by name, and values that are hard to ship."""

from __future__ import annotations

import os
import pickle
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn, SupportsIndex

#: Seconds after which a test takes a pool for stuck.
LIMIT = 60.0

SCHEMA = """
CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE written (task INTEGER, thread TEXT);
INSERT INTO items(name) VALUES ('one'), ('two'), ('three');
"""


def echo(conn: sqlite3.Connection, value: object = None) -> object:
    """Return the argument."""
    del conn
    return value


def rows(conn: sqlite3.Connection, table: str = "written") -> int:
    """Count the rows of a table."""
    count: int = conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    return count


def write(conn: sqlite3.Connection, task: int) -> int:
    """Write a row and commit it."""
    with conn:
        conn.execute("INSERT INTO written VALUES (?, ?)", (task, threading.current_thread().name))
    return task


def rows_of_both(conns: Mapping[str, sqlite3.Connection]) -> dict[str, int]:
    """Count the items of each database."""
    return {name: rows(conn, "items") for name, conn in conns.items()}


def whoami(conn: sqlite3.Connection) -> tuple[int, str]:
    """Return the process and the thread."""
    del conn
    return os.getpid(), threading.current_thread().name


def die(conn: sqlite3.Connection, number: int = signal.SIGKILL) -> NoReturn:
    """Kill the worker."""
    del conn
    os.kill(os.getpid(), number)
    time.sleep(LIMIT)
    raise AssertionError("the signal did not kill")


def die_at(conn: sqlite3.Connection, value: int, fatal: int, once: str = "") -> int:
    """Kill the worker at one value; with the path of a file `once`, only if that is not there."""
    if value == fatal and not (once and Path(once).exists()):
        if once:
            Path(once).touch()
        die(conn)
    return value


def leave_process(conn: sqlite3.Connection, status: int) -> NoReturn:
    """End the worker without a word."""
    del conn
    sys.stderr.write("these are my last words\n")
    sys.stderr.flush()
    os._exit(status)


def hold(conn: sqlite3.Connection, folder: str, name: str = "held") -> str:
    """Tell by a file that it runs, and run until a file `go` is there."""
    del conn
    Path(folder, name).write_text(str(os.getpid()))
    while not Path(folder, "go").exists():
        time.sleep(0.002)
    return name


def stick(conn: sqlite3.Connection) -> None:
    """Wait for nothing; its stack stays the same while it is being written."""
    del conn
    threading.Event().wait(300)


def outlast(conn: sqlite3.Connection, value: int, late: int) -> int:
    """Return the value; the late one not before the farm has asked for stacks."""
    while value == late:
        for descriptor in range(100):
            try:
                path = Path(f"/proc/self/fd/{descriptor}").readlink()
            except OSError:
                continue
            if path.suffix == ".stacks" and path.stat().st_size:
                return value
        time.sleep(0.01)
    return value


def fail(conn: sqlite3.Connection, error: BaseException) -> NoReturn:
    """Raise what it is given."""
    del conn
    raise error


class Liar(Exception):
    """Its `__init__` wants other arguments than it passes on."""

    def __init__(self, code: int, where: str) -> None:
        super().__init__(f"code {code} at {where}")
        self.code = code
        self.where = where


class Mute(Exception):
    """It can't be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class Unpicklable(Exception):
    """It holds what can't travel."""

    def __init__(self, text: str) -> None:
        super().__init__(text, (n for n in range(3)))

    def __str__(self) -> str:
        return str(self.args[0])


class Rude(Exception):
    """What packs it ends the program, or would."""

    def __reduce__(self) -> NoReturn:
        raise SystemExit("reduced")


def fail_as(conn: sqlite3.Connection, kind: str) -> NoReturn:
    """Raise an exception of one of the classes above."""
    del conn
    errors: dict[str, BaseException] = {
        "liar": Liar(7, "home"),
        "mute": Mute(),
        "unpicklable": Unpicklable("some words"),
        "rude": Rude("rude words"),
        "surrogate": ValueError("no text: \udcff"),
        "group": ExceptionGroup("two", [ValueError(1), KeyError("k")]),
        "exit": SystemExit(3),
    }
    raise errors[kind]


class HomeRefuses:
    """Travels to another process, but what unpacks it there raises."""

    def __init__(self, kind: str = "ValueError") -> None:
        self.kind = kind
        self.maker = os.getpid()

    def __setstate__(self, state: dict[str, object]) -> None:
        if state["maker"] == os.getpid():
            return
        if state["kind"] == "SystemExit":
            raise SystemExit("unpacked")
        raise ValueError("unpacked")


def home_refuses(conn: sqlite3.Connection, kind: str) -> HomeRefuses:
    """Return what can't be unpacked at home."""
    del conn
    return HomeRefuses(kind)


class Block:
    """A large buffer, as arrays have it: out of band where the pickler can do that."""

    def __init__(self, data: bytearray | memoryview) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[type[Block], tuple[object]]:
        return Block, (pickle.PickleBuffer(self.data),)


def flip(conn: sqlite3.Connection, block: Block) -> tuple[bool, Block]:
    """Tell whether a block came without being copied into the pickle; return another one."""
    del conn
    return isinstance(block.data, memoryview), Block(bytearray(bytes(block.data)[::-1]))
