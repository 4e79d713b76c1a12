"""Every attempt of every test, in a SQLite file that outlives runs, crashes and merges.

The file is in WAL mode, so that several runs may write to it at once, and a process that is killed
loses what it has not written and damages nothing. Ids are unique in the world: a run's is random,
an attempt's is its run's with a number. Merging is therefore inserting what is not there.

What ran before an attempt on its worker is not stored with it: it is what has the same run and
worker, and a lower position. The attempts of a run are found by their ids, which all begin with its
own: an index for that would cost each test as much as its row.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

import msgspec

from snapfarm.errors import UserError
from snapfarm.flakes.rates import Rate
from snapfarm.flakes.signature import Signature
from snapfarm_worker.texts import readable

#: Marks the file as ours: "farm" as a number.
APPLICATION_ID = 0x6661726D
#: Version of the tables.
#: 1  first version
#: 2  tables written by an attempt; no index of runs
VERSION = 2
#: Name of the file in the folder of the farm's cache.
FILE_NAME = "history.sqlite"
#: Seconds to wait for another writer: at the end of a run, and while tests run.
PATIENCE, HASTE = 20.0, 0.05

_TABLES = """
CREATE TABLE IF NOT EXISTS run (
    id TEXT PRIMARY KEY,
    source TEXT NOT NULL,        -- farm, hunt, junit
    started REAL NOT NULL,       -- seconds since the epoch
    finished REAL,               -- NULL: it runs, or was killed
    exit_status INTEGER,
    commit_id TEXT NOT NULL DEFAULT '',
    branch TEXT NOT NULL DEFAULT '',
    dirty INTEGER,               -- NULL: not known
    host TEXT NOT NULL DEFAULT '',
    python TEXT NOT NULL DEFAULT '',
    sqlite TEXT NOT NULL DEFAULT '',
    golden TEXT NOT NULL DEFAULT '{}',   -- JSON: name of the database -> digest
    ring TEXT NOT NULL DEFAULT '',
    seed TEXT NOT NULL DEFAULT '',
    workers INTEGER NOT NULL DEFAULT 0,
    arguments TEXT NOT NULL DEFAULT '[]',
    directory TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attempt (
    id TEXT PRIMARY KEY,
    run TEXT NOT NULL,
    test TEXT NOT NULL,
    attempt INTEGER NOT NULL,    -- 1, and more for reruns
    worker TEXT NOT NULL,
    position INTEGER NOT NULL,   -- on its worker, from 0
    ended REAL NOT NULL,
    seconds REAL NOT NULL,
    outcome TEXT NOT NULL,       -- passed, failed, skipped
    exception TEXT NOT NULL DEFAULT '',
    message TEXT NOT NULL DEFAULT '',
    frame TEXT NOT NULL DEFAULT '',
    anomalies TEXT NOT NULL DEFAULT '',  -- kinds, separated by spaces
    written TEXT NOT NULL DEFAULT '',    -- databases that it has changed
    seed TEXT NOT NULL DEFAULT '',       -- of an experiment
    tables TEXT NOT NULL DEFAULT ''      -- database.table that it wrote to, one a line
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS attempt_of_test ON attempt (test, ended);
"""
#: From each version to the next.
_UPGRADES = {
    1: "ALTER TABLE attempt ADD COLUMN tables TEXT NOT NULL DEFAULT ''; "
    "DROP INDEX IF EXISTS attempt_of_run;",
}


class HistoryError(UserError):
    """A history file that can't be used; the message says which and why."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of a run. Field names are those of the table."""

    id: str
    source: str
    started: float
    finished: float | None = None
    exit_status: int | None = None
    commit_id: str = ""
    branch: str = ""
    dirty: int | None = None
    host: str = ""
    python: str = ""
    sqlite: str = ""
    golden: str = "{}"
    ring: str = ""
    seed: str = ""
    workers: int = 0
    arguments: str = "[]"
    directory: str = ""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of a test. Field names are those of the table."""

    #: The run's, "-" and a number.
    id: str
    run: str
    test: str
    attempt: int
    worker: str
    position: int
    ended: float
    seconds: float
    outcome: str
    exception: str = ""
    message: str = ""
    frame: str = ""
    anomalies: str = ""
    written: str = ""
    seed: str = ""
    tables: str = ""

    @property
    def signature(self) -> Signature:
        """What its failure looks like."""
        return Signature(self.exception, self.message, self.frame)


class TestLine(msgspec.Struct, frozen=True, kw_only=True):
    """What the history says of one test; times in seconds since the epoch."""

    test: str
    failures: int
    runs: int
    #: Runs of the farm in which it both failed and passed.
    flaked: int
    first_failure: float | None
    last_failure: float | None
    #: Passed attempts since the last failure.
    stable: int

    @property
    def rate(self) -> Rate:
        """How often it failed."""
        return Rate(self.failures, self.runs)


class History:
    """An open history file. All methods raise HistoryError where the file can't be used."""

    def __init__(self, path: Path, *, timeout: float = PATIENCE) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._conn = sqlite3.connect(path, timeout=timeout, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise HistoryError(f"{path}: can't be opened: {error}") from error
        try:
            self._prepare()
        except BaseException:
            self._conn.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(sqlite3.Error):
            self._conn.close()

    def _prepare(self) -> None:
        with self._told():
            # Both of one moment: another run may be about to make the file.
            with self._transaction("DEFERRED"):
                mark, schema = self._pragma("application_id"), self._pragma("schema_version")
            if not mark and not schema:
                self._create()
            elif mark != APPLICATION_ID:
                raise _Foreign(f"{self.path}: is a SQLite file of something else")
            elif (version := self._pragma("user_version")) > VERSION:
                raise HistoryError(
                    f"{self.path}: is of a newer snapfarm (format {version}, this one knows "
                    f"{VERSION}): update snapfarm, or set cache_dir to another folder"
                )
            elif version < VERSION:
                self._upgrade()
            # A process that is killed loses nothing that was committed, with OFF as with FULL: they
            # differ where the machine itself goes down. A run does not wait for a disk for that.
            self._conn.execute("PRAGMA synchronous = OFF")

    def _create(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._conn.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError:
                # Somebody else is about to do the same; SQLite does not wait here by itself.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        self._conn.executescript(
            f"BEGIN IMMEDIATE; {_TABLES} PRAGMA application_id = {APPLICATION_ID}; "
            f"PRAGMA user_version = {VERSION}; COMMIT;"
        )

    def _upgrade(self) -> None:
        """Bring the tables of an older version to this one, as one transaction."""
        with self._transaction():
            # Another process may have been quicker.
            for version in range(self._pragma("user_version"), VERSION):
                for statement in _UPGRADES[version].split(";"):
                    self._conn.execute(statement)
            self._conn.execute(f"PRAGMA user_version = {VERSION}")

    def _pragma(self, name: str) -> int:
        found: tuple[int] = self._conn.execute(f"PRAGMA {name}").fetchone()
        return found[0]

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise HistoryError(f"{self.path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise _Foreign(f"{self.path}: {error}") from error

    # ------------------------------------------------------------ writing

    def begin(self, run: Run) -> None:
        """Store a run, or what is known of it by now."""
        with self._told():
            self._conn.execute(_insert(Run, "run", "REPLACE"), _row(run))

    def add(self, attempts: Sequence[Attempt]) -> None:
        """Store attempts in one transaction; those that are there stay as they are."""
        with self._told():
            try:
                self._add(map(msgspec.structs.astuple, attempts))
            except UnicodeEncodeError:
                # Of a text that is none, SQLite takes nothing; to look for one first costs more.
                self._add(map(_row, attempts))

    def _add(self, rows: Iterable[tuple[object, ...]]) -> None:
        with self._transaction():
            self._conn.executemany(_INSERT_ATTEMPT, rows)

    def merge(self, other: Path) -> tuple[int, int]:
        """Take over what another file has; return how many runs and attempts were new."""
        with History(other) as theirs:
            runs, attempts = list(theirs.runs()), list(theirs.attempts())
        with self._told(), self._transaction():
            before = self._counts()
            # A run that has ended since it was merged is known better now.
            self._conn.executemany(_insert(Run, "run", "IGNORE"), map(_row, runs))
            self._conn.executemany(
                "UPDATE run SET finished = ?, exit_status = ? WHERE id = ? AND finished IS NULL",
                [(run.finished, run.exit_status, run.id) for run in runs],
            )
            self._conn.executemany(_INSERT_ATTEMPT, map(_row, attempts))
            after = self._counts()
        return after[0] - before[0], after[1] - before[1]

    def prune(self, *, older_than: float | None = None, keep_runs: int | None = None) -> int:
        """Remove runs that began before a time, or all but the latest; return how many."""
        with self._told():
            with self._transaction():
                doomed = {
                    str(row[0])
                    for row in self._conn.execute(
                        "SELECT id FROM run WHERE started < ?", (older_than or 0.0,)
                    )
                }
                if keep_runs is not None:
                    doomed |= {
                        str(row[0])
                        for row in self._conn.execute(
                            "SELECT id FROM run ORDER BY started DESC LIMIT -1 OFFSET ?",
                            (keep_runs,),
                        )
                    }
                for run in doomed:
                    self._conn.execute(f"DELETE FROM attempt WHERE {_OF_RUN}", _run_keys(run))
                    self._conn.execute("DELETE FROM run WHERE id = ?", (run,))
            if doomed:
                self._conn.execute("VACUUM")
        return len(doomed)

    @contextlib.contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        self._conn.execute(f"BEGIN {kind}")
        try:
            yield
        except BaseException:
            self._conn.execute("ROLLBACK")
            raise
        self._conn.execute("COMMIT")

    def _counts(self) -> tuple[int, int]:
        found: tuple[int, int] = self._conn.execute(
            "SELECT (SELECT count(*) FROM run), (SELECT count(*) FROM attempt)"
        ).fetchone()
        return found

    # ------------------------------------------------------------ reading

    def runs(self) -> Iterator[Run]:
        """Yield all runs, the oldest first."""
        names = ", ".join(Run.__struct_fields__)
        with self._told():
            for row in self._conn.execute(f"SELECT {names} FROM run ORDER BY started, id"):
                yield Run(**dict(zip(Run.__struct_fields__, row, strict=True)))

    def attempts(self, *, test: str | None = None, run: str | None = None) -> Iterator[Attempt]:
        """Yield attempts in the order in which they ended, of one test or one run if given."""
        names = ", ".join(Attempt.__struct_fields__)
        where: list[str] = []
        values: list[str] = []
        if test is not None:
            where.append("test = ?")
            values.append(test)
        if run is not None:
            where.append(_OF_RUN)
            values += _run_keys(run)
        condition = f" WHERE {' AND '.join(where)}" if where else ""
        query = f"SELECT {names} FROM attempt{condition} ORDER BY ended, position, id"
        with self._told():
            for row in self._conn.execute(query, values):
                yield Attempt(**dict(zip(Attempt.__struct_fields__, row, strict=True)))

    def predecessors(self, attempt: Attempt) -> tuple[str, ...]:
        """Return what ran before an attempt on its worker, in order."""
        with self._told():
            rows = self._conn.execute(
                f"SELECT test FROM attempt WHERE {_OF_RUN} AND worker = ? AND position < ? "
                "ORDER BY position",
                (*_run_keys(attempt.run), attempt.worker, attempt.position),
            ).fetchall()
        return tuple(str(row[0]) for row in rows)

    def writers(self, tables: Iterable[str]) -> frozenset[str]:
        """Return the tests of which any attempt wrote to one of these, named as database.table."""
        wanted = frozenset(tables)
        if not wanted:
            return frozenset()
        with self._told():
            rows = self._conn.execute(
                "SELECT DISTINCT test, tables FROM attempt WHERE tables != ''"
            ).fetchall()
        return frozenset(
            str(test) for test, names in rows if not wanted.isdisjoint(names.split("\n"))
        )

    def rates(self) -> dict[str, Rate]:
        """Return by test how often it failed, skips apart."""
        with self._told():
            rows = self._conn.execute(
                "SELECT test, sum(outcome = 'failed'), count(*) FROM attempt "
                "WHERE outcome != 'skipped' GROUP BY test"
            ).fetchall()
        return {str(test): Rate(failures, runs) for test, failures, runs in rows}

    def tests(self) -> list[TestLine]:
        """Return a line for each test that has failed, the one that flaked most often first."""
        with self._told():
            failed = [
                str(row[0])
                for row in self._conn.execute(
                    "SELECT DISTINCT test FROM attempt WHERE outcome = 'failed'"
                )
            ]
        lines = [line_of(test, self.attempts(test=test)) for test in failed]
        return sorted(lines, key=lambda line: (-line.flaked, -line.failures, line.test))


def line_of(test: str, attempts: Iterable[Attempt]) -> TestLine:
    """Return what attempts, in the order in which they ended, say of a test."""
    failures = runs = stable = 0
    failed_at: list[float] = []
    outcomes: dict[str, set[str]] = {}
    for one in attempts:
        if one.outcome == "skipped":
            continue
        runs += 1
        outcomes.setdefault(one.run, set()).add(one.outcome)
        if one.outcome == "failed":
            failures += 1
            stable = 0
            failed_at.append(one.ended)
        else:
            stable += 1
    return TestLine(
        test=test,
        failures=failures,
        runs=runs,
        flaked=sum(found >= {"passed", "failed"} for found in outcomes.values()),
        first_failure=failed_at[0] if failed_at else None,
        last_failure=failed_at[-1] if failed_at else None,
        stable=stable,
    )


class _Foreign(HistoryError):
    """The file is no history at all, or damaged."""


def open_or_set_aside(path: Path, *, timeout: float = PATIENCE) -> tuple[History, str]:
    """Open a history; one that is broken or something else's is renamed, and a new one begun.

    Returns it with a warning, "" where all is well. Raises HistoryError where there can be none.
    """
    try:
        return History(path, timeout=timeout), ""
    except _Foreign as error:
        aside = path.with_name(f"{path.name}.set-aside-{time.strftime('%Y%m%d-%H%M%S')}")
        try:
            path.rename(aside)
            for suffix in ("-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
        except OSError as problem:
            raise HistoryError(f"{error}; and it can't be renamed: {problem}") from error
        return History(path, timeout=timeout), f"{error}; it is now {aside.name}, a new one begins"


def _insert(kind: type[msgspec.Struct], table: str, otherwise: str) -> str:
    names = kind.__struct_fields__
    places = ", ".join("?" * len(names))
    return f"INSERT OR {otherwise} INTO {table} ({', '.join(names)}) VALUES ({places})"


_INSERT_ATTEMPT = _insert(Attempt, "attempt", "IGNORE")
#: What holds for the attempts of one run, with the values of `_run_keys`.
_OF_RUN = "id > ? AND id < ?"


def _run_keys(run: str) -> tuple[str, str]:
    # "." is what follows "-".
    return f"{run}-", f"{run}."


def _row(one: msgspec.Struct) -> tuple[object, ...]:
    # Of names that are no valid text, SQLite would take none.
    return tuple(
        readable(value) if isinstance(value, str) else value
        for value in msgspec.structs.astuple(one)
    )
