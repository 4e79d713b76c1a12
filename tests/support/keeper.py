"""A keeper of states that notes each call and can fail or wait, and what fills a ring with rows."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable

from snapfarm_worker.persistent import PersistentRing
from snapfarm_worker.snapshot import Snapshot


class NotingKeeper:
    """Keeps the latest state of each database in a dict."""

    def __init__(self) -> None:
        self.states: dict[str, Snapshot] = {}
        #: Every state that `keep` was given and took.
        self.kept: list[Snapshot] = []
        #: How often `latest` was asked.
        self.asked = 0
        #: Raised by `keep`, as long as it is set.
        self.error: Exception | None = None
        #: Set whenever `keep` was called, whatever came of it.
        self.called = threading.Event()
        #: `keep` waits for it.
        self.go_on = threading.Event()
        self.go_on.set()

    def keep(self, snapshot: Snapshot) -> None:
        """Keep a state."""
        self.called.set()
        assert self.go_on.wait(60)
        if self.error is not None:
            raise self.error
        self.kept.append(snapshot)
        self.states[snapshot.manifest.database] = snapshot

    def latest(self, database: str) -> Snapshot | None:
        """Return the state that was kept last."""
        self.asked += 1
        return self.states.get(database)


def insert(conn: sqlite3.Connection, value: int = 1) -> None:
    """Insert a value into the table `empty`."""
    conn.execute("INSERT INTO empty VALUES (?)", (value,))


def add(ring: PersistentRing, value: int = 1) -> None:
    """Insert a value on a connection of its own, which is then closed."""
    with contextlib.closing(ring.connect(timeout=60)) as conn, conn:
        insert(conn, value)


def values(ring: PersistentRing) -> list[int]:
    """Return the values of the table `empty`, by a connection of its own."""
    with contextlib.closing(ring.connect(timeout=60)) as conn:
        return [row[0] for row in conn.execute("SELECT x FROM empty ORDER BY x")]


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        threading.Event().wait(0.001)


def on_a_thread(function: Callable[[], object]) -> threading.Thread:
    """Start a function on a thread."""
    thread = threading.Thread(target=function)
    thread.start()
    return thread
