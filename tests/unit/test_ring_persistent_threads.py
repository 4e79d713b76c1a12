"""A persistent ring in the hands of threads, forks and whole programs: no row is lost."""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapfarm_worker.errors import RingError
from snapfarm_worker.members import RingConnection
from snapfarm_worker.persistent import PersistentRing
from snapfarm_worker.ringkind import RingKind
from support.golden import golden
from support.keeper import NotingKeeper, add, insert, on_a_thread, values

GOLDEN = golden()


@pytest.fixture
def keeper() -> NotingKeeper:
    return NotingKeeper()


@pytest.fixture(params=[RingKind.SHARED_CACHE, RingKind.MEMDB])
def ring(request: pytest.FixtureRequest, keeper: NotingKeeper) -> Iterator[PersistentRing]:
    ring = PersistentRing(GOLDEN, keeper, kind=request.param)
    yield ring
    ring.close(discard=True)


# ---------------------------------------------------------------- threads


def test_who_connects_while_the_last_one_stores_gets_all_rows(
    ring: PersistentRing, keeper: NotingKeeper
) -> None:
    """1. A commits and closes, as the last one. 2. The keeper takes its time. 3. B connects.

    4. The keeper is done, and the memory goes. 5. B must find A's row, not an empty database.
    """
    keeper.go_on.clear()
    closing = on_a_thread(lambda: add(ring, 1))
    assert keeper.called.wait(60)
    found: list[int] = []
    connecting = on_a_thread(lambda: found.extend(values(ring)))
    keeper.go_on.set()
    closing.join()
    connecting.join()
    assert found == [1]


def test_the_ring_stays_for_who_is_in_the_middle_of_connecting(ring: PersistentRing) -> None:
    """1. A asks for the address. 2. B, the only one connected, commits and closes.

    3. A connects: the database must not have gone meanwhile, nor be an empty one.
    """
    inside, go_on = threading.Event(), threading.Event()
    found: list[int] = []

    class Slow(sqlite3.Connection):
        def __init__(self, *args: object, **options: object) -> None:
            inside.set()
            assert go_on.wait(60)
            super().__init__(*args, **options)  # type: ignore[arg-type]  # as they come

    def connect() -> None:
        with contextlib.closing(ring.connect(factory=Slow)) as conn:
            assert isinstance(conn, RingConnection)
            found.extend(row[0] for row in conn.execute("SELECT x FROM empty"))

    with contextlib.closing(ring.connect()) as conn, conn:
        insert(conn)
        thread = on_a_thread(connect)
        assert inside.wait(60)
    assert ring.is_awake
    go_on.set()
    thread.join()
    assert found == [1]
    assert not ring.is_awake


def test_giving_up_while_somebody_connects_leaves_nothing_behind(ring: PersistentRing) -> None:
    """1. A asks for the address. 2. B closes the ring and gives it up. 3. A is refused."""
    errors: list[Exception] = []
    inside, go_on = threading.Event(), threading.Event()

    def slow(*args: object, **options: object) -> sqlite3.Connection:
        inside.set()
        assert go_on.wait(60)
        return RingConnection(*args, **options)

    def connect() -> None:
        try:
            ring.connect(factory=slow)
        except RingError as error:
            errors.append(error)

    thread = on_a_thread(connect)
    assert inside.wait(60)
    ring.close(discard=True)
    go_on.set()
    thread.join()
    assert "given up" in str(errors[0])


def test_eight_threads_lose_no_row(ring: PersistentRing) -> None:
    start = threading.Barrier(8)

    def work(index: int) -> None:
        start.wait(60)
        for number in range(200):
            add(ring, index * 1000 + number)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [on_a_thread(functools.partial(work, index)) for index in range(8)]
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not ring.is_awake
    assert values(ring) == sorted(i * 1000 + n for i in range(8) for n in range(200))


# ---------------------------------------------------------------- processes


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("connected", [True, False])
def test_a_forked_child_has_a_copy_of_its_own(ring: PersistentRing, connected: bool) -> None:
    add(ring, 1)
    conn = ring.connect() if connected else None
    child = os.fork()
    if child == 0:
        status = 1
        try:
            add(ring, 2)
            status = 0 if values(ring) == [1, 2] else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    if conn is not None:
        conn.close()
    assert values(ring) == [1]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_waits_until_no_other_thread_has_the_lock(
    ring: PersistentRing, keeper: NotingKeeper
) -> None:
    """1. A stores, with the lock held. 2. B forks. 3. The child connects, and A is not there."""
    keeper.go_on.clear()
    storing = on_a_thread(lambda: add(ring, 1))
    assert keeper.called.wait(60)
    threading.Timer(0.01, keeper.go_on.set).start()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if values(ring) == [1] else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    storing.join()


def run_program(program: str) -> str:
    """Run a program to its end; return what it printed, errors included."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore::ResourceWarning", "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("end", ["", "del conn; gc.collect()", "ring.close()", "conn.close()"])
def test_a_program_may_end_at_any_time(end: str) -> None:
    program = f"""
import gc, threading
from snapfarm_worker.persistent import PersistentRing
from support.golden import golden
from support.keeper import NotingKeeper

ring = PersistentRing(golden(), NotingKeeper())
conn = ring.connect()
conn.execute("INSERT INTO empty VALUES (1)")
{end}
print("the end")
"""
    assert run_program(program) == "the end\n"


def test_a_plain_program_needs_neither_pytest_nor_a_farm() -> None:
    program = """
import sys
from snapfarm.store import SnapshotStore
from snapfarm_worker.persistent import PersistentRing

print(sorted({"pytest", "zmq", "multiprocess"} & sys.modules.keys()))
"""
    assert run_program(program) == "[]\n"
