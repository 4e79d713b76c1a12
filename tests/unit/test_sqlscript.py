"""The splitter of SQL scripts."""

from __future__ import annotations

import re
import sqlite3
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snapfarm_worker.sqlscript import Statement, split


def texts(script: str) -> list[str]:
    return [statement.sql for statement in split(script)]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("", []),
        (" \n;; ;\n-- nothing\n/* at all */", []),
        ("SELECT 1", ["SELECT 1"]),
        ("SELECT 1;SELECT 2;", ["SELECT 1;", "SELECT 2;"]),
        ("SELECT ';';SELECT \";\";", ["SELECT ';';", 'SELECT ";";']),
        ("SELECT 'it''s;';SELECT 2", ["SELECT 'it''s;';", "SELECT 2"]),
        ("SELECT [a;b], `c;d` FROM t;", ["SELECT [a;b], `c;d` FROM t;"]),
        ("SELECT 1 -- not the end;\n;SELECT 2;", ["SELECT 1 -- not the end;\n;", "SELECT 2;"]),
        ("SELECT 1 /* ; ** ; */ ;", ["SELECT 1 /* ; ** ; */ ;"]),
        ("SELECT 3-1/2;", ["SELECT 3-1/2;"]),
        ("-- a\nSELECT 1; -- b", ["SELECT 1;"]),
        ("\ufeffSELECT 1;", ["SELECT 1;"]),
        ("SELECT 1;\r\nSELECT 2;\r\n", ["SELECT 1;", "SELECT 2;"]),
    ],
)
def test_splits_at_the_semicolons_that_end_statements(script: str, expected: list[str]) -> None:
    assert texts(script) == expected


@pytest.mark.parametrize(
    "trigger",
    [
        "CREATE TRIGGER a AFTER INSERT ON t BEGIN SELECT 1; SELECT 2; END;",
        "create temp trigger a AFTER INSERT ON t BEGIN SELECT 1; END;",
        "CREATE/**/TEMPORARY -- x\n TRIGGER a DELETE ON t BEGIN SELECT 1 ; /* ; */ end -- y\n ;",
        "CREATE TRIGGER a AFTER INSERT ON t BEGIN SELECT CASE WHEN 1 THEN 2 END; END;",
        "CREATE TRIGGER a AFTER INSERT ON t BEGIN UPDATE t SET ending = 1; END;",
        "EXPLAIN QUERY PLAN CREATE TRIGGER a AFTER INSERT ON t BEGIN SELECT 1; END;",
    ],
)
def test_a_trigger_is_one_statement(trigger: str) -> None:
    assert texts(f"{trigger}\nSELECT 9;") == [trigger, "SELECT 9;"]
    last = trigger.rstrip("; \n")
    assert texts(last) == [last]


def test_lines_count_from_the_first_word_of_a_statement() -> None:
    script = "\n-- one\n\nSELECT\n1;/* x\n*/ SELECT 2;\n\nSELECT 3"
    assert [(s.line, s.sql[:6]) for s in split(script)] == [
        (4, "SELECT"),
        (6, "SELECT"),
        (8, "SELECT"),
    ]


@pytest.mark.parametrize(
    ("script", "unfinished"),
    [
        ("INSERT INTO t VALUES ('abc); SELECT 1;", "string"),
        ('SELECT "abc; SELECT 1;', "quoted name"),
        ("SELECT `abc", "quoted name"),
        ("SELECT [abc", "quoted name"),
        ("SELECT 1 /* never; closed", "comment"),
        ("/* never closed; SELECT 1;", "comment"),
        ("CREATE TRIGGER a AFTER INSERT ON t BEGIN SELECT 1;", "trigger body"),
    ],
)
def test_what_the_end_of_the_script_cuts_off_is_named(script: str, unfinished: str) -> None:
    first, last = split(f"SELECT 0;\n{script}")
    assert first == Statement("SELECT 0;", 1)
    assert last == Statement(script, 2, unfinished)


TOKENS = st.sampled_from(
    [
        "CREATE", "TRIGGER", "TEMP", "temporary", "BEGIN", "END", "end", "CASE", "SELECT", "x",
        ";", ";", ";", "'a;b'", "'it''s'", '"q;"', "[b;]", "`c;`", "-- n;\n", "/* ; */", "/***/",
        "1", "-", "/", "\n", "\t",
    ]
)  # fmt: skip


@settings(max_examples=400)
@given(st.lists(TOKENS, max_size=25))
def test_agrees_with_sqlite_about_where_statements_end(tokens: list[str]) -> None:
    script = " ".join(tokens)
    pieces, start = [], 0
    for end in (index + 1 for index, character in enumerate(script) if character == ";"):
        if sqlite3.complete_statement(script[start:end]):
            pieces.append(script[start:end])
            start = end
    pieces.append(script[start:])
    blank = re.compile(r"(?:\s|;|--[^\n]*\n|/\*.*?\*/)*")
    expected = [text for piece in pieces if (text := piece[blank.match(piece).end() :].strip())]  # type: ignore[union-attr]  # it always matches
    assert texts(script) == expected


@pytest.mark.parametrize(
    "script",
    [
        "INSERT INTO t VALUES " + ",".join(["(1,'it''s; -- x',2.5)"] * 200_000) + ";",
        "INSERT INTO t VALUES (1);\n" * 100_000,
        "CREATE TRIGGER a BEGIN " + ";" * 2_000_000,
        "CREATE TRIGGER a BEGIN " + "; ENDS " * 300_000,
        "/*" * 1_000_000,
        "'" * 1_999_999,
        "CREATE " + "/**/ " * 400_000,
        "-/" * 1_000_000,
    ],
    ids=lambda script: script[:24],
)
def test_large_scripts_take_linear_time(script: str) -> None:
    started = time.perf_counter()
    count = sum(1 for _ in split(script))
    assert count >= 1
    # Each takes well under a second; in quadratic time each would take many minutes.
    assert time.perf_counter() - started < 20
