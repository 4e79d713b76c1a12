"""What is kept of a failure: how rows differ from the baseline, the last statements, a copy.

Only the forms; `rowdiff` finds the differences, `keeping` takes the evidence.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal, TypeAlias

import msgspec

from snapfarm_worker.anomaly import Anomaly

#: A value of a row as reports show it: a blob as text x'…', cut like a long text.
Cell: TypeAlias = int | float | str | None


def without_literals(sql: str, redact: Collection[str]) -> str:
    """Return a statement, its text literals blanked where it names a table with blanked columns.

    `redact` has table.column in lower case.
    """
    lower = sql.lower()
    if any(name.partition(".")[0] in lower for name in redact):
        return re.sub(r"'(?:[^']|'')*'?", "'…'", sql)
    return sql


def blanked(anomaly: Anomaly, redact: Collection[str]) -> Anomaly:
    """Return an anomaly without the text literals of statements on tables with blanked columns."""
    if not redact:
        return anomaly
    return msgspec.structs.replace(
        anomaly,
        message=without_literals(anomaly.message, redact),
        sql=without_literals(anomaly.sql, redact),
        evidence=tuple(without_literals(line, redact) for line in anomaly.evidence),
    )


class RowDiff(msgspec.Struct, frozen=True):
    """One row that differs, its values in the order of the table's columns.

    `before` is None for a row that was added, `after` for one that was removed.
    """

    before: tuple[Cell, ...] | None
    after: tuple[Cell, ...] | None

    @property
    def kind(self) -> Literal["added", "removed", "changed"]:
        """What became of the row."""
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "changed"


class TableDiff(msgspec.Struct, frozen=True, kw_only=True):
    """How the rows of one table differ; `rows` has the first of each kind, the totals count all."""

    table: str
    columns: tuple[str, ...]
    #: The columns by which rows are told apart; empty for the row id.
    key: tuple[str, ...] = ()
    added: int = 0
    removed: int = 0
    changed: int = 0
    rows: tuple[RowDiff, ...] = ()
    #: Why it could not be compared.
    error: str = ""


class SchemaDiff(msgspec.Struct, frozen=True, kw_only=True):
    """One table, index, view or trigger that differs; an empty statement: it is not there."""

    kind: str
    name: str
    before: str = ""
    after: str = ""


class DatabaseDiff(msgspec.Struct, frozen=True, kw_only=True):
    """How one database differs from another: what is equal is not in it."""

    schema: tuple[SchemaDiff, ...] = ()
    tables: tuple[TableDiff, ...] = ()
    #: Why not all of it was compared.
    incomplete: str = ""

    def __bool__(self) -> bool:
        return bool(self.schema or self.tables)


class Statements(msgspec.Struct, frozen=True, kw_only=True):
    """The last statements of one connection, the oldest first."""

    #: Where it was opened, and by which thread.
    connection: str
    statements: tuple[str, ...]
    in_transaction: bool = False


class EvidenceOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker keeps, and where. `redact`: table.column in lower case; `budget`: bytes."""

    #: The folder of all runs' failures, and this run's in it.
    folder: str
    run: str
    budget: int
    redact: tuple[str, ...] = ()
    #: Where a worker writes what its test has executed last, for the case that it is killed.
    words: str = ""


class DatabaseEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of one database of a failed attempt, as it was when that failed."""

    database: str
    #: Which attempt of its item, from 0 on.
    attempt: int = 0
    #: The copy; empty if none was kept, and then `note` says why.
    file: str = ""
    size: int = 0
    diff: DatabaseDiff | None = None
    statements: tuple[Statements, ...] = ()
    note: str = ""


class LastWords(msgspec.Struct, frozen=True):
    """What a test that has been running for a while has executed last, by database."""

    test: str
    databases: tuple[DatabaseEvidence, ...]
