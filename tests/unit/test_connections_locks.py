"""Members that meet locks: patience, repeats that lose and double nothing, scripts."""

from __future__ import annotations

import contextlib
import gc
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from snapfarm_worker import connections, patience
from snapfarm_worker.ring import Ring
from snapfarm_worker.snapshot import Snapshot
from support.golden import CUSTOMERS, golden

SNAPSHOT: Snapshot = golden()


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    connections.install()
    yield
    connections.uninstall()


@pytest.fixture
def ring() -> Iterator[Ring]:
    with Ring.restore(SNAPSHOT) as ring:
        yield ring


@pytest.fixture
def conn(ring: Ring) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(ring.connect()) as conn:
        yield conn


def rows(conn: sqlite3.Connection, table: str = "customers") -> int:
    return int(conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


class Holder:
    """Another thread that holds a write lock on the ring, and lets go when it is told."""

    def __init__(self, ring: Ring, sql: str = "INSERT INTO empty VALUES (0)") -> None:
        self._ring, self._sql = ring, sql
        self._held, self._release = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with contextlib.closing(self._ring.connect()) as conn:
            conn.execute(self._sql)
            self._held.set()
            self._release.wait(30)
            conn.rollback()

    def __enter__(self) -> Holder:
        self._thread.start()
        assert self._held.wait(30)
        return self

    def release(self, *_: object) -> None:
        self._release.set()

    def __exit__(self, *_: object) -> None:
        self._release.set()
        self._thread.join()


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Make naps instantly long: a waiter's time passes without passing."""
    taken: list[float] = []

    def nap(seconds: float) -> None:
        taken.append(seconds)
        time.sleep(0)

    monkeypatch.setattr(patience, "_sleep", nap)
    return taken


def release_after(
    monkeypatch: pytest.MonkeyPatch, holder: Callable[[], Holder], naps: int = 3
) -> None:
    taken: list[float] = []

    def nap(seconds: float) -> None:
        taken.append(seconds)
        if len(taken) == naps:
            found = holder()
            found.release()
            found._thread.join()

    monkeypatch.setattr(patience, "_sleep", nap)


#: Locks the table that the operations below read or open a blob in.
UPDATE = "UPDATE customers SET name = 'x'"

OPERATIONS: dict[str, Callable[[sqlite3.Connection], object]] = {
    "execute": lambda c: c.execute("INSERT INTO empty VALUES (1)"),
    "cursor.execute": lambda c: c.cursor().execute("INSERT INTO empty VALUES (1)"),
    "select": lambda c: c.execute("SELECT * FROM customers").fetchall(),
    "executemany": lambda c: c.executemany("INSERT INTO empty VALUES (?)", [(1,)]),
    "executescript": lambda c: c.executescript("INSERT INTO empty VALUES (1)"),
    "immediate": lambda c: c.execute("BEGIN IMMEDIATE"),
    "ddl": lambda c: c.execute("CREATE TABLE new(x)"),
    "blob": lambda c: c.blobopen("customers", "name", 1),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_waits_for_a_lock(
    ring: Ring, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Holder(ring, UPDATE) as holder, contextlib.closing(ring.connect()) as conn:
        release_after(monkeypatch, lambda: holder)
        OPERATIONS[operation](conn)
        # It was let go only for somebody who waited.
        assert not holder._thread.is_alive()
        conn.rollback()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_lock_past_the_timeout_reaches_the_caller(
    ring: Ring, operation: str, naps: list[float]
) -> None:
    with Holder(ring, UPDATE), contextlib.closing(ring.connect(timeout=0.5)) as conn:
        with pytest.raises(sqlite3.OperationalError) as caught:
            OPERATIONS[operation](conn)
        assert caught.value.sqlite_errorcode & 0xFF == sqlite3.SQLITE_LOCKED
        assert caught.value.__context__ is None
        assert sum(naps) == pytest.approx(0.5)


def test_timeout_zero_waits_not_at_all(ring: Ring, naps: list[float]) -> None:
    with Holder(ring), contextlib.closing(ring.connect(timeout=0)) as conn:
        with pytest.raises(sqlite3.OperationalError):
            conn.execute("SELECT * FROM empty")
        assert naps == []


def test_a_busy_timeout_set_by_pragma_counts(ring: Ring, naps: list[float]) -> None:
    with Holder(ring), contextlib.closing(ring.connect(timeout=0)) as conn:
        conn.execute("PRAGMA busy_timeout = 250").fetchall()
        with pytest.raises(sqlite3.OperationalError):
            conn.execute("SELECT * FROM empty")
        assert sum(naps) == pytest.approx(0.25)


def test_waiting_leaves_no_reference_cycle(ring: Ring, naps: list[float]) -> None:
    with Holder(ring):
        conn = ring.connect(timeout=0.01)
        gc.collect()
        gc.disable()
        try:
            cursor = conn.cursor()
            with contextlib.suppress(sqlite3.OperationalError):
                cursor.execute("SELECT * FROM empty")
            assert len(gc.get_referrers(cursor)) <= 1
        finally:
            gc.enable()
        conn.close()


def test_executemany_in_autocommit_loses_and_doubles_nothing(
    ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two rows another connection may take the lock.

    1. A commits row by row from an iterator. 2. The iterator lets B lock the table before each
    fifth row. 3. B lets go while A waits.
    """
    with (
        contextlib.closing(ring.connect(isolation_level=None)) as a,
        contextlib.closing(ring.connect(isolation_level=None)) as b,
    ):
        monkeypatch.setattr(patience, "_sleep", lambda _: b.execute("ROLLBACK"))

        def source() -> Iterator[tuple[int]]:
            for number in range(50):
                if number % 5 == 0:
                    b.execute("BEGIN IMMEDIATE")
                yield (number,)

        cursor = a.executemany("INSERT INTO empty VALUES (?)", source())
        assert cursor.rowcount == 50
        assert a.execute("SELECT x FROM empty ORDER BY rowid").fetchall() == [
            (number,) for number in range(50)
        ]
        assert cursor.execute("DELETE FROM empty WHERE x < 10").rowcount == 10


def test_a_lock_inside_the_iterator_is_not_ours(ring: Ring, naps: list[float]) -> None:
    with Holder(ring), contextlib.closing(ring.connect(timeout=0.01)) as conn:

        def source() -> Iterator[tuple[int]]:
            with contextlib.closing(ring.connect(timeout=0)) as other:
                other.execute("SELECT * FROM empty")
            yield (1,)

        with pytest.raises(sqlite3.OperationalError):
            conn.executemany("INSERT INTO log(text) VALUES (?)", source())
        assert naps == []


def test_executemany_passes_on_what_its_iterator_raises(conn: sqlite3.Connection) -> None:
    def source() -> Iterator[tuple[int]]:
        yield (1,)
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        conn.executemany("INSERT INTO empty VALUES (?)", source())
    with pytest.raises(TypeError):
        conn.executemany("INSERT INTO empty VALUES (?)", 5)  # type: ignore[arg-type]  # what sqlite3 refuses
    with pytest.raises(sqlite3.ProgrammingError):
        conn.executemany("SELECT ?", [(1,)])
    with pytest.raises(sqlite3.IntegrityError):
        conn.executemany("INSERT INTO customers VALUES (?, 'x')", [(500,), (1,)])


def test_executemany_with_named_parameters_and_empty_input(conn: sqlite3.Connection) -> None:
    assert conn.executemany("INSERT INTO empty VALUES (:x)", [{"x": 1}, {"x": 2}]).rowcount == 2
    assert conn.executemany("INSERT INTO empty VALUES (?)", []).rowcount == 0


def test_a_script_goes_on_after_a_lock(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statement by statement: what ran before the lock is not run again."""
    with contextlib.closing(ring.connect()) as conn, Holder(ring, "DELETE FROM orders") as holder:
        release_after(monkeypatch, lambda: holder)
        conn.executescript(
            """
            CREATE TEMP TABLE mine(x);  -- needs no lock of the ring
            INSERT INTO temp.mine VALUES (1);
            INSERT INTO empty VALUES ('a;b');
            """
        )
        assert rows(conn, "temp.mine") == 1
        assert rows(conn, "empty") == 1


def is_open(conn: sqlite3.Connection) -> bool:
    """Tell whether a transaction is open; a function, since mypy takes attributes for constant."""
    return conn.in_transaction


def test_scripts_do_what_sqlite3_makes_them_do(conn: sqlite3.Connection) -> None:
    conn.execute("INSERT INTO empty VALUES (1)")
    conn.executescript(
        """
        BEGIN;
        CREATE TRIGGER t AFTER INSERT ON empty BEGIN
            INSERT INTO log(text) VALUES ('a'); INSERT INTO log(text) VALUES ('b');
        END;
        INSERT INTO empty VALUES (2);
        SELECT * FROM orders;
        ROLLBACK;
        """
    )
    assert is_open(conn) is False
    assert conn.execute("SELECT x FROM empty").fetchall() == [(1,)]
    conn.executescript("BEGIN; INSERT INTO empty VALUES (3)")
    assert is_open(conn) is True
    conn.rollback()
    for text in ("", "  ", "-- only a comment"):
        conn.executescript(text)
    with pytest.raises(sqlite3.OperationalError, match="syntax error"):
        conn.executescript("INSERT INTO empty VALUES (4); NONSENSE; DELETE FROM empty")
    assert rows(conn, "empty") == 2
    with pytest.raises((ValueError, sqlite3.ProgrammingError)):
        conn.executescript("SELECT 1;\0")
    with pytest.raises(TypeError):
        conn.executescript(b"SELECT 1")  # type: ignore[arg-type]  # what sqlite3 refuses


def test_a_script_runs_its_queries_to_the_end(conn: sqlite3.Connection) -> None:
    called: list[int] = []
    conn.create_function("note", 1, called.append)
    conn.executescript("SELECT note(id) FROM customers; BEGIN; SELECT note(id) FROM customers;")
    assert len(called) == 2 * CUSTOMERS
    conn.rollback()


def test_four_threads_write_without_an_error(ring: Ring) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with contextlib.closing(ring.connect(timeout=60)) as conn:
                for step in range(50):
                    with conn:
                        conn.execute("INSERT INTO empty VALUES (?)", (number * 100 + step,))
                    rows(conn, "empty")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with contextlib.closing(ring.connect()) as conn:
        assert rows(conn, "empty") == 200
        assert conn.execute("SELECT count(DISTINCT x) FROM empty").fetchone() == (200,)


def test_patience_survives_a_frozen_clock_and_a_mocked_sleep(
    ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> float:
        raise AssertionError("the program's own clock was used")

    for name in ("sleep", "monotonic", "time", "perf_counter"):
        monkeypatch.setattr(time, name, forbidden)
    with (
        Holder(ring),
        contextlib.closing(ring.connect(timeout=0.01)) as conn,
        pytest.raises(sqlite3.OperationalError),
    ):
        conn.execute("SELECT * FROM empty")
