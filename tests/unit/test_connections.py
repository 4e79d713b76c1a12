"""Connections made by URI: joining, classes, patience with locks, and the user's own callbacks."""

from __future__ import annotations

import contextlib
import gc
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from snapfarm_worker import connections, patience
from snapfarm_worker.members import RingConnection, RingCursor, member_of
from snapfarm_worker.ring import Ring, RingKind
from snapfarm_worker.snapshot import Snapshot
from support.golden import CUSTOMERS, ORDERS, golden

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


# ---------------------------------------------------------------- joining by name


def test_the_patch_is_undone_by_the_last_uninstall() -> None:
    connections.install()
    assert sqlite3.connect is connections.connect
    assert sqlite3.dbapi2.connect is connections.connect
    connections.uninstall()
    assert sqlite3.connect is connections.connect
    connections.uninstall()
    assert sqlite3.connect is connections.original_connect
    connections.install()


@pytest.mark.parametrize("kind", list(RingKind))
@pytest.mark.parametrize(
    "spelled",
    [
        lambda uri: uri,
        lambda uri: uri.encode(),
        lambda uri: Path(uri) if uri.startswith("file:farm") else uri,
        lambda uri: "?".join(
            (uri.partition("?")[0], "&".join(reversed(uri.partition("?")[2].split("&"))))
        ),
        lambda uri: uri.replace("farm-", "farm%2D", 1) + "#fragment",
    ],
    ids=["text", "bytes", "path", "reordered", "escaped"],
)
def test_every_spelling_of_the_uri_joins(kind: RingKind, spelled: Callable[[str], Any]) -> None:
    with (
        Ring.restore(SNAPSHOT, kind=kind) as ring,
        contextlib.closing(sqlite3.connect(spelled(ring.uri))) as conn,
    ):
        assert rows(conn) == CUSTOMERS
        assert isinstance(conn, RingConnection)


def test_uri_false_joins_nevertheless(ring: Ring) -> None:
    with contextlib.closing(sqlite3.connect(ring.uri, uri=False)) as conn:
        assert rows(conn) == CUSTOMERS


def test_other_names_are_left_alone(ring: Ring, tmp_path: Path) -> None:
    for name in (":memory:", tmp_path / "x.db", str(tmp_path / "y.db").encode(), "file:farm-"):
        assert connections.find(name) is None
    assert connections.find(ring.uri.replace("cache=shared", "cache=private")) is None
    assert connections.find(object()) is None
    with contextlib.closing(sqlite3.connect(":memory:")) as conn:
        assert type(conn) is sqlite3.Connection


@pytest.mark.filterwarnings("ignore:Passing more than 1 positional:DeprecationWarning")
def test_wrong_arguments_are_refused_by_sqlite3(ring: Ring) -> None:
    with pytest.raises(TypeError):
        sqlite3.connect(ring.uri, nonsense=1)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        sqlite3.connect(ring.uri, 5.0, timeout=5.0)  # type: ignore[call-overload]


def test_positional_arguments(ring: Ring) -> None:
    conn = connections.connect(ring.uri, 1.5, 0, None, False)
    assert conn.isolation_level is None
    assert conn.execute("PRAGMA busy_timeout").fetchone() == (1500,)
    thread = threading.Thread(target=conn.close)
    thread.start()
    thread.join()
    with pytest.raises(sqlite3.ProgrammingError):
        conn.execute("SELECT 1")


def test_a_private_uri_means_nothing_to_sqlite_alone() -> None:
    with (
        Ring.restore(SNAPSHOT, kind=RingKind.PRIVATE) as ring,
        pytest.raises(sqlite3.OperationalError),
    ):
        sqlite3.Connection(ring.uri, uri=True)


def test_a_ring_is_restored_on_first_use() -> None:
    loads = []

    def load() -> Snapshot:
        loads.append(1)
        return SNAPSHOT

    with Ring("default", load) as ring:
        assert not ring.is_open
        assert not ring.is_dirty()
        assert ring.reset().tier == "clean"
        assert loads == []
        for _ in range(2):
            with contextlib.closing(sqlite3.connect(ring.uri)) as conn:
                assert rows(conn) == CUSTOMERS
        assert loads == [1]


def test_threads_restore_a_waiting_ring_once() -> None:
    loads = []
    barrier = threading.Barrier(8)

    def load() -> Snapshot:
        loads.append(1)
        return SNAPSHOT

    with Ring("default", load) as ring:
        seen: list[int] = []

        def use() -> None:
            barrier.wait()
            with contextlib.closing(ring.connect()) as conn:
                seen.append(rows(conn))

        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [CUSTOMERS] * 8
        assert loads == [1]


def test_a_loader_that_fails_is_asked_again() -> None:
    answers: list[Snapshot | Exception] = [LookupError("not yet"), SNAPSHOT]

    def load() -> Snapshot:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with Ring("default", load) as ring:
        with pytest.raises(LookupError):
            ring.connect()
        with contextlib.closing(ring.connect()) as conn:
            assert rows(conn) == CUSTOMERS


# ---------------------------------------------------------------- the user's classes


class Upper(sqlite3.Cursor):
    calls = 0

    def execute(self, *args: Any) -> Any:
        type(self).calls += 1
        return super().execute(*args)


class Theirs(sqlite3.Connection):
    """As users write them: `__init__` runs statements, methods call super()."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen: list[str] = []
        self.execute("PRAGMA foreign_keys = ON")

    def execute(self, sql: str, *args: Any) -> Any:
        self.seen.append(sql)
        return super().execute(sql, *args)

    def cursor(self, factory: Any = Upper) -> Any:
        return super().cursor(factory)


class Slotted(sqlite3.Connection):
    __slots__ = ("extra",)


def test_a_factory_keeps_its_class_and_behaviour(ring: Ring) -> None:
    with contextlib.closing(sqlite3.connect(ring.uri, factory=Theirs)) as conn:
        assert isinstance(conn, Theirs)
        assert isinstance(conn, RingConnection)
        assert type(conn).__name__ == "Theirs"
        assert rows(conn) == CUSTOMERS
        assert conn.seen == ["PRAGMA foreign_keys = ON", "SELECT count(*) FROM customers"]
        cursor = conn.cursor()
        assert isinstance(cursor, Upper)
        assert isinstance(cursor, RingCursor)
        cursor.execute("SELECT 1")
        assert type(cursor).calls == 1
    with contextlib.closing(sqlite3.connect(ring.uri, factory=Theirs)) as again:
        assert type(again) is type(conn)


def test_a_slotted_factory(ring: Ring) -> None:
    with contextlib.closing(sqlite3.connect(ring.uri, factory=Slotted)) as conn:
        assert isinstance(conn, RingConnection)
        assert isinstance(conn, Slotted)
        setattr(conn, "extra", 1)  # noqa: B010  # the class has a slot of that name, no attribute
        assert rows(conn) == CUSTOMERS


def test_a_function_as_factory(ring: Ring) -> None:
    made = []

    def factory(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        made.append(args)
        return Theirs(*args, **kwargs)

    with contextlib.closing(sqlite3.connect(ring.uri, factory=factory)) as conn:  # type: ignore[call-overload]
        assert isinstance(conn, Theirs)
        assert isinstance(conn, RingConnection)
        assert rows(conn) == CUSTOMERS
        assert [member.ref() for member in ring.members()] == [conn]
    assert len(made) == 1


def test_a_function_that_makes_plain_connections(ring: Ring) -> None:
    def factory(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        return sqlite3.Connection(*args, **kwargs)

    with contextlib.closing(sqlite3.connect(ring.uri, factory=factory)) as conn:  # type: ignore[call-overload]
        assert rows(conn) == CUSTOMERS
        assert member_of(conn) is None


def test_the_class_of_a_member_makes_ordinary_connections(conn: sqlite3.Connection) -> None:
    with contextlib.closing(type(conn)(":memory:")) as plain:
        plain.execute("CREATE TABLE t(x)")
        assert plain.executemany("INSERT INTO t VALUES (?)", [(1,), (2,)]).rowcount == 2


def test_a_cursor_factory_that_is_a_function(conn: sqlite3.Connection) -> None:
    cursor = conn.cursor(lambda owner: sqlite3.Cursor(owner))
    assert type(cursor) is sqlite3.Cursor
    assert cursor.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(TypeError):
        conn.cursor(None)


def test_a_cursor_that_was_not_initialised(conn: sqlite3.Connection) -> None:
    class Broken(sqlite3.Cursor):
        def __init__(self, owner: sqlite3.Connection) -> None:
            pass

    with pytest.raises(sqlite3.ProgrammingError, match="__init__"):
        conn.cursor(Broken).execute("SELECT 1")


def test_row_factories_and_isolation(conn: sqlite3.Connection) -> None:
    conn.row_factory = sqlite3.Row
    assert conn.execute("SELECT id AS a FROM customers WHERE id = 3").fetchone()["a"] == 3
    conn.row_factory = lambda cursor, row: dict(
        zip([d[0] for d in cursor.description], row, strict=True)
    )
    assert conn.execute("SELECT id AS a FROM customers WHERE id = 3").fetchone() == {"a": 3}
    conn.isolation_level = None
    conn.execute("DELETE FROM customers")
    assert not conn.in_transaction


@pytest.mark.skipif(sys.version_info < (3, 12), reason="autocommit= is new in 3.12")
@pytest.mark.parametrize("autocommit", [True, False])
def test_autocommit(ring: Ring, autocommit: bool) -> None:
    with contextlib.closing(ring.connect(autocommit=autocommit)) as conn:
        conn.executescript("INSERT INTO empty VALUES (1); INSERT INTO empty VALUES (2)")
        assert conn.in_transaction is not autocommit
        conn.rollback()
        assert rows(conn, "empty") == (2 if autocommit else 0)
        conn.rollback()
    assert ring.is_dirty() is autocommit


def test_with_commits_and_rolls_back(conn: sqlite3.Connection) -> None:
    with conn:
        conn.execute("INSERT INTO empty VALUES (1)")

    def fail() -> None:
        with conn:
            conn.execute("INSERT INTO empty VALUES (2)")
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert conn.execute("SELECT x FROM empty").fetchall() == [(1,)]


def test_the_users_callbacks(conn: sqlite3.Connection) -> None:
    traced: list[str] = []
    asked: list[int] = []

    def authorizer(action: int, *_: Any) -> int:
        asked.append(action)
        return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_DELETE else sqlite3.SQLITE_OK

    conn.set_trace_callback(traced.append)
    conn.set_authorizer(authorizer)
    rows(conn)
    assert traced == ["SELECT count(*) FROM customers"]
    assert sqlite3.SQLITE_READ in asked
    with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
        conn.execute("DELETE FROM customers")
    conn.set_authorizer(None)
    conn.set_trace_callback(None)
    conn.execute("DELETE FROM customers")
    assert traced[1:] == []


def test_attached_databases(conn: sqlite3.Connection, tmp_path: Path) -> None:
    conn.execute("ATTACH ? AS other", (str(tmp_path / "other.db"),))
    conn.executescript("CREATE TABLE other.t(x); INSERT INTO other.t SELECT id FROM customers")
    assert rows(conn, "other.t") == CUSTOMERS


def test_blobs_and_backups(ring: Ring, conn: sqlite3.Connection) -> None:
    conn.execute("INSERT INTO empty VALUES (zeroblob(4))")
    with conn.blobopen("empty", "x", 1) as blob:
        blob.write(b"abcd")
    conn.commit()
    with contextlib.closing(sqlite3.connect(":memory:")) as copy:
        conn.backup(copy)
        assert copy.execute("SELECT x FROM empty").fetchone() == (b"abcd",)


# ---------------------------------------------------------------- locks


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
        conn.executemany("INSERT INTO empty VALUES (?)", 5)  # type: ignore[arg-type]
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
        conn.executescript(b"SELECT 1")


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


# ---------------------------------------------------------------- what is known of a member


def test_a_member_knows_who_opened_it(ring: Ring, conn: sqlite3.Connection) -> None:
    member = member_of(conn)
    assert member is not None
    assert member.thread == "MainThread"
    assert __file__ in member.where
    assert "in conn" in member.where
    assert any("in conn" in line for line in member.stack)


def test_members_are_forgotten_once_they_are_gone(ring: Ring) -> None:
    conn = ring.connect()
    assert len(ring.members()) == 1
    conn.close()
    del conn
    gc.collect()
    assert ring.members() == []


def test_what_a_statement_costs(ring: Ring) -> None:
    """The bound is ten times what was measured, to hold on a busy machine."""
    with (
        contextlib.closing(ring.connect()) as ours,
        contextlib.closing(sqlite3.Connection(ring.uri, uri=True)) as plain,
    ):

        def best(conn: sqlite3.Connection) -> float:
            times = []
            for _ in range(5):
                began = time.perf_counter()
                for _ in range(500):
                    conn.execute("SELECT 1")
                times.append((time.perf_counter() - began) / 500)
            return min(times)

        assert best(ours) - best(plain) < 15e-6


# ---------------------------------------------------------------- SQLAlchemy


def test_an_engine_by_uri_and_one_by_creator(ring: Ring) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    pool = sqlalchemy.pool.QueuePool
    for engine in (
        sqlalchemy.create_engine(f"sqlite:///{ring.uri}&uri=true", poolclass=pool),
        sqlalchemy.create_engine("sqlite://", creator=ring.connect, poolclass=pool),
    ):
        with engine.begin() as connection:
            found = connection.execute(sqlalchemy.text("SELECT count(*) FROM orders")).scalar()
            assert found == ORDERS
            connection.execute(sqlalchemy.text("INSERT INTO empty VALUES (1)"))
        assert ring.is_dirty()
        ring.reset()
        with engine.connect() as connection:
            assert connection.execute(sqlalchemy.text("SELECT * FROM empty")).fetchall() == []
            pooled = connection.connection.dbapi_connection
            member = member_of(pooled)
            assert member is not None
            assert member.pooled
            del pooled, member
        engine.dispose()
