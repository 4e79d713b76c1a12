"""What is kept of a failing test: its database, the difference, the last statements."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapfarm_worker import keeping
from snapfarm_worker.evidence import DatabaseEvidence, EvidenceOrder, without_literals
from snapfarm_worker.keeping import Keeper, blanked_copy, folder_name, make_room
from snapfarm_worker.ringkind import RingKind
from support.golden import image
from support.sensor_rig import Rig

KINDS = list(RingKind)


def kept(
    rig: Rig, folder: Path, *, budget: int = 10_000_000, redact: tuple[str, ...] = ()
) -> DatabaseEvidence:
    order = EvidenceOrder(folder=str(folder), run="run", budget=budget, redact=redact)
    (found,) = Keeper(order).take([rig.ring], "t.py::one", 0)
    return found


def rows(file: str | Path, sql: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(file)) as conn:
        return conn.execute(sql).fetchall()


@pytest.fixture(params=KINDS)
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    made = Rig(request.param)
    yield made
    made.databases.close()


def test_what_is_not_committed_is_kept_too(rig: Rig, tmp_path: Path) -> None:
    conn = rig.databases.open_fixture(rig.ring)
    conn.execute("UPDATE customers SET name = 'Eve' WHERE id = 1")
    conn.execute("INSERT INTO pairs VALUES ('c', 'd')")
    if rig.ring.kind is RingKind.PRIVATE:
        conn.commit()
        conn.execute("BEGIN")
    found = kept(rig, tmp_path)
    assert found.diff is not None
    assert [(each.table, each.added, each.changed) for each in found.diff.tables] == [
        ("customers", 0, 1),
        ("pairs", 1, 0),
    ]
    assert rows(found.file, "SELECT name FROM customers WHERE id = 1") == [("Eve",)]
    assert found.size == Path(found.file).stat().st_size
    (statements,) = found.statements
    assert statements.statements[:2] == (
        "UPDATE customers SET name = 'Eve' WHERE id = 1",
        "INSERT INTO pairs VALUES ('c', 'd')",
    )
    assert statements.in_transaction
    # Nothing of the test's was touched.
    assert conn.in_transaction
    conn.rollback()
    conn.close()


def test_a_schema_that_is_being_changed_is_kept_by_its_own_connection(tmp_path: Path) -> None:
    rig = Rig(RingKind.SHARED_CACHE)
    conn = rig.databases.open_fixture(rig.ring)
    conn.execute("BEGIN")
    conn.execute("CREATE TABLE new (a)")
    found = kept(rig, tmp_path)
    assert found.diff is not None
    assert [each.name for each in found.diff.schema] == ["new"]
    conn.rollback()
    conn.close()
    rig.databases.close()


def test_a_database_that_is_as_its_baseline_is_not_copied(rig: Rig, tmp_path: Path) -> None:
    conn = rig.databases.open_fixture(rig.ring)
    conn.execute("SELECT count(*) FROM customers").fetchone()
    found = kept(rig, tmp_path)
    assert (found.file, found.note) == ("", "it was as its baseline")
    assert not found.diff
    assert not list(tmp_path.iterdir())
    conn.close()


def test_statements_are_the_last_ones_of_this_test_failed_ones_included(tmp_path: Path) -> None:
    rig = Rig(RingKind.SHARED_CACHE)
    conn = rig.ring.connect()
    for number in range(20):
        conn.execute(f"SELECT {number}")
    with pytest.raises(sqlite3.IntegrityError):
        conn.cursor().execute("INSERT INTO customers VALUES (1, 'again')")
    with pytest.raises(sqlite3.OperationalError):
        conn.execute("SELECT * FROM nowhere")
    conn.executemany("INSERT INTO empty VALUES (?)", [])
    (statements,) = kept(rig, tmp_path).statements
    assert statements.statements[-3:] == (
        "INSERT INTO customers VALUES (1, 'again')",
        "SELECT * FROM nowhere",
        "INSERT INTO empty VALUES (?)",
    )
    assert len(statements.statements) == 10
    conn.rollback()
    rig.end()
    assert kept(rig, tmp_path).statements == ()
    conn.close()
    rig.databases.close()


def test_blanked_columns_are_nowhere_in_what_is_kept(tmp_path: Path) -> None:
    rig = Rig(RingKind.SHARED_CACHE)
    conn = rig.databases.open_fixture(rig.ring)
    conn.execute("UPDATE customers SET name = 'hunter2-' || id")
    conn.execute("INSERT INTO customers VALUES (99, 'hunter2-99')")
    conn.commit()
    conn.execute("DELETE FROM customers WHERE id = 3")
    found = kept(rig, tmp_path, redact=("customers.name",))
    assert found.diff is not None
    assert found.diff.tables[0].changed == 19
    assert b"hunter2" not in Path(found.file).read_bytes()
    assert b"customer 1" not in Path(found.file).read_bytes()
    assert "hunter2" not in repr(found)
    assert rows(found.file, "SELECT count(*), count(DISTINCT name) FROM customers") == [(20, 20)]
    assert rows(found.file, "SELECT count(*) FROM orders") == [(200,)]
    conn.rollback()
    conn.close()
    rig.databases.close()


@pytest.mark.parametrize(
    "column",
    [
        "secret TEXT", "secret TEXT NOT NULL", "secret TEXT NOT NULL UNIQUE",
        "secret TEXT CHECK (length(secret) < 5)", "secret INTEGER NOT NULL CHECK (secret > 0)",
    ],
)  # fmt: skip
def test_a_column_is_blanked_whatever_it_has_to_be(tmp_path: Path, column: str) -> None:
    data = image(
        f"CREATE TABLE t (id INTEGER PRIMARY KEY, {column}); CREATE TABLE log (x);"
        "CREATE TRIGGER w AFTER UPDATE ON t BEGIN INSERT INTO log VALUES (old.secret); END;"
        "CREATE INDEX i ON t (secret);"
        "INSERT INTO t VALUES (1, '4711'), (2, '4712');"
    )
    blanked_copy(data, [("T", "Secret"), ("nowhere", "x")], tmp_path / "a.sqlite")
    found = rows(tmp_path / "a.sqlite", "SELECT id, secret FROM t")
    assert [number for number, _ in found] == [1, 2]
    assert not {"4711", "4712", 4711, 4712} & {value for _, value in found}
    assert b"471" not in (tmp_path / "a.sqlite").read_bytes()
    assert rows(tmp_path / "a.sqlite", "SELECT count(*) FROM log") == [(0,)]
    assert rows(tmp_path / "a.sqlite", "SELECT name FROM sqlite_schema WHERE type = 'trigger'") == [
        ("w",)
    ]


def test_what_cant_be_blanked_is_not_kept(tmp_path: Path) -> None:
    rig = Rig(RingKind.SHARED_CACHE)
    conn = rig.databases.open_fixture(rig.ring)
    conn.execute("INSERT INTO pairs VALUES ('secret', 'x')")
    found = kept(rig, tmp_path, redact=("pairs.a",))  # a key of a table without row id
    assert found.file == ""
    assert found.note.startswith("a column of redact could not be blanked: ")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    conn.rollback()
    conn.close()
    rig.databases.close()


def test_a_copy_that_is_larger_than_the_budget_is_not_kept(tmp_path: Path) -> None:
    rig = Rig(RingKind.SHARED_CACHE)
    conn = rig.databases.open_fixture(rig.ring)
    conn.execute("DELETE FROM pairs")
    found = kept(rig, tmp_path, budget=1000)
    assert found.file == ""
    assert "are more than keep_failures allows" in found.note
    assert found.diff
    conn.rollback()
    conn.close()
    rig.databases.close()


def test_the_oldest_copies_make_room_and_never_the_newest(tmp_path: Path) -> None:
    files = [tmp_path / f"run{n}" / "test" / "default.sqlite" for n in range(4)]
    for age, file in enumerate(files):
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x" * 100)
        os.utime(file, (age, age))
    make_room(tmp_path, 250, files[-1])
    assert [file.exists() for file in files] == [False, False, True, True]
    assert not files[0].parent.parent.exists()
    make_room(tmp_path, 10, files[2])
    assert [file.exists() for file in files] == [False, False, True, False]


def test_folders_of_tests_are_readable_and_distinct() -> None:
    names = [
        folder_name(test) for test in ("a.py::t[x/y]", "a.py::t[x?y]", "a" * 500, "\udcff", "..")
    ]
    assert len(set(names)) == len(names)
    assert names[0].startswith("a.py_t_x_y-")
    assert all(len(name) < 100 and "/" not in name for name in names)


def test_a_worker_stops_keeping_when_its_time_for_that_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "_SECONDS", 0.0)
    rig = Rig(RingKind.SHARED_CACHE)
    keeper = Keeper(EvidenceOrder(folder=str(tmp_path), run="run", budget=1_000_000))
    assert len(keeper.take([rig.ring], "a", 0)) == 1
    assert keeper.take([rig.ring], "b", 0) == []
    rig.databases.close()


def test_what_fails_is_a_note(tmp_path: Path) -> None:
    rig = Rig(RingKind.SHARED_CACHE)
    conn = rig.databases.open_fixture(rig.ring)
    conn.execute("DELETE FROM pairs")
    (tmp_path / "run").write_text("a file in the way")
    found = kept(rig, tmp_path)
    assert found.note.startswith("nothing could be kept: ")
    conn.rollback()
    conn.close()
    rig.databases.close()


def test_literals_of_a_statement_are_blanked_where_it_names_a_table_of_redact() -> None:
    redact = ["users.password"]
    sql = "INSERT INTO Users VALUES (1, 'it''s', 'hunter2"
    assert without_literals(sql, redact) == "INSERT INTO Users VALUES (1, '…', '…'"
    assert without_literals("SELECT 'x' FROM bills", redact) == "SELECT 'x' FROM bills"
    assert without_literals(sql, []) == sql
