"""Keeps the evidence of failed tests: each database as it was, its difference, the last statements.

It is taken when a phase has failed, before fixtures are torn down and rings reset. What is not
committed is in the copy too: in a shared cache anybody can see it, in a memdb the connection that
wrote it. Of a private database, the copy has what is committed. Nothing here fails a test: what
can't be kept is a note.

Copies that hold blanked columns are made anew by `VACUUM INTO`, so that no free page holds what was
blanked; a database in which a column can't be blanked is not kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec

from snapfarm_worker.blockers import writing_here
from snapfarm_worker.errors import RingError
from snapfarm_worker.evidence import (
    DatabaseDiff,
    DatabaseEvidence,
    EvidenceOrder,
    LastWords,
    Statements,
    without_literals,
)
from snapfarm_worker.ringkind import RingKind
from snapfarm_worker.rowdiff import attached, compare
from snapfarm_worker.snapshot import quoted, rollback_journal_image

if TYPE_CHECKING:
    from snapfarm_worker.databases import Databases
    from snapfarm_worker.ring import Ring

#: Seconds that one worker spends on evidence in a run: a suite that fails everywhere needs no more.
_SECONDS = 60.0
#: Seconds for the comparison of one database.
_COMPARISON = 5.0
_ROWS = 20
_SQL = 2000


class Failures:
    """The evidence of the failures of a session's items, attempt by attempt."""

    def __init__(self, databases: Databases, order: EvidenceOrder) -> None:
        self._databases = databases
        self._keeper = Keeper(order)
        #: How often the setup of an item has begun, counted from 0.
        self._attempts: dict[str, int] = {}
        self._kept: dict[str, list[DatabaseEvidence]] = {}
        #: The item that runs, and the one that ran at the last `remember`.
        self._running = self._remembered = ""
        self._order = order
        self._words: LastWords | None = None

    def begin(self, nodeid: str) -> None:
        """An attempt at an item begins."""
        self._running = nodeid
        self._attempts[nodeid] = self._attempts.get(nodeid, -1) + 1

    def keep(self, nodeid: str) -> None:
        """Keep what there is to see of an attempt that has just failed for the first time."""
        kept, attempt = self._kept.setdefault(nodeid, []), self._attempts.get(nodeid, 0)
        if not any(each.attempt == attempt for each in kept):
            rings = [self._databases.get(name) for name in self._databases.names]
            kept += self._keeper.take(rings, nodeid, attempt)

    def take(self, nodeid: str) -> tuple[DatabaseEvidence, ...]:
        """Return, and forget, what was kept of one item."""
        self._running = ""
        self._attempts.pop(nodeid, None)
        return tuple(self._kept.pop(nodeid, ()))

    def remember(self) -> None:
        """Write what the running test has executed last, if it has been running for a while.

        Called each second by the thread that sends the pulse: a test that is killed takes its
        databases with it, and this stays. To write each statement as it is executed would cost a
        third of what a quick one costs.
        """
        running = self._running
        if not running or running != self._remembered:
            self._remembered = running
            return
        found = LastWords(running, tuple(self._last_statements()))
        if found.databases and found != self._words and self._order.words:
            self._words = found
            file = Path(self._order.words)
            partial = file.with_name(file.name + ".partial")
            partial.write_bytes(msgspec.json.encode(found))
            partial.replace(file)

    def _last_statements(self) -> Iterator[DatabaseEvidence]:
        for name in self._databases.names:
            statements = statements_of(self._databases.get(name), self._order.redact)
            if statements:
                yield DatabaseEvidence(database=name, statements=statements)


class Keeper:
    """Takes the evidence of one worker's failures."""

    def __init__(self, order: EvidenceOrder) -> None:
        self._order = order
        self._spent = 0.0

    def take(self, rings: Sequence[Ring], test: str, attempt: int) -> list[DatabaseEvidence]:
        """Return the evidence of a failure that has just happened."""
        found = []
        for ring in rings:
            if not ring.is_open or self._spent > _SECONDS:
                continue
            began = perf_counter()
            try:
                found.append(self._of(ring, test, attempt))
            except Exception as error:
                note = f"nothing could be kept: {type(error).__name__}: {error}"
                found.append(DatabaseEvidence(database=ring.database, attempt=attempt, note=note))
            self._spent += perf_counter() - began
        return found

    def _of(self, ring: Ring, test: str, attempt: int) -> DatabaseEvidence:
        statements = statements_of(ring, self._order.redact)
        before, after = baseline_image(ring), present_image(ring)
        diff, file, size, note = DatabaseDiff(), "", 0, "it was as its baseline"
        if before != after:
            with attached(before, after) as conn:
                diff = compare(conn, rows=_ROWS, redact=self._order.redact, seconds=_COMPARISON)
        if diff or diff.incomplete:
            file, note = self._save(after, ring.database, test, attempt)
            size = Path(file).stat().st_size if file else 0
        return DatabaseEvidence(
            database=ring.database,
            attempt=attempt,
            file=file,
            size=size,
            diff=diff,
            statements=statements,
            note=note,
        )

    def _save(self, image: bytes, database: str, test: str, attempt: int) -> tuple[str, str]:
        """Write a copy; return its file, or "" and why there is none."""
        if len(image) > self._order.budget:
            return "", f"its {len(image) / 1e6:.1f} MB are more than keep_failures allows"
        folder = Path(self._order.folder, self._order.run, folder_name(test))
        name = f"{database}.sqlite" if attempt == 0 else f"{database}-{attempt}.sqlite"
        file = folder / name
        folder.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(file.name + ".partial")
        partial.unlink(missing_ok=True)
        columns = [name.partition(".") for name in self._order.redact]
        try:
            if columns:
                blanked_copy(image, [(table, column) for table, _, column in columns], partial)
            else:
                partial.write_bytes(image)
        except sqlite3.Error as error:
            partial.unlink(missing_ok=True)
            return "", f"a column of redact could not be blanked: {error}"
        partial.replace(file)
        make_room(Path(self._order.folder), self._order.budget, file)
        return str(file), ""


def statements_of(ring: Ring, redact: Sequence[str]) -> tuple[Statements, ...]:
    """Return the last statements of the present test, by connection."""
    return tuple(
        Statements(
            connection=member.where,
            statements=tuple(_blanked(sql, redact) for sql in list(member.recent)),
            in_transaction=_in_transaction(member.ref()),
        )
        for member in ring.members()
        if member.recent
    )


def _blanked(sql: str, redact: Sequence[str]) -> str:
    sql = sql if len(sql) <= _SQL else sql[:_SQL] + "…"
    return without_literals(sql, redact)


def present_image(ring: Ring) -> bytes:
    """Return an image of what the test sees now, what it has not committed included.

    Raises RingError or sqlite3.Error where somebody's lock is in the way.
    """
    with ring.lock:
        writer = next(filter(None, map(writing_here, ring.members())), None)
        sentinel = ring.sentinel
        if sentinel is not None and (writer is None or ring.kind is RingKind.SHARED_CACHE):
            try:
                return sentinel.image()
            except sqlite3.OperationalError:  # somebody is changing the schema
                if writer is None:
                    raise
        if writer is not None:
            return rollback_journal_image(sqlite3.Connection.serialize(writer))
        return baseline_image(ring)


def baseline_image(ring: Ring) -> bytes:
    """Return an image of what the ring is reset to. Raises RingError if it was not kept."""
    with ring.lock:
        top = ring.layers.top
        if top.image is not None:
            return bytes(top.image)
        if top.courier is None:
            raise RingError(f"the ring {ring.uri} has no image to be reset to")
        return top.courier.image()


def folder_name(test: str) -> str:
    """Return the name of the folder for a test: readable, and its own."""
    digest = hashlib.sha256(test.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "_", test).strip("._")[-80:]
    return f"{readable}-{digest}"


def make_room(folder: Path, budget: int, newest: Path) -> None:
    """Remove the oldest databases in a folder until the rest fits in; never the newest."""
    files = []
    for file in folder.rglob("*.sqlite"):
        with contextlib.suppress(OSError):  # another worker has just removed it
            status = file.stat()
            files.append((status.st_mtime_ns, status.st_size, file))
    total = sum(size for _, size, _ in files)
    for _, size, file in sorted(files):
        if total <= budget:
            break
        if file != newest:
            file.unlink(missing_ok=True)
            total -= size
            for parent in (file.parent, file.parent.parent):
                with contextlib.suppress(OSError):  # something is left in it
                    parent.rmdir()


def blanked_copy(image: bytes, columns: Sequence[tuple[str, str]], file: Path) -> None:
    """Write a copy without the values of columns, and without the pages that held them.

    Raises sqlite3.Error if one of them can't be blanked.
    """
    with contextlib.closing(sqlite3.Connection(":memory:", isolation_level=None)) as conn:
        conn.deserialize(rollback_journal_image(image))
        conn.execute("PRAGMA ignore_check_constraints = ON")
        triggers = conn.execute(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"
        ).fetchall()
        for name, _ in triggers:
            conn.execute(f"DROP TRIGGER {quoted(name)}")
        for table, column in columns:
            _blank(conn, table, column)
        for _, sql in triggers:
            conn.execute(sql)
        conn.execute("VACUUM INTO ?", (str(file),))


def _blank(conn: sqlite3.Connection, table: str, column: str) -> None:
    there = conn.execute(
        "SELECT 1 FROM pragma_table_xinfo(?) WHERE lower(name) = ?", (table, column.lower())
    ).fetchone()
    if there is None:
        return
    where = f"WHERE {quoted(column)} IS NOT NULL"
    try:
        conn.execute(f"UPDATE {quoted(table)} SET {quoted(column)} = NULL {where}")
    except sqlite3.IntegrityError:
        # It has to have values, maybe distinct ones.
        try:
            text = "'[redacted ' || rowid || ']'"
            conn.execute(f"UPDATE {quoted(table)} SET {quoted(column)} = {text} {where}")
        except sqlite3.IntegrityError:
            conn.execute(f"UPDATE {quoted(table)} SET {quoted(column)} = -rowid {where}")


def _in_transaction(conn: sqlite3.Connection | None) -> bool:
    try:
        return conn is not None and conn.in_transaction
    except sqlite3.Error:  # closed, or of another thread
        return False
