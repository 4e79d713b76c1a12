"""Golden databases from an existing file, in every state that a file can be in."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapfarm.errors import GoldenBuildError, GoldenCheckError
from snapfarm.golden.files import backup_file
from support.golden_project import build_golden, opened, write_files


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A plain database of some pages."""
    path = tmp_path / "data.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as conn:
        conn.execute("PRAGMA page_size = 1024")
        conn.execute("CREATE TABLE t(x)")
        conn.executemany("INSERT INTO t VALUES (?)", ((f"row {n}" * 20,) for n in range(200)))
        conn.commit()
    return path


def rows(path: Path) -> int:
    """Return the number of rows of `t` in a copy of the file."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        backup_file(path, conn, "the file")
        assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return int(conn.execute("SELECT COUNT(*) FROM t").fetchone()[0])


def refusal(path: Path) -> str:
    with pytest.raises(GoldenBuildError) as caught:
        rows(path)
    return str(caught.value)


def state(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@contextlib.contextmanager
def another_process(path: Path, *statements: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process that executes statements on a database, then keeps it open."""
    # A lock of this process would be lost: closing a file drops all POSIX locks on it.
    script = (
        "import sqlite3, sys\n"
        f"conn = sqlite3.connect({str(path)!r}, isolation_level=None)\n"
        f"for statement in {statements!r}: conn.execute(statement).fetchall()\n"
        "print('done', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        try:
            yield process
        finally:
            process.kill()


def test_schema_and_seed_go_on_from_a_file(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
    write_files(file.parent, {"more.sql": "CREATE TABLE u(x); INSERT INTO u SELECT 1 FROM t;"})
    before = state(file.parent)
    built = build_golden(file.parent, file="data.sqlite", schema=("more.sql",))
    assert built.snapshot.manifest.rows == {"t": 200, "u": 200}
    assert built.snapshot.manifest.page_size == 1024
    assert state(file.parent) == before
    with opened(built.snapshot) as conn:
        conn.execute("INSERT INTO u VALUES (2)")


def test_a_plain_file_is_copied_and_left_alone(file: Path) -> None:
    before = state(file.parent)
    assert rows(file) == 200
    assert state(file.parent) == before


def test_a_write_ahead_log_that_was_never_checkpointed_counts(file: Path) -> None:
    with another_process(
        file,
        "PRAGMA journal_mode = WAL",
        "PRAGMA wal_autocheckpoint = 0",
        "INSERT INTO t SELECT x FROM t",
    ) as writer:
        assert rows(file) == 400, "while the writer is there"
        writer.kill()
        writer.wait()
        # Without a checkpoint the new rows are in the log alone, now of a dead process.
        before = state(file.parent)
        assert "data.sqlite-wal" in before
        assert rows(file) == 400
        assert state(file.parent) == before


def test_a_transaction_that_was_never_finished_does_not_count(file: Path) -> None:
    with another_process(
        file, "PRAGMA cache_size = 1", "BEGIN", "INSERT INTO t SELECT x FROM t, (SELECT 1)"
    ) as writer:
        writer.kill()
        writer.wait()
    assert (file.parent / "data.sqlite-journal").stat().st_size > 0
    before = state(file.parent)
    assert rows(file) == 200
    assert state(file.parent) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_write_ahead_log_in_a_folder_that_can_not_be_written(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
    file.parent.chmod(0o500)
    try:
        assert rows(file) == 200
    finally:
        file.parent.chmod(0o700)


def test_a_locked_file(file: Path) -> None:
    with another_process(file, "BEGIN EXCLUSIVE"):
        assert refusal(file) == (
            "the file: is locked by an open transaction: end it, or copy the file"
        )
    assert rows(file) == 200


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"this is some text, and not a database\n" * 40, "is no SQLite database: it starts with"),
        (b"SQLite format 2\x00" + bytes(500), "is no SQLite database: it starts with"),
        (b"** This file contains an SQLite 2", "is no SQLite database: it starts with"),
        (b"SQLite format 3\x00" + bytes(20), "is truncated: 36 bytes are less than the header"),
        (b"SQLite format 3\x00" + bytes(4080), "is no SQLite database, or it is encrypted"),
        (
            b"".join(hashlib.sha256(bytes([n])).digest() for n in range(128)),
            "seems to be an encrypted database",
        ),
    ],
)
def test_a_file_that_is_no_database(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "data.sqlite").write_bytes(content)
    assert f"the file: {message}" in refusal(tmp_path / "data.sqlite")


def test_an_empty_file_is_an_empty_database(tmp_path: Path) -> None:
    (tmp_path / "data.sqlite").touch()
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        backup_file(tmp_path / "data.sqlite", conn, "the file")
        assert conn.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone() == (0,)


@pytest.mark.parametrize("cut", [1, 1024, 20_000])
def test_a_truncated_file(file: Path, cut: int) -> None:
    size = file.stat().st_size
    os.truncate(file, size - cut)
    assert refusal(file) == (
        f"the file: is truncated: its header announces {size} bytes, it has {size - cut}"
    )


def test_a_damaged_page_is_found_by_the_check(file: Path) -> None:
    with file.open("r+b") as opened_file:
        opened_file.seek(5 * 1024)
        opened_file.write(b"\xff" * 200)
    with pytest.raises(GoldenCheckError, match="golden database 'a': integrity_check f"):
        build_golden(file.parent, file="data.sqlite")


def test_a_file_that_is_too_large(file: Path) -> None:
    os.truncate(file, 2**31)
    assert "has 2147483648 bytes, more than the 2147483647 that SQLite can" in refusal(file)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(file: Path) -> None:
    file.chmod(0)
    assert refusal(file) == "the file: can't be read: Permission denied"


def test_names_that_mean_something_in_a_uri(file: Path) -> None:
    odd = file.with_name("a?mode=rw#b %41.sqlite")
    file.rename(odd)
    assert rows(odd) == 200


def test_a_collation_that_only_the_application_has_is_a_note(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "data.sqlite")) as conn:
        conn.create_collation("backwards", lambda a, b: (a < b) - (a > b))
        conn.execute("CREATE TABLE t(x TEXT COLLATE backwards PRIMARY KEY)")
        conn.executemany("INSERT INTO t VALUES (?)", [("a",), ("b",)])
        conn.commit()
    built = build_golden(tmp_path, file="data.sqlite")
    assert built.snapshot.manifest.rows == {"t": 2}
    assert built.notes == (
        "integrity_check was not possible: no such collation sequence: backwards",
    )
