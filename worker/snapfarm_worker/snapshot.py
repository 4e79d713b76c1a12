"""A database image: its bytes and the manifest that describes them, with the checks of both."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from typing import Literal

import msgspec

from snapfarm_worker.errors import SnapshotCorrupt, SnapshotError, SnapshotTooLarge

#: `sqlite3_serialize` and `sqlite3_deserialize` take at most this many bytes in one piece.
SERIALIZE_LIMIT = 2**31 - 1

#: The layer of a golden database that has nothing on top.
BASE = "base"

_HEADER_MAGIC = b"SQLite format 3\x00"


class TableInfo(msgspec.Struct, frozen=True):
    """One table or view of an image. `rows` is None where counting failed (say, a broken view)."""

    name: str
    kind: Literal["table", "view", "virtual"]
    rows: int | None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot claims of its bytes; written when it is made, checked when it is used."""

    #: Name of the golden database in the configuration.
    database: str
    #: SHA-256 of the bytes, hexadecimal; the identity of the snapshot.
    digest: str
    #: Length in bytes; page_size times the number of pages.
    size: int
    page_size: int
    #: Tables and views in the order of their names, without SQLite's own and shadow tables.
    tables: tuple[TableInfo, ...]
    #: SHA-256 over the sorted statements of sqlite_schema.
    schema_digest: str
    user_version: int
    application_id: int
    #: "UTF-8", "UTF-16le" or "UTF-16be".
    encoding: str
    sqlite_version: str
    layer: str = BASE

    @property
    def rows(self) -> dict[str, int]:
        """Row count of each table that has any, by name."""
        return {t.name: t.rows for t in self.tables if t.kind != "view" and t.rows}


class Snapshot(msgspec.Struct, frozen=True):
    """An image of a database: `data` are the bytes of a SQLite database file.

    A received image is a bytearray, since it was assembled in place; nobody may change it.
    """

    manifest: Manifest
    data: bytes | bytearray

    def verify(self, where: str) -> None:
        """Check the bytes against the manifest.

        Raises SnapshotCorrupt, which names `where` the snapshot was read from.
        """
        actual = digest_of(self.data)
        if actual != self.manifest.digest or len(self.data) != self.manifest.size:
            raise SnapshotCorrupt(self.manifest.database, self.manifest.digest, actual, where)


def digest_of(data: bytes | bytearray | memoryview) -> str:
    """Return the SHA-256 of an image as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def take(conn: sqlite3.Connection, database: str, *, layer: str = BASE) -> Snapshot:
    """Return a snapshot of the `main` database of a connection.

    The connection may not be in a transaction: what is uncommitted is in no snapshot. An empty
    database gives the image of one empty page, since SQLite serializes it to nothing.
    Raises SnapshotError and SnapshotTooLarge.
    """
    if conn.in_transaction:
        raise SnapshotError(f"database {database!r} has an open transaction: commit it first")
    with contextlib.closing(conn.cursor()) as cursor:
        cursor.row_factory = None
        page_size = int(cursor.execute("PRAGMA page_size").fetchone()[0])
        pages = int(cursor.execute("PRAGMA page_count").fetchone()[0])
        if pages * page_size > SERIALIZE_LIMIT:
            raise SnapshotTooLarge(
                database, pages * page_size, SERIALIZE_LIMIT, "SQLite can serialize in one piece"
            )
        if pages == 0:
            with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as empty:
                empty.execute("CREATE TABLE t(x)")
                empty.execute("DROP TABLE t")
                empty.execute("VACUUM")
                return take(empty, database, layer=layer)
        data = rollback_journal_image(conn.serialize())
        manifest = Manifest(
            database=database,
            digest=digest_of(data),
            size=len(data),
            page_size=page_size,
            tables=_tables(cursor),
            schema_digest=schema_digest(cursor),
            user_version=int(cursor.execute("PRAGMA user_version").fetchone()[0]),
            application_id=int(cursor.execute("PRAGMA application_id").fetchone()[0]),
            encoding=str(cursor.execute("PRAGMA encoding").fetchone()[0]),
            sqlite_version=sqlite3.sqlite_version,
            layer=layer,
        )
    return Snapshot(manifest, data)


def quoted(name: str) -> str:
    """Return an SQL identifier that names `name`, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


def rollback_journal_image(data: bytes) -> bytes:
    """Return the image with its WAL flags off: an in-memory database can't be opened with them."""
    if data[:16] == _HEADER_MAGIC and data[18:20] != b"\x01\x01":
        return data[:18] + b"\x01\x01" + data[20:]
    return data


def _tables(cursor: sqlite3.Cursor) -> tuple[TableInfo, ...]:
    listed = cursor.execute(
        "SELECT name, type FROM pragma_table_list WHERE schema = 'main' AND type != 'shadow' "
        "AND name NOT LIKE 'sqlite!_%' ESCAPE '!' ORDER BY name"
    ).fetchall()
    return tuple(TableInfo(name, kind, _row_count(cursor, name)) for name, kind in listed)


def _row_count(cursor: sqlite3.Cursor, name: str) -> int | None:
    try:
        return int(cursor.execute(f"SELECT COUNT(*) FROM main.{quoted(name)}").fetchone()[0])
    except sqlite3.Error:
        return None


def schema_digest(cursor: sqlite3.Cursor) -> str:
    """Return the SHA-256 over the sorted statements of the schema."""
    statements = cursor.execute(
        "SELECT type, name, tbl_name, coalesce(sql, '') FROM main.sqlite_schema ORDER BY 1, 2, 3, 4"
    ).fetchall()
    return hashlib.sha256(msgspec.msgpack.encode(statements)).hexdigest()
