"""What the runners' workers run; it imports little, since every worker imports it.

Each task is there twice: the pool's gets its connection, the peers' take the one that their
initializer has left in the process, as their users do it.
"""

from __future__ import annotations

import os
import pickle
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

#: What a short task takes, in seconds.
SHORT = 0.001
#: How long a worker that has answered stays out of the way of those that have not, in seconds.
_ASIDE = 0.005

_QUERY = "SELECT code FROM t7 WHERE id = ?"

#: The peers' database of this process.
_here: sqlite3.Connection | None = None


def open_database(source: bytes | Path) -> None:
    """Deserialize an image, or the content of a file, into a connection of this process's own."""
    global _here  # as global as the process
    # Dask opens in one thread and runs tasks in another.
    _here = sqlite3.connect(":memory:", check_same_thread=False)
    _here.deserialize(source if isinstance(source, bytes) else source.read_bytes())


def nothing(value: int) -> int:
    """Do nothing."""
    return value


def query(value: int) -> int:
    """Read one row by its key."""
    assert _here is not None
    return query_on(_here, value)


def busy(value: int) -> int:
    """Use a millisecond of the processor, whoever else wants it."""
    until = time.thread_time() + SHORT
    while time.thread_time() < until:
        pass
    return value


def asleep(value: int) -> int:
    """Wait a millisecond, as for a network."""
    time.sleep(SHORT)
    return value


def answer(value: int) -> int:
    """Read one row, and tell which process did."""
    query(value)
    return _aside()


def nothing_on(conn: sqlite3.Connection, value: int) -> int:
    """Do nothing."""
    return value


def query_on(conn: sqlite3.Connection, value: int) -> int:
    """Read one row by its key."""
    code: int = conn.execute(_QUERY, (value,)).fetchone()[0]
    return code


def busy_on(conn: sqlite3.Connection, value: int) -> int:
    """Use a millisecond of the processor, whoever else wants it."""
    return busy(value)


def asleep_on(conn: sqlite3.Connection, value: int) -> int:
    """Wait a millisecond, as for a network."""
    return asleep(value)


def answer_on(conn: sqlite3.Connection, value: int) -> int:
    """Read one row, and tell which process did."""
    query_on(conn, value)
    return _aside()


def _aside() -> int:
    time.sleep(_ASIDE)
    return os.getpid()


def each_packed(function: Callable[[int], int], values: Sequence[int]) -> bytes:
    """Run a task for each value, and pickle the results: a chunk, where a runner has none."""
    return pickle.dumps([function(value) for value in values], protocol=5)


def contend(
    conn: sqlite3.Connection, begin: float, seconds: float, keys: Sequence[int]
) -> tuple[int, float, list[str]]:
    """Read four rows and commit a change of one, again and again.

    From the time `begin` of the monotonic clock on, for some seconds. Returns the operations that
    succeeded, the seconds of the slowest, and what errors said.
    """
    done, slowest, errors = 0, 0.0, []
    time.sleep(max(0.0, begin - time.monotonic()))
    after = begin
    while after < begin + seconds:
        key = keys[done % len(keys)]
        before = time.monotonic()
        try:
            if done % 5:
                query_on(conn, key)
            else:
                conn.execute("UPDATE t7 SET code = code + 1 WHERE id = ?", (key,))
                conn.commit()
            done += 1
        except sqlite3.Error as error:
            errors.append(f"{type(error).__name__}: {error}")
            conn.rollback()
        after = time.monotonic()
        slowest = max(slowest, after - before)
    return done, slowest, errors
