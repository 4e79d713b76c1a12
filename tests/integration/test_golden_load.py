"""`Golden.load` and `Golden.of`: existing files, and connections that are open in this process."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapfarm.errors import GoldenBuildError, GoldenCheckError, GoldenTimeout
from snapfarm.golden import committed
from snapfarm.golden.handle import Golden
from snapfarm_worker.ring import Ring, RingKind
from support.golden import golden as sample
from support.golden_project import opened


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A database of some pages."""
    path = tmp_path / "app.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE t(x)")
        conn.executemany("INSERT INTO t VALUES (?)", ((f"row {n}" * 50,) for n in range(100)))
        conn.commit()
    return path


@pytest.fixture
def conn() -> Iterator[sqlite3.Connection]:
    """An in-memory database with one committed row."""
    with contextlib.closing(sqlite3.connect(":memory:")) as opened_conn:
        opened_conn.execute("CREATE TABLE t(x)")
        opened_conn.execute("INSERT INTO t VALUES (1)")
        opened_conn.commit()
        yield opened_conn


def state(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def refusal(file: Path) -> str:
    with pytest.raises(GoldenBuildError) as caught:
        Golden.load(file)
    return str(caught.value)


# ---------------------------------------------------------------- files


def test_a_file_is_loaded_and_left_alone(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    before = state(file.parent)
    golden = Golden.load("app.sqlite")
    assert golden.manifest.rows == {"t": 100}
    assert (golden.name, golden.notes, golden.fingerprint) == ("default", (), None)
    assert not golden.cached
    assert golden.build_seconds > 0
    assert Golden.load(file, name="shop").name == "shop"
    assert state(file.parent) == before


def test_a_file_in_wal_mode_that_this_process_uses(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as conn:
        conn.execute("PRAGMA journal_mode = WAL").fetchone()
        conn.execute("PRAGMA wal_autocheckpoint = 0").fetchone()
        conn.execute("INSERT INTO t VALUES ('in the log')")
        before = state(file.parent)
        assert "app.sqlite-wal" in before
        golden = Golden.load(file)
        assert golden.manifest.rows == {"t": 101}
        assert state(file.parent) == before
    with opened(golden.snapshot) as copy:
        copy.execute("INSERT INTO t VALUES (1)")


def test_the_locks_of_this_process_stay(file: Path) -> None:
    # 1. this process reads, and so has a lock on the file
    # 2. it loads the file; opening and closing it here would drop that lock
    # 3. a writer still has to wait
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as conn:
        conn.execute("BEGIN")
        conn.execute("SELECT * FROM t").fetchone()
        Golden.load(file)
        writer = (
            f"import sqlite3; conn = sqlite3.connect({str(file)!r}, timeout=0);"
            "conn.execute('PRAGMA user_version = 3'); conn.commit()"
        )
        done = subprocess.run([sys.executable, "-c", writer], capture_output=True, check=False)
        assert b"database is locked" in done.stderr


def test_a_file_that_this_process_has_locked(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as conn:
        conn.execute("BEGIN EXCLUSIVE")
        assert refusal(file) == (
            f"golden database 'default': {file}: is locked by an open transaction: end it, or copy "
            f"the file"
        )
    assert Golden.load(file).manifest.rows == {"t": 100}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"some text, and no database\n" * 40, "is no SQLite database: it starts with"),
        (
            b"".join(hashlib.sha256(bytes([n])).digest() for n in range(128)),
            "seems to be an encrypted database",
        ),
        (b"SQLite format 3\x00" + bytes(20), "is truncated: 36 bytes are less than the header"),
    ],
)
def test_a_file_that_is_no_database(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    assert f"golden database 'default': {file}: {message}" in refusal(file)


def test_a_file_that_is_truncated_or_too_large(file: Path) -> None:
    size = file.stat().st_size
    os.truncate(file, size - 4096)
    assert f"is truncated: its header announces {size} bytes, it has {size - 4096}" in refusal(file)
    os.truncate(file, 2**31)
    assert "has 2147483648 bytes, more than the 2147483647 that SQLite can" in refusal(file)


def test_a_file_whose_content_is_wrong(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as conn:
        conn.execute("CREATE TABLE c(t REFERENCES nobody(x))")
        conn.execute("CREATE TABLE nobody(x INTEGER PRIMARY KEY)")
        conn.execute("INSERT INTO c VALUES (7)")
        conn.commit()
    with pytest.raises(GoldenCheckError, match="golden database 'default': foreign_key_check foun"):
        Golden.load(file)
    with file.open("r+b") as opened_file:
        opened_file.seek(3 * 4096)
        opened_file.write(b"\xff" * 200)
    with pytest.raises(GoldenCheckError, match="integrity_check f"):
        Golden.load(file)


def test_loading_has_a_time_limit(file: Path) -> None:
    with pytest.raises(GoldenTimeout, match=r"the builder did not end within 0\.001 s"):
        Golden.load(file, timeout=0.001)


def test_an_empty_file_is_an_empty_database(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    golden = Golden.load(tmp_path / "empty")
    assert golden.manifest.tables == ()
    assert golden.notes == ("the golden database has no tables",)


# ---------------------------------------------------------------- connections


def test_a_connection_gives_what_is_committed(conn: sqlite3.Connection) -> None:
    golden = Golden.of(conn, name="shop")
    assert golden.name == "shop"
    assert golden.manifest.rows == {"t": 1}
    assert (golden.notes, golden.fingerprint, golden.build_seconds) == ((), None, 0.0)


def test_what_is_uncommitted_is_refused_and_stays(conn: sqlite3.Connection) -> None:
    conn.execute("INSERT INTO t VALUES (2)")
    with pytest.raises(GoldenBuildError) as caught:
        Golden.of(conn)
    assert str(caught.value) == (
        "Golden.of: connection: the database has an open transaction that writes: commit it, or "
        "roll it back"
    )
    conn.commit()
    assert Golden.of(conn).manifest.rows == {"t": 2}


def test_a_transaction_that_only_reads_is_no_obstacle(file: Path) -> None:
    # A connection with autocommit=False is always in a transaction.
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as conn:
        conn.execute("BEGIN")
        assert Golden.of(conn).manifest.rows == {"t": 100}
        assert conn.in_transaction
        # And it has not begun to read: it sees what another one commits now.
        with contextlib.closing(sqlite3.connect(file)) as other:
            other.execute("DELETE FROM t")
            other.commit()
        assert conn.execute("SELECT COUNT(*) FROM t").fetchone() == (0,)
        assert Golden.of(conn).manifest.rows == {}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sqlite3 has autocommit from 3.12 on")
def test_a_connection_that_is_never_out_of_a_transaction() -> None:
    options: dict[str, bool] = {"autocommit": False}
    with contextlib.closing(sqlite3.connect(":memory:", **options)) as conn:  # type: ignore[call-overload]  # its stub is that of 3.11
        conn.execute("CREATE TABLE t(x)")
        conn.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(GoldenBuildError, match="has an open transaction that writes"):
            Golden.of(conn)
        conn.commit()
        assert Golden.of(conn).manifest.rows == {"t": 1}
        conn.rollback()


def test_settings_of_the_connection_have_no_part_in_it(conn: sqlite3.Connection) -> None:
    def deny(*_: object) -> int:
        return sqlite3.SQLITE_DENY

    conn.row_factory = sqlite3.Row
    conn.text_factory = bytes
    conn.execute("ATTACH ':memory:' AS other")
    conn.execute("CREATE TABLE other.o(x)")
    conn.execute("CREATE TEMP TABLE p(x)")
    conn.commit()
    traced: list[str] = []
    conn.set_trace_callback(traced.append)
    conn.set_authorizer(deny)
    golden = Golden.of(conn)
    assert [table.name for table in golden.manifest.tables] == ["t"]
    assert traced == []


@pytest.mark.parametrize("pragma", ["journal_mode = WAL", "page_size = 512"])
def test_files_in_every_form(tmp_path: Path, pragma: str) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "a.sqlite")) as conn:
        conn.execute(f"PRAGMA {pragma}").fetchone()
        conn.execute("PRAGMA encoding = 'UTF-16le'")
        conn.execute("CREATE TABLE t(x)")
        conn.execute("INSERT INTO t VALUES ('ü')")
        conn.commit()
        golden = Golden.of(conn)
    assert golden.manifest.encoding == "UTF-16le"
    with opened(golden.snapshot) as copy:
        assert copy.execute("SELECT x FROM t").fetchall() == [("ü",)]
        copy.execute("INSERT INTO t VALUES (1)")


@pytest.mark.parametrize("kind", list(RingKind))
def test_a_ring_that_a_test_has_changed(kind: RingKind) -> None:
    ring = Ring.restore(sample(), kind=kind)
    with contextlib.closing(ring), contextlib.closing(ring.connect()) as conn:
        conn.execute("DELETE FROM orders")
        conn.commit()
        rows = Golden.of(conn).manifest.rows
    assert "orders" not in rows
    assert rows["customers"] == 20


def test_an_empty_database(conn: sqlite3.Connection) -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as empty:
        golden = Golden.of(empty)
    assert golden.manifest.tables == ()
    assert golden.notes == ("the golden database has no tables",)


def test_a_connection_that_can_not_be_read(conn: sqlite3.Connection) -> None:
    caught: list[str] = []

    def take() -> None:
        with pytest.raises(GoldenBuildError) as error:
            Golden.of(conn)
        caught.append(str(error.value))

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    assert caught[0].startswith(
        "Golden.of: connection: can't be read: SQLite objects created in a thread can only be used"
    )
    conn.close()
    with pytest.raises(GoldenBuildError) as error:
        Golden.of(conn)
    assert str(error.value) == (
        "Golden.of: connection: can't be read: Cannot operate on a closed database."
    )


def test_a_lock_of_another_connection(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committed, "_PATIENCE", 0.05)
    with (
        contextlib.closing(sqlite3.connect(file, isolation_level=None)) as writer,
        contextlib.closing(sqlite3.connect(file, timeout=0)) as conn,
    ):
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(GoldenBuildError) as caught:
            Golden.of(conn)
        writer.execute("COMMIT")
        assert Golden.of(conn).manifest.rows == {"t": 100}
    assert str(caught.value) == (
        "Golden.of: connection: the database is locked by another connection that writes: end its "
        "transaction"
    )


def test_rows_without_parents(conn: sqlite3.Connection) -> None:
    conn.execute("CREATE TABLE c(t REFERENCES nobody(x))")
    conn.execute("CREATE TABLE nobody(x INTEGER PRIMARY KEY)")
    conn.execute("INSERT INTO c VALUES (7)")
    conn.commit()
    with pytest.raises(
        GoldenCheckError, match=r"^golden database 'default': foreign_key_check fou"
    ):
        Golden.of(conn)
