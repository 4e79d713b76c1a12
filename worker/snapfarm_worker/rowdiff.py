"""How two databases differ, row by row: they are attached to one connection, and SQL compares them.

Rows are told apart by their primary key, or by their row id where a table has none. One join tells
whether a table is equal; only where it is not, its rows are looked up. A value of another type is
another value, and so is text that a collation takes for equal. Views, virtual tables and their
shadow tables are not compared, their definitions are.
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections.abc import Collection, Iterator
from time import perf_counter
from typing import NamedTuple

from snapfarm_worker.evidence import Cell, DatabaseDiff, RowDiff, SchemaDiff, TableDiff
from snapfarm_worker.snapshot import quoted

#: The names under which the two databases are attached.
BEFORE, AFTER = "farm_before", "farm_after"

REDACTED = "[redacted]"

_TEXT = 200
_BLOB = 32
#: Instructions of SQLite's machine between two looks at the clock: some milliseconds.
_STEPS = 100_000


class _Table(NamedTuple):
    """A table as one of the databases has it. Names of columns in their order."""

    columns: tuple[str, ...]
    key: tuple[str, ...]
    without_rowid: bool


@contextlib.contextmanager
def attached(
    before: str | bytes | bytearray, after: str | bytes | bytearray
) -> Iterator[sqlite3.Connection]:
    """Attach two databases, each an image or the URI of a file, to a connection of their own."""
    with contextlib.closing(
        sqlite3.Connection(":memory:", isolation_level=None, uri=True, check_same_thread=False)
    ) as conn:
        for name, database in ((BEFORE, before), (AFTER, after)):
            if isinstance(database, str):
                conn.execute(f"ATTACH ? AS {name}", (database,))
            else:
                conn.execute(f"ATTACH ':memory:' AS {name}")
                conn.deserialize(database, name=name)
        conn.text_factory = lambda data: data.decode("utf-8", "backslashreplace")
        yield conn


def compare(
    conn: sqlite3.Connection,
    *,
    rows: int = 20,
    redact: Collection[str] = (),
    seconds: float = math.inf,
) -> DatabaseDiff:
    """Return how the second of two `attached` databases differs from the first.

    `rows` of each kind are listed for a table. `redact` names columns, as table.column in lower
    case, whose values are not shown. It takes at most `seconds`, then the rest is left out.
    Raises sqlite3.DatabaseError if one of the two is no database.
    """
    deadline = perf_counter() + seconds
    # The schemas are read before the clock runs: what is no database fails here.
    schema = tuple(_schema(conn))
    names = [_tables(conn, name) for name in (BEFORE, AFTER)]
    if math.isfinite(seconds):
        conn.set_progress_handler(lambda: perf_counter() > deadline, _STEPS)
    tables: list[TableDiff] = []
    incomplete = ""
    try:
        for name in sorted({*names[0], *names[1]}):
            try:
                before, after = (each.get(name) for each in names)
                found = _compare_table(conn, name, before, after, rows, redact)
            except sqlite3.OperationalError as error:
                if perf_counter() > deadline:
                    incomplete = f"after {seconds:g} s the comparison was left off at {name!r}"
                    break
                found = TableDiff(table=name, columns=(), error=str(error))
            if found.error or found.added or found.removed or found.changed:
                tables.append(found)
    finally:
        conn.set_progress_handler(None, 0)
    return DatabaseDiff(schema=schema, tables=tuple(tables), incomplete=incomplete)


def _schema(conn: sqlite3.Connection) -> Iterator[SchemaDiff]:
    before, after = (_statements(conn, name) for name in (BEFORE, AFTER))
    for kind, name in sorted({*before, *after}):
        old, new = before.get((kind, name), ""), after.get((kind, name), "")
        if old != new:
            yield SchemaDiff(kind=kind, name=name, before=old, after=new)
    for pragma in ("user_version", "application_id"):
        old, new = (
            str(conn.execute(f"PRAGMA {name}.{pragma}").fetchone()[0]) for name in (BEFORE, AFTER)
        )
        if old != new:
            yield SchemaDiff(kind="pragma", name=pragma, before=old, after=new)


def _statements(conn: sqlite3.Connection, database: str) -> dict[tuple[str, str], str]:
    found = conn.execute(
        f"SELECT type, name, sql FROM {database}.sqlite_schema "
        "WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
    )
    return {(kind, name): sql for kind, name, sql in found}


def _tables(conn: sqlite3.Connection, database: str) -> dict[str, _Table]:
    listed = conn.execute(
        "SELECT name, wr FROM pragma_table_list WHERE schema = ? AND type = 'table' "
        "AND name NOT LIKE 'sqlite!_%' ESCAPE '!'",
        (database,),
    ).fetchall()
    found = {}
    for name, without_rowid in listed:
        columns = conn.execute(
            "SELECT name, pk FROM pragma_table_xinfo(?, ?) WHERE hidden = 0", (name, database)
        ).fetchall()
        key = sorted((place, column) for column, place in columns if place)
        found[name] = _Table(
            tuple(column for column, _ in columns),
            tuple(column for _, column in key),
            bool(without_rowid),
        )
    return found


def _compare_table(
    conn: sqlite3.Connection,
    name: str,
    before: _Table | None,
    after: _Table | None,
    limit: int,
    redact: Collection[str],
) -> TableDiff:
    if before is None or after is None:
        return _whole_table(conn, name, before, after, limit, redact)
    known = {column.lower() for column in before.columns}
    columns = tuple(column for column in after.columns if column.lower() in known)
    lower = [column.lower() for column in columns]
    if [c.lower() for c in before.key] != [c.lower() for c in after.key]:
        return TableDiff(table=name, columns=columns, error="its primary key has changed")
    if not columns:
        return TableDiff(table=name, columns=(), error="it has no column in common")
    table = quoted(name)
    key = after.key
    if key and not after.without_rowid and any(_has_null(conn, table, each) for each in key):
        key = ()
    rowid = _rowid(before, after)
    if not key and rowid is None:
        return TableDiff(table=name, columns=columns, error="nothing tells its rows apart")
    same = " AND ".join(
        f"x.{part} = y.{part}" for part in (map(quoted, key) if key else [str(rowid)])
    )
    # Also the key's own columns: their collation may take different texts for the same key.
    differs = " OR ".join(
        f"x.{each} COLLATE BINARY IS NOT y.{each} COLLATE BINARY "
        f"OR typeof(x.{each}) IS NOT typeof(y.{each})"
        for each in map(quoted, columns)
    )
    source = f"{BEFORE}.{table} AS x CROSS JOIN {AFTER}.{table} AS y ON {same}"
    counted, changed = conn.execute(
        f"SELECT count(*), coalesce(sum({differs}), 0) FROM {source}"
    ).fetchone()
    total = {
        database: conn.execute(f"SELECT count(*) FROM {database}.{table}").fetchone()[0]
        for database in (BEFORE, AFTER)
    }
    hidden = [f"{name.lower()}.{column}" in redact for column in lower]
    order = ", ".join(f"{{0}}.{part}" for part in (map(quoted, key) if key else [str(rowid)]))
    found: list[RowDiff] = []
    for database, other, of in ((BEFORE, AFTER, "removed"), (AFTER, BEFORE, "added")):
        if total[database] > counted:
            listed = conn.execute(
                f"SELECT {_selected('x', columns)} FROM {database}.{table} AS x WHERE NOT EXISTS "
                f"(SELECT 1 FROM {other}.{table} AS y WHERE {same}) "
                f"ORDER BY {order.format('x')} LIMIT {limit}"
            )
            for row in listed:
                shown = _shown(row, hidden)
                found.append(RowDiff(shown, None) if of == "removed" else RowDiff(None, shown))
    if changed:
        listed = conn.execute(
            f"SELECT {_selected('x', columns)}, {_selected('y', columns)} FROM {source} "
            f"WHERE {differs} ORDER BY {order.format('x')} LIMIT {limit}"
        )
        for row in listed:
            old, new = row[: len(columns)], row[len(columns) :]
            found.append(RowDiff(_shown(old, hidden), _shown(new, hidden)))
    return TableDiff(
        table=name,
        columns=columns,
        key=key,
        removed=total[BEFORE] - counted,
        added=total[AFTER] - counted,
        changed=int(changed),
        rows=tuple(found),
    )


def _whole_table(
    conn: sqlite3.Connection,
    name: str,
    before: _Table | None,
    after: _Table | None,
    limit: int,
    redact: Collection[str],
) -> TableDiff:
    """Return the rows of a table that only one of the two has."""
    database, table = (BEFORE, before) if before is not None else (AFTER, after)
    assert table is not None
    columns = table.columns
    hidden = [f"{name}.{column}".lower() in redact for column in columns]
    count = conn.execute(f"SELECT count(*) FROM {database}.{quoted(name)}").fetchone()[0]
    listed = conn.execute(
        f"SELECT {_selected('x', columns)} FROM {database}.{quoted(name)} AS x LIMIT {limit}"
    )
    rows = [_shown(row, hidden) for row in listed]
    gone = before is not None
    return TableDiff(
        table=name,
        columns=columns,
        key=table.key,
        removed=count if gone else 0,
        added=0 if gone else count,
        rows=tuple(RowDiff(row, None) if gone else RowDiff(None, row) for row in rows),
    )


def _has_null(conn: sqlite3.Connection, table: str, column: str) -> bool:
    """Whether a key has NULLs, which SQLite allows and which tell no rows apart."""
    return any(
        conn.execute(
            f"SELECT EXISTS (SELECT 1 FROM {database}.{table} WHERE {quoted(column)} IS NULL)"
        ).fetchone()[0]
        for database in (BEFORE, AFTER)
    )


def _rowid(before: _Table, after: _Table) -> str | None:
    """Return a name of the row id that no column has taken."""
    if before.without_rowid or after.without_rowid:
        return None
    taken = {column.lower() for column in (*before.columns, *after.columns)}
    return next((name for name in ("rowid", "_rowid_", "oid") if name not in taken), None)


def _selected(alias: str, columns: tuple[str, ...]) -> str:
    return ", ".join(f"{alias}.{quoted(column)}" for column in columns)


def _shown(row: tuple[object, ...], hidden: list[bool]) -> tuple[Cell, ...]:
    return tuple(
        REDACTED if blank and value is not None else shown(value)
        for value, blank in zip(row, hidden, strict=True)
    )


def shown(value: object) -> Cell:
    """Return a value of SQLite's as reports show it."""
    match value:
        case bytes():
            cut = "…" if len(value) > _BLOB else ""
            more = f" ({len(value)} bytes)" if cut else ""
            return f"x'{value[:_BLOB].hex()}{cut}'{more}"
        case str():
            if len(value) <= _TEXT:
                return value
            return f"{value[:_TEXT]}… ({len(value)} characters)"
        case float() if not math.isfinite(value):
            return str(value)
        case int() | float() | None:
            return value
        case _:
            return str(value)
