"""Golden databases from SQL scripts: what goes in, and how mistakes are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from snapfarm.errors import GoldenBuildError, GoldenCheckError, GoldenTimeout
from snapfarm.golden.build import BuiltGolden
from support.golden_project import build_golden, opened, write_files

SCHEMA = """\
-- every kind of table that there is
PRAGMA page_size = 8192;
PRAGMA encoding = 'UTF-16le';
PRAGMA user_version = 42;
CREATE TABLE parents(id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;
CREATE TABLE children(id INTEGER PRIMARY KEY, parent REFERENCES parents(id));
CREATE TABLE pairs(a, b, PRIMARY KEY (a, b)) WITHOUT ROWID;
CREATE TABLE sums(a INT, b INT, s INT GENERATED ALWAYS AS (a + b) STORED,
                  v INT AS (a * b) VIRTUAL);
CREATE VIRTUAL TABLE texts USING fts5(body);
CREATE TABLE "o""dd ; table -- ü [x]"(x);
CREATE TABLE 'empty'(x);
CREATE VIEW names AS SELECT name FROM parents;
CREATE VIEW broken AS SELECT x FROM nowhere;
CREATE INDEX by_name ON parents(name);
CREATE TRIGGER grow AFTER INSERT ON parents BEGIN
    INSERT INTO children(parent) VALUES (new.id); -- one child; at least
    INSERT INTO pairs VALUES (new.id, CASE WHEN new.id > 1 THEN 'many' ELSE 'one' END);
END;
"""

SEED = """\
BEGIN;
INSERT INTO parents VALUES (1, 'semi;colon'), (2, 'quo''te');
INSERT INTO sums(a, b) VALUES (3, 4);
COMMIT;
INSERT INTO texts VALUES ('the quick brown fox'), ('a lazy dog');
INSERT INTO "o""dd ; table -- ü [x]" VALUES ('ü;') RETURNING x;
SELECT 'rows are of no interest' FROM parents;
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> BuiltGolden:
    root = tmp_path_factory.mktemp("project")
    write_files(root, {"schema.sql": SCHEMA, "seed.sql": "\ufeff" + SEED})
    return build_golden(root, schema=("schema.sql",), seed=("seed.sql",))


def test_the_manifest_describes_the_database(built: BuiltGolden) -> None:
    manifest = built.snapshot.manifest
    built.snapshot.verify("here")
    assert {table.name: (table.kind, table.rows) for table in manifest.tables} == {
        "parents": ("table", 2),
        "children": ("table", 2),
        "pairs": ("table", 2),
        "sums": ("table", 1),
        "texts": ("virtual", 2),
        'o"dd ; table -- ü [x]': ("table", 1),
        "empty": ("table", 0),
        "names": ("view", 2),
        "broken": ("view", None),
    }
    assert (manifest.database, manifest.page_size, manifest.user_version, manifest.encoding) == (
        "a",
        8192,
        42,
        "UTF-16le",
    )
    assert built.notes == ("can't be read, so their rows were not counted: 'broken'",)
    assert built.seconds > 0


def test_the_image_has_what_the_scripts_made(built: BuiltGolden) -> None:
    with opened(built.snapshot) as conn:
        assert conn.execute("SELECT s, v FROM sums").fetchall() == [(7, 12)]
        assert conn.execute("SELECT body FROM texts WHERE texts MATCH 'fox'").fetchall() == [
            ("the quick brown fox",)
        ]
        assert conn.execute("SELECT * FROM pairs").fetchall() == [(1, "one"), (2, "many")]
        assert conn.execute('SELECT * FROM "o""dd ; table -- ü [x]"').fetchall() == [("ü;",)]
        conn.execute("INSERT INTO parents VALUES (3, 'new')")
        assert conn.execute("SELECT COUNT(*) FROM children").fetchone() == (3,)


def test_a_golden_database_of_zero_tables(tmp_path: Path) -> None:
    built = build_golden(tmp_path)
    assert built.snapshot.manifest.tables == ()
    assert built.notes == ("the golden database has no tables",)
    with opened(built.snapshot) as conn:
        conn.execute("CREATE TABLE t(x)")


def test_what_the_shell_dumped(tmp_path: Path) -> None:
    dump = """\
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
PRAGMA writable_schema=ON;
INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql)
VALUES('table','ft','ft',0,'CREATE VIRTUAL TABLE ft USING fts5(b)');
CREATE TABLE IF NOT EXISTS 'ft_data'(id INTEGER PRIMARY KEY, block BLOB);
INSERT INTO ft_data VALUES(1,X'');
INSERT INTO ft_data VALUES(10,X'00000000000000');
CREATE TABLE IF NOT EXISTS 'ft_idx'(segid, term, pgno, PRIMARY KEY(segid, term)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS 'ft_content'(id INTEGER PRIMARY KEY, c0);
CREATE TABLE IF NOT EXISTS 'ft_docsize'(id INTEGER PRIMARY KEY, sz BLOB);
CREATE TABLE IF NOT EXISTS 'ft_config'(k PRIMARY KEY, v) WITHOUT ROWID;
INSERT INTO ft_config VALUES('version',4);
PRAGMA writable_schema=OFF;
COMMIT;
"""
    write_files(tmp_path, {"dump.sql": dump})
    built = build_golden(tmp_path, schema=("dump.sql",))
    assert [(table.name, table.kind) for table in built.snapshot.manifest.tables] == [
        ("ft", "virtual")
    ]


def test_transactions_and_temporary_tables_that_are_left_over(tmp_path: Path) -> None:
    write_files(
        tmp_path,
        {
            "one.sql": "CREATE TABLE t(x); BEGIN; INSERT INTO t VALUES (1);",
            "two.sql": "BEGIN; INSERT INTO t VALUES (2); COMMIT; CREATE TEMP TABLE tmp AS SELECT 1",
        },
    )
    built = build_golden(tmp_path, schema=("one.sql",), seed=("two.sql",))
    assert built.snapshot.manifest.rows == {"t": 2}
    assert built.notes == (
        "one.sql left a transaction open: it was committed",
        "temporary tables are not part of a golden database: 'tmp'",
    )


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("CREATE TABLE t(x);\n\nINSRT INTO t\nVALUES (1);", 'line 3: near "INSRT": syntax error'),
        ("CREATE TABLE t(x UNIQUE);\nINSERT INTO t VALUES (1), (1);", "line 2: UNIQUE constraint"),
        ("SELECT ?;", "line 1: "),
        ("CREATE TABLE t(x);\nINSERT INTO t VALUES (1", "line 2: the script ends in the middle of"),
        ("INSERT INTO t VALUES ('a);\n", "line 1: the script ends inside of a string"),
        ("SELECT 1;\n/* SELECT 2;", "line 2: the script ends inside of a comment"),
        ("\nCREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT 1;", "line 2: the script ends inside"),
        ("\n.mode csv\nSELECT 1;", "line 2: .mode is a command of the sqlite3 shell, not SQL"),
        (".read other.sql\n", "line 1: .read is a command of the sqlite3 shell"),
        ("SELECT 'a\0b';", "line 1: "),
        ("ATTACH ':memory:' AS other; CREATE TABLE other.t(x);", "the attached database 'other'"),
    ],
)
def test_a_mistake_names_file_line_and_statement(tmp_path: Path, script: str, message: str) -> None:
    write_files(tmp_path, {"db/bad.sql": script})
    with pytest.raises(GoldenBuildError) as caught:
        build_golden(tmp_path, schema=("db/bad.sql",))
    text = str(caught.value)
    assert text.startswith("golden database 'a': ")
    assert message in text
    if "line" in message:
        assert f"db/bad.sql, {message}" in text
        assert script.splitlines()[-1].split("\0")[0].strip()[:12] in text


def test_long_statements_are_cut_in_messages(tmp_path: Path) -> None:
    write_files(tmp_path, {"bad.sql": f"INSERT INTO nowhere VALUES ('{'x' * 100_000}');"})
    with pytest.raises(GoldenBuildError, match="no such table: nowhere") as caught:
        build_golden(tmp_path, schema=("bad.sql",))
    assert len(str(caught.value)) < 1000


def test_a_script_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "bad.sql").write_bytes(b"SELECT 1;\nSELECT '\xe4';")
    with pytest.raises(GoldenBuildError, match=r"bad\.sql, line 2: is not UTF-8 \(byte 18\)"):
        build_golden(tmp_path, schema=("bad.sql",))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le"])
@pytest.mark.parametrize("text", ["SELECT 1;", "SELECT 'éü';"])
def test_a_script_in_utf16_is_told_apart(tmp_path: Path, encoding: str, text: str) -> None:
    (tmp_path / "s.sql").write_bytes(text.encode(encoding))
    with pytest.raises(GoldenBuildError, match=r"s\.sql: seems to be UTF-16: convert .* to UTF-8$"):
        build_golden(tmp_path, schema=("s.sql",))


def test_violated_foreign_keys_are_listed(tmp_path: Path) -> None:
    write_files(
        tmp_path,
        {
            "s.sql": "CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE c(p REFERENCES p(id));\n"
            "CREATE TABLE w(p PRIMARY KEY REFERENCES p(id)) WITHOUT ROWID;\n"
            "INSERT INTO c WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
            "WHERE i < 9) SELECT i FROM n;\n"
            "INSERT INTO w VALUES (7), (8), (9);"
        },
    )
    with pytest.raises(GoldenCheckError, match="foreign_key_check found") as caught:
        build_golden(tmp_path, schema=("s.sql",))
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == 11
    assert "  table 'c', row 1: no such row in 'p'" in lines
    assert "  table 'w', a row (the table has no rowid): no such row in 'p'" in lines
    assert lines[-1].strip() == "… and more"


def test_a_script_that_never_ends_is_stopped_where_it_is(tmp_path: Path) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n;"
    write_files(tmp_path, {"s.sql": f"CREATE TABLE t(x);\n\n{endless}"})
    with pytest.raises(GoldenTimeout, match=r"within 1 s; it was in s\.sql, line 3"):
        build_golden(tmp_path, schema=("s.sql",), timeout=1.0)
