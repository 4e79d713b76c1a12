"""A ring in a plain program: no farm, no pytest, several threads, and nothing left behind."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator

import pytest

from snapfarm_worker import connections
from snapfarm_worker.errors import RingError
from snapfarm_worker.members import RingConnection
from snapfarm_worker.ring import Ring, RingKind
from support.golden import CUSTOMERS, ORDERS, golden

SHARING = [RingKind.SHARED_CACHE, RingKind.MEMDB]


@pytest.fixture(params=SHARING)
def ring(request: pytest.FixtureRequest) -> Iterator[Ring]:
    with Ring.restore(golden(), kind=request.param) as ring:
        yield ring


def customers(conn: sqlite3.Connection) -> int:
    return int(conn.execute("SELECT count(*) FROM customers").fetchone()[0])


class Meeting:
    """A connection factory that waits in the middle of connecting until it is told to go on."""

    def __init__(self) -> None:
        self.inside, self.go_on = threading.Event(), threading.Event()

    def __call__(self, *args: object, **options: object) -> sqlite3.Connection:
        self.inside.set()
        assert self.go_on.wait(60)
        return RingConnection(*args, **options)


def connect_slowly(ring: Ring, meeting: Meeting) -> tuple[threading.Thread, list[object]]:
    """Connect on another thread, up to the middle; its list gets the count of customers."""
    found: list[object] = []

    def connect() -> None:
        try:
            with contextlib.closing(ring.connect(factory=meeting)) as conn:
                found.append(customers(conn))
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=connect)
    thread.start()
    assert meeting.inside.wait(60)
    return thread, found


def test_without_the_patch_a_uri_joins_as_sqlite_does_it(ring: Ring) -> None:
    assert sqlite3.connect is connections.original_connect
    with (
        contextlib.closing(sqlite3.connect(ring.uri, uri=True)) as plain,
        contextlib.closing(ring.connect()) as conn,
    ):
        assert type(plain) is sqlite3.Connection
        plain.execute("DELETE FROM customers WHERE id = 1")
        plain.commit()
        assert customers(conn) == CUSTOMERS - 1
        assert ring.reset().tier == "in-place"
        assert customers(plain) == CUSTOMERS


def test_with_the_patch_it_joins_as_a_member(ring: Ring) -> None:
    with (
        connections.installed(),
        contextlib.closing(sqlite3.connect(ring.uri, uri=True)) as conn,
    ):
        assert isinstance(conn, RingConnection)
    assert sqlite3.connect is connections.original_connect


def test_a_ring_that_is_closed_meanwhile_is_still_there_for_who_arrives(ring: Ring) -> None:
    """The database may not vanish between the address and the connection.

    1. A asks the ring for its address. 2. B closes the ring, which nobody else is connected to.
    3. A connects: SQLite would make an empty database of that name.
    """
    meeting = Meeting()
    thread, found = connect_slowly(ring, meeting)
    ring.close()
    meeting.go_on.set()
    thread.join()
    assert found == [CUSTOMERS]
    with contextlib.closing(sqlite3.connect(ring.uri, uri=True)) as conn:
        assert conn.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)


def test_a_private_ring_that_is_closed_meanwhile_refuses_who_arrives() -> None:
    """An empty database would be worse than an error."""
    ring = Ring.restore(golden(), kind=RingKind.PRIVATE)
    meeting = Meeting()
    thread, found = connect_slowly(ring, meeting)
    ring.close()
    meeting.go_on.set()
    thread.join()
    assert [type(each) for each in found] == [RingError]


def test_a_generation_that_is_retired_meanwhile_is_still_there_for_who_arrives(ring: Ring) -> None:
    """1. A asks for the address. 2. B writes. 3. C resets the ring, which has to be retired.

    4. B closes: nobody is left. 5. A connects, to the old generation, which must not be empty.
    """
    blocking = ring.connect(isolation_level=None)
    blocking.execute("DELETE FROM orders")
    assert ring.is_dirty()
    blocking.execute("BEGIN IMMEDIATE")
    ring.mark()
    meeting = Meeting()
    thread, found = connect_slowly(ring, meeting)
    assert ring.reset().tier == "retired"
    blocking.close()
    meeting.go_on.set()
    thread.join()
    assert found == [CUSTOMERS]


def test_threads_connect_write_and_close_at_once(ring: Ring) -> None:
    start = threading.Barrier(8)

    def write(index: int) -> None:
        start.wait(60)
        for number in range(20):
            with contextlib.closing(ring.connect(timeout=60)) as conn, conn:
                conn.execute("INSERT INTO empty VALUES (?)", (index * 100 + number,))

    threads = [threading.Thread(target=write, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ring.snapshot().manifest.rows["empty"] == 160
    assert ring.reset().tier == "in-place"
    with contextlib.closing(ring.connect()) as conn:
        assert conn.execute("SELECT count(*) FROM empty").fetchone() == (0,)
        assert conn.execute("SELECT count(*) FROM orders").fetchone() == (ORDERS,)
