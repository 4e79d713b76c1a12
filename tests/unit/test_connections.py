"""Connections made by URI: joining, the user's classes and callbacks."""

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

from snapfarm_worker import connections
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
        sqlite3.connect(ring.uri, nonsense=1)  # type: ignore[call-overload]  # what sqlite3 refuses
    with pytest.raises(TypeError):
        sqlite3.connect(ring.uri, 5.0, timeout=5.0)  # type: ignore[call-overload]  # what sqlite3 refuses


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

    with contextlib.closing(sqlite3.connect(ring.uri, factory=factory)) as conn:  # type: ignore[call-overload]  # a function will do
        assert isinstance(conn, Theirs)
        assert isinstance(conn, RingConnection)
        assert rows(conn) == CUSTOMERS
        assert [member.ref() for member in ring.members()] == [conn]
    assert len(made) == 1


def test_a_function_that_makes_plain_connections(ring: Ring) -> None:
    def factory(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        return sqlite3.Connection(*args, **kwargs)

    with contextlib.closing(sqlite3.connect(ring.uri, factory=factory)) as conn:  # type: ignore[call-overload]  # a function will do
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
