"""Two databases, compared row by row."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from snapfarm.cli import main
from snapfarm.diff_command import lines
from snapfarm_worker.evidence import DatabaseDiff, RowDiff, TableDiff
from snapfarm_worker.rowdiff import attached, compare
from support.golden import golden, image

PEOPLE = (
    "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, photo BLOB);"
    "INSERT INTO people VALUES (1, 'Ada', NULL), (2, 'Grace', x'00'), (3, 'Linus', NULL);"
)


def difference(before: str, after: str, **options: object) -> DatabaseDiff:
    with attached(image(before), image(after)) as conn:
        return compare(conn, **options)  # type: ignore[arg-type]  # as compare takes them


def only(diff: DatabaseDiff) -> TableDiff:
    assert not diff.schema
    (table,) = diff.tables
    return table


def test_equal_databases_do_not_differ() -> None:
    data = golden().data
    with attached(data, data) as conn:
        assert not compare(conn)


def test_rows_are_added_removed_and_changed_by_their_key() -> None:
    found = only(
        difference(
            PEOPLE,
            PEOPLE + "DELETE FROM people WHERE id = 1; INSERT INTO people VALUES (0, 'Eve', NULL);"
            "UPDATE people SET photo = x'0102' WHERE id = 2",
        )
    )
    assert (found.added, found.removed, found.changed) == (1, 1, 1)
    assert (found.columns, found.key) == (("id", "name", "photo"), ("id",))
    assert found.rows == (
        RowDiff((1, "Ada", None), None),
        RowDiff(None, (0, "Eve", None)),
        RowDiff((2, "Grace", "x'00'"), (2, "Grace", "x'0102'")),
    )
    assert [row.kind for row in found.rows] == ["removed", "added", "changed"]


@pytest.mark.parametrize(
    ("declared", "before", "after"),
    [
        ("a, b", "(1, 'x')", "('1', 'x')"),  # another type
        ("a TEXT PRIMARY KEY COLLATE NOCASE, b", "('key', 1)", "('KEY', 1)"),  # equal to NOCASE
        ("a INTEGER PRIMARY KEY, b COLLATE NOCASE", "(1, 'x')", "(1, 'X')"),
        ("a TEXT, b TEXT, PRIMARY KEY (a, b)", "(NULL, 'x')", "(NULL, 'y')"),  # NULL in a key
        ("rowid TEXT, a", "('x', 1)", "('x', 2)"),  # a column that is named like the row id
        ('"odd ""name" PRIMARY KEY, b', "(1, 2)", "(1, 3)"),
        ("a PRIMARY KEY, b", "(1, NULL)", "(1, 0)"),
        ("a INT PRIMARY KEY, b REAL", "(1, 0.5)", "(1, 9e999)"),
    ],
)
def test_one_changed_row_is_one_change(declared: str, before: str, after: str) -> None:
    table = f"CREATE TABLE t ({declared});"
    found = only(
        difference(
            f"{table} INSERT INTO t VALUES {before}", f"{table} INSERT INTO t VALUES {after}"
        )
    )
    assert (found.added, found.removed, found.changed, found.error) == (0, 0, 1, "")
    (row,) = found.rows
    assert row.before is not None
    assert row.after is not None


def test_without_rowid_and_composite_keys_are_compared() -> None:
    table = "CREATE TABLE t (a, b, c, PRIMARY KEY (b, a)) WITHOUT ROWID;"
    found = only(
        difference(
            table + "INSERT INTO t VALUES (1, 2, 3), (1, 3, 3)",
            table + "INSERT INTO t VALUES (1, 2, 4), (2, 3, 3)",
        )
    )
    assert found.key == ("b", "a")
    assert (found.added, found.removed, found.changed) == (1, 1, 1)


def test_schemas_are_compared_and_rows_of_a_table_that_one_lacks() -> None:
    found = difference(
        "CREATE TABLE gone (a); INSERT INTO gone VALUES (1); CREATE VIEW v AS SELECT 1;",
        "CREATE TABLE came (b, c); INSERT INTO came VALUES (1, 2), (3, 4); PRAGMA user_version = 3;"
        "CREATE VIEW v AS SELECT 2;",
    )
    assert [
        (each.kind, each.name, bool(each.before), bool(each.after)) for each in found.schema
    ] == [
        ("table", "came", False, True),
        ("table", "gone", True, False),
        ("view", "v", True, True),
        ("pragma", "user_version", True, True),
    ]
    assert [(each.table, each.added, each.removed) for each in found.tables] == [
        ("came", 2, 0),
        ("gone", 0, 1),
    ]


def test_a_new_column_leaves_the_rows_comparable() -> None:
    found = difference(PEOPLE, PEOPLE + "ALTER TABLE people ADD COLUMN age; DELETE FROM people")
    (table,) = found.tables
    assert (table.columns, table.removed) == (("id", "name", "photo"), 3)


def test_what_cant_be_compared_is_told_and_the_rest_goes_on() -> None:
    found = difference(
        "CREATE TABLE a (x PRIMARY KEY, y); CREATE TABLE b (x);",
        "CREATE TABLE a (x, y PRIMARY KEY); CREATE TABLE b (x); INSERT INTO b VALUES (1)",
    )
    assert [(each.table, each.error, each.added) for each in found.tables] == [
        ("a", "its primary key has changed", 0),
        ("b", "", 1),
    ]


def test_rows_are_capped_and_long_values_cut() -> None:
    found = only(
        difference(
            "CREATE TABLE t (a);",
            "CREATE TABLE t (a); INSERT INTO t SELECT printf('%.*c', 1000, 'x') FROM "
            "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 50) "
            "SELECT * FROM n)",
            rows=3,
        )
    )
    assert (found.added, len(found.rows)) == (50, 3)
    assert found.rows[0].after == ("x" * 200 + "… (1000 characters)",)


def test_redacted_columns_are_compared_and_not_shown() -> None:
    found = only(
        difference(
            PEOPLE,
            PEOPLE + "UPDATE people SET name = 'secret' WHERE id = 3",
            redact=("people.name",),
        )
    )
    assert found.changed == 1
    assert "secret" not in repr(found)
    assert "Linus" not in repr(found)


def test_a_comparison_ends_when_its_time_is_over() -> None:
    many = (
        "CREATE TABLE t (a, b); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
        "LIMIT 40000) INSERT INTO t SELECT i, i FROM n;"
    )
    found = difference(many, many + "UPDATE t SET b = 0", seconds=0.0)
    assert found.incomplete == "after 0 s the comparison was left off at 't'"
    assert not found.tables


def test_virtual_tables_and_their_shadows_are_left_out() -> None:
    table = "CREATE VIRTUAL TABLE t USING fts5(a);"
    try:
        found = difference(table, table + "INSERT INTO t VALUES ('x')")
    except sqlite3.OperationalError:
        pytest.skip("this SQLite has no fts5")
    assert not found


_values = st.one_of(
    st.none(), st.integers(-2, 2), st.sampled_from(["", "a", "A", "1"]), st.binary(max_size=1)
)
_tables = st.dictionaries(st.integers(0, 6), st.tuples(_values, _values), max_size=6)


@settings(max_examples=60, deadline=None)
@given(_tables, _tables)
def test_sql_finds_what_a_comparison_in_python_finds(
    before: dict[int, tuple[object, object]], after: dict[int, tuple[object, object]]
) -> None:
    images = []
    for rows in (before, after):
        with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
            conn.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a COLLATE NOCASE, b)")
            conn.executemany("INSERT INTO t VALUES (?, ?, ?)", [(k, *v) for k, v in rows.items()])
            images.append(conn.serialize())
    with attached(images[0], images[1]) as conn:
        found = compare(conn, rows=100)
    both = before.keys() & after.keys()
    expected = (
        len(after.keys() - before.keys()),
        len(before.keys() - after.keys()),
        sum(list(map(_typed, before[key])) != list(map(_typed, after[key])) for key in both),
    )
    totals = [(each.added, each.removed, each.changed) for each in found.tables] or [(0, 0, 0)]
    assert totals == [expected]
    assert sum(len(each.rows) for each in found.tables) == sum(expected)


def _typed(value: object) -> tuple[type, object]:
    return type(value), value


# ---------------------------------------------------------------- the command


def saved(path: Path, script: str) -> str:
    path.write_bytes(image(script))
    return str(path)


def test_the_command_prints_the_difference_and_exits_as_diff(tmp_path: Path) -> None:
    first = saved(tmp_path / "a #1.sqlite", PEOPLE)
    second = saved(tmp_path / "b?.sqlite", PEOPLE + "UPDATE people SET name = 'O''N' WHERE id = 1;")
    runner = CliRunner()
    same = runner.invoke(main, ["diff", first, first])
    assert (same.exit_code, same.output) == (0, "")
    found = runner.invoke(main, ["diff", first, second])
    assert found.exit_code == 1
    assert found.output.splitlines() == [
        f"--- {first}",
        f"+++ {second}",
        "table people: 1 changed",
        "  ~ id=1  name: 'Ada' -> 'O''N'",
    ]
    assert '"changed": 1' in runner.invoke(main, ["diff", "--json", first, second]).output


@pytest.mark.parametrize("wrong", ["missing.sqlite", "text.sqlite", "."])
def test_the_command_says_what_is_no_database_and_exits_with_2(tmp_path: Path, wrong: str) -> None:
    first = saved(tmp_path / "a.sqlite", PEOPLE)
    (tmp_path / "text.sqlite").write_text("no database at all " * 100)
    found = CliRunner().invoke(main, ["diff", first, str(tmp_path / wrong)])
    assert found.exit_code == 2
    assert "Error: " in found.output


def test_the_command_leaves_both_files_as_they_were(tmp_path: Path) -> None:
    paths = [tmp_path / "a.sqlite", tmp_path / "b.sqlite"]
    for path in paths:
        with contextlib.closing(sqlite3.connect(path)) as conn:
            conn.executescript(PEOPLE)
    before = [path.read_bytes() for path in paths]
    assert CliRunner().invoke(main, ["diff", *map(str, paths)]).exit_code == 0
    assert [path.read_bytes() for path in paths] == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.sqlite", "b.sqlite"]


def test_text_for_people_tells_each_kind_of_difference() -> None:
    found = difference(
        PEOPLE + "CREATE INDEX i ON people (name);",
        PEOPLE
        + "DELETE FROM people WHERE id = 2; CREATE TABLE z (a); INSERT INTO z VALUES (NULL);",
    )
    assert list(lines(found)) == [
        "index i removed",
        "  - CREATE INDEX i ON people (name)",
        "table z added",
        "  + CREATE TABLE z (a)",
        "table people: 1 removed",
        "  - id=2, name='Grace', photo=x'00'",
        "table z: 1 added (by row id)",
        "  + a=NULL",
    ]
