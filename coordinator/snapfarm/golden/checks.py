"""What SQLite itself says about a golden database that was just built."""

from __future__ import annotations

import sqlite3

from snapfarm.errors import GoldenBuildError, GoldenCheckError
from snapfarm_worker.snapshot import BASE, Snapshot, quoted, rollback_journal_image, take

#: So many violations are named; a seed with one wrong parent may have thousands.
_NAMED = 10

#: Complaints about something that only the application can provide, not about the data.
_MISSING_PARTS = (
    "no such collation sequence",
    "no such function",
    "no such module",
    "unknown tokenizer",
)


def refuse_strays(conn: sqlite3.Connection) -> tuple[str, ...]:
    """Refuse tables in attached databases; return a note on those in `temp`.

    A golden database is the `main` database of the connection, and nothing else gets into its
    image.
    """
    notes = []
    for _, schema, file in conn.execute("PRAGMA database_list").fetchall():
        if schema == "main":
            continue
        tables = conn.execute(
            f"SELECT name FROM {quoted(schema)}.sqlite_schema WHERE type IN ('table', 'view')"
        ).fetchall()
        if not tables:
            continue
        names = ", ".join(repr(name) for (name,) in tables[:_NAMED])
        if schema == "temp":
            notes.append(f"temporary tables are not part of a golden database: {names}")
            continue
        raise GoldenBuildError(
            f"the attached database {schema!r} ({file or 'in memory'}) has tables ({names}), and "
            f"only 'main' becomes the golden database: DETACH it if it was only read, or declare "
            f"a second golden database for it"
        )
    return tuple(notes)


def checked_snapshot(
    conn: sqlite3.Connection, name: str, layer: str = BASE
) -> tuple[Snapshot, tuple[str, ...]]:
    """Return a snapshot of the `main` database, and notes on it.

    Raises GoldenCheckError, and SnapshotError as `take`.
    """
    notes = check(conn)
    snapshot = take(conn, name, layer=layer)
    if not snapshot.manifest.tables:
        notes += ("the golden database has no tables",)
    unreadable = [table.name for table in snapshot.manifest.tables if table.rows is None]
    if unreadable:
        names = ", ".join(repr(name) for name in unreadable)
        notes += (f"can't be read, so their rows were not counted: {names}",)
    return snapshot, notes


def check(conn: sqlite3.Connection) -> tuple[str, ...]:
    """Run integrity_check and foreign_key_check; return notes. Raises GoldenCheckError."""
    notes: list[str] = []
    try:
        complaints = conn.execute(f"PRAGMA integrity_check({_NAMED})").fetchall()
    except sqlite3.Error as error:
        if not _lacks_parts(str(error)):
            raise GoldenCheckError(f"integrity_check failed: {error}") from None
        notes.append(f"integrity_check was not possible: {error}")
        complaints = []
    wrong = [str(text) for (text,) in complaints if text != "ok"]
    if wrong:
        raise GoldenCheckError("integrity_check found:\n" + "\n".join(f"  {w}" for w in wrong))
    try:
        # A cursor over all violations would be read to its end; one more tells that there are more.
        cursor = conn.execute("PRAGMA main.foreign_key_check")
        violations = cursor.fetchmany(_NAMED + 1)
        cursor.close()
    except sqlite3.Error as error:
        if not _lacks_parts(str(error)):
            raise GoldenCheckError(f"foreign_key_check failed: {error}") from None
        notes.append(f"foreign_key_check was not possible: {error}")
        violations = []
    if violations:
        lines = [
            f"  table {table!r}, "
            + (f"row {rowid}" if rowid is not None else "a row (the table has no rowid)")
            + f": no such row in {parent!r}"
            for table, rowid, parent, _ in violations[:_NAMED]
        ]
        if len(violations) > _NAMED:
            lines.append("  … and more")
        raise GoldenCheckError("foreign_key_check found:\n" + "\n".join(lines))
    return tuple(notes)


def leave_wal_mode(conn: sqlite3.Connection) -> None:
    """Make an in-memory database readable whose pages are those of a file in WAL mode."""
    try:
        conn.execute("SELECT 1 FROM sqlite_schema").fetchone()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorname == "SQLITE_CANTOPEN":
            conn.deserialize(rollback_journal_image(conn.serialize()))


def _lacks_parts(text: str) -> bool:
    return text.startswith(_MISSING_PARTS)
