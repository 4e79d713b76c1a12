"""Run an SQL script on a connection, with errors that name file, line and statement."""

from __future__ import annotations

import codecs
import sqlite3
from collections.abc import Callable
from pathlib import Path

from snapfarm.errors import GoldenBuildError
from snapfarm_worker.sqlscript import Statement, split

#: Statements are shown up to this length in messages; a seed may insert megabytes at once.
_SHOWN_CHARACTERS = 500

#: Bytes of a script that show its encoding.
_SAMPLE = 512


def run_script(
    conn: sqlite3.Connection, path: Path, title: str, reached: Callable[[int], None]
) -> None:
    """Run the statements of a script one by one, `reached` told the line of each.

    The connection has to be in autocommit mode, so that the script's own BEGIN and COMMIT are the
    only ones. Raises GoldenBuildError.
    """
    for statement in split(_text(path, title)):
        reached(statement.line)
        if statement.unfinished:
            raise _failed(title, statement, f"the script ends inside of a {statement.unfinished}")
        if statement.sql.startswith("."):
            command = statement.sql.split(None, 1)[0]
            raise _failed(
                title,
                statement,
                f"{command} is a command of the sqlite3 shell, not SQL: remove it"
                + (", and list the other script in the configuration" * (command == ".read")),
            )
        try:
            # Rows are of no interest, but a statement does its work only while it is stepped.
            for _ in conn.execute(statement.sql):
                pass
        except sqlite3.OperationalError as error:
            text = str(error)
            if text == "incomplete input":
                text = "the script ends in the middle of a statement"
            raise _failed(title, statement, text) from None
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            raise _failed(title, statement, str(error)) from None


def _text(path: Path, title: str) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise GoldenBuildError(f"{title}: can't be read: {error.strerror or error}") from error
    if _is_utf16(data[:_SAMPLE]):
        raise GoldenBuildError(f"{title}: seems to be UTF-16: convert the script to UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise GoldenBuildError(
            f"{title}, line {line}: is not UTF-8 (byte {error.start}); convert the script to UTF-8"
        ) from None


def _is_utf16(head: bytes) -> bool:
    """Tell whether a text that begins so is UTF-16, as shells on Windows write it."""
    marked = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    # SQL is ASCII for the most part, and in UTF-16 each of its characters has a zero byte.
    return marked or head.count(0) > len(head) // 3


def _failed(title: str, statement: Statement, what: str) -> GoldenBuildError:
    sql = statement.sql
    if len(sql) > _SHOWN_CHARACTERS:
        sql = f"{sql[:_SHOWN_CHARACTERS]} … ({len(sql)} characters)"
    indented = "\n".join(f"    {line}" for line in sql.splitlines())
    return GoldenBuildError(f"{title}, line {statement.line}: {what}\n{indented}")
