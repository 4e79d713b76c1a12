"""What a statement does to tables, as SQLite tells an authorizer when it prepares.

A statement is prepared once per connection and cached, so what the authorizer was told is kept for
the statement's text. Where it was prepared before there was an authorizer of ours, `EXPLAIN`
prepares it again without running it.
"""

from __future__ import annotations

import functools
import re
import sqlite3
from collections.abc import Iterable
from enum import IntEnum

import msgspec

_WORDS_LIMIT = 5000
_LEAD = re.compile(r"(?:\s++|;|\ufeff|--[^\n]*+|/\*(?:[^*]++|\*(?!/))*+\*/)*+([A-Za-z]*)")
_CHANGES = re.compile(r"\b(?:INSERT|UPDATE|DELETE|REPLACE)\b", re.IGNORECASE)
_SELECT = re.compile(r"\bSELECT\b", re.IGNORECASE)
_IF_NOT_EXISTS = re.compile(r"\bIF\s+NOT\s+EXISTS\b", re.IGNORECASE)
_UNCOMMITTED = re.compile(r"PRAGMA\s+(?:\w+\.)?read_uncommitted\s*[=(]\s*'?(\w+)", re.IGNORECASE)


class Word(IntEnum):
    """What sort of statement a text is, by its first word."""

    READ = 0
    WRITE = 1
    SCHEMA = 2
    BEGIN = 3
    COMMIT = 4
    ROLLBACK = 5
    OTHER = 6
    SCRIPT = 7


_SORTS = {
    "SELECT": Word.READ,
    "VALUES": Word.READ,
    "INSERT": Word.WRITE,
    "UPDATE": Word.WRITE,
    "DELETE": Word.WRITE,
    "REPLACE": Word.WRITE,
    "CREATE": Word.SCHEMA,
    "DROP": Word.SCHEMA,
    "ALTER": Word.SCHEMA,
    "BEGIN": Word.BEGIN,
    "SAVEPOINT": Word.BEGIN,
    "COMMIT": Word.COMMIT,
    "END": Word.COMMIT,
    "RELEASE": Word.COMMIT,
    "ROLLBACK": Word.ROLLBACK,
}

#: How most texts begin, in up to seven characters: a look here is cheaper than `word_of`.
QUICK = {
    spelt[:7]: sort
    for first, sort in _SORTS.items()
    for written in (first, first.lower())
    for spelt in (
        # A whole word, or one that no other begins like.
        (f"{written} ", f"{written}\n") if len(first) == 6 else (written,)
    )
    if len(first) >= 6
} | {word: sort for word, sort in _SORTS.items() if word in ("BEGIN", "COMMIT", "END")}

_words: dict[str, Word] = {}


def word_of(sql: str) -> Word:
    """Return what sort of statement a text is; a text with `WITH` may write."""
    if (quick := QUICK.get(sql[:7])) is not None:
        return quick
    known = _words.get(sql)
    if known is None:
        found = _LEAD.match(sql)
        first = found.group(1).upper() if found else ""
        known = _SORTS.get(first, Word.OTHER)
        if first == "WITH":
            known = Word.WRITE if _CHANGES.search(sql) else Word.READ
        if len(_words) >= _WORDS_LIMIT:
            _words.clear()
        _words[sql] = known
    return known


def changes_rows(script: str) -> bool:
    """Tell whether a script may change rows."""
    return _CHANGES.search(script) is not None


def read_uncommitted(sql: str) -> bool | None:
    """Return what a statement sets PRAGMA read_uncommitted to; None if it does not."""
    found = _UNCOMMITTED.search(sql)
    return None if found is None else found.group(1).lower() in ("1", "on", "true", "yes")


class Facts(msgspec.Struct, frozen=True):
    """The tables of `main` that a statement reads, changes and removes rows from, in lower case."""

    reads: frozenset[str] = frozenset()
    #: Read by a statement that does not say in which database; a temporary table may be meant.
    unsure: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    #: Where rows are inserted or changed.
    fills: frozenset[str] = frozenset()
    #: What the statement itself names, to delete from, to drop or to rename.
    removes: frozenset[str] = frozenset()
    #: What triggers and foreign keys delete from besides, if there are such rows.
    sweeps: frozenset[str] = frozenset()
    #: What it makes; with IF NOT EXISTS, what it would make.
    creates: frozenset[str] = frozenset()


NOTHING = Facts()


def united(each: Iterable[Facts]) -> Facts:
    """Return what several statements do together."""
    every = list(each)
    return Facts(
        *(
            frozenset[str]().union(*(getattr(facts, field) for facts in every))
            for field in Facts.__struct_fields__
        )
    )


_NAME = r"""(?:"(?:[^"]|"")+"|\[[^\]]+\]|`[^`]+`|\w++)"""
#: Between a keyword and a name; a quoted name needs nothing.
_TO_NAME = r"""(?:\s+|(?=["\[`]))(?:(?:main|"main"|\[main\]|`main`)\s*\.\s*)?"""
_SCHEMA_CHANGE = re.compile(
    rf"\s*(DROP|ALTER|CREATE)\s+(?:VIRTUAL\s+)?(?:TABLE|VIEW)(?:\s+IF\s+(?:NOT\s+)?EXISTS)?"
    rf"{_TO_NAME}({_NAME})(?!\s*\.)",
    re.IGNORECASE,
)


def named(sql: str) -> Facts:
    """Return what a change of the schema says of itself, where SQLite was not asked in time."""
    found = _SCHEMA_CHANGE.match(sql)
    if found is None:
        return NOTHING
    name = found.group(2).lower()
    if name[0] in '"[`':
        name = name[1:-1].replace('""', '"')
    names = frozenset({name})
    if found.group(1).upper() == "CREATE":
        return Facts(creates=names)
    return Facts(removes=names, writes=names)


_LITERALS = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
_CHANGED = re.compile(
    rf"(?<!\bON )\b(?:(?:INSERT|REPLACE)(?:\s+OR\s+\w+)?\s+INTO|"
    rf"UPDATE(?:\s+OR\s+\w+)?|DELETE\s+FROM|"
    rf"(?:CREATE|DROP|ALTER)\s+(?:VIRTUAL\s+)?TABLE(?:\s+IF\s+(?:NOT\s+)?EXISTS)?)"
    rf"{_TO_NAME}({_NAME})",
    re.IGNORECASE,
)
_READ = re.compile(rf"\b(?:FROM|JOIN){_TO_NAME}({_NAME})", re.IGNORECASE)
#: What stands there in an upsert or a trigger.
_NO_TABLE = frozenset({"set", "of", "on"})


@functools.lru_cache(maxsize=_WORDS_LIMIT)
def written_by(sql: str) -> frozenset[str]:
    """Return the tables that a text names as what it changes, in lower case.

    For people and for guesses: what triggers and foreign keys do besides, only SQLite can tell.
    """
    return _tables(_CHANGED, sql)


@functools.lru_cache(maxsize=_WORDS_LIMIT)
def read_by(sql: str) -> frozenset[str]:
    """Return the tables that a text names as what it reads, in the same way."""
    return _tables(_READ, sql)


def _tables(pattern: re.Pattern[str], sql: str) -> frozenset[str]:
    names = (name.strip('"`[]').lower() for name in pattern.findall(_LITERALS.sub(" ", sql)))
    return frozenset(names) - _NO_TABLE


class Removals:
    """The tables that rows may have been removed from, as far as there were any to remove."""

    def __init__(self) -> None:
        self.tables: set[str] = set()
        self._filled: set[str] = set()

    def take(self, facts: Facts, sql: str) -> None:
        """Take what a statement did.

        A trigger or foreign key that finds no row removes nothing; whoever writes DELETE means it.
        """
        self._filled |= facts.fills
        self.tables |= facts.removes | (facts.sweeps & self._filled)
        if facts.creates and not _IF_NOT_EXISTS.search(sql):
            self.tables |= facts.creates

    def clear(self) -> None:
        """Begin anew."""
        self.tables.clear()
        self._filled.clear()


class Recording:
    """Collects what the authorizer is told while statements are prepared."""

    __slots__ = (
        "creates", "drops", "fills", "inner", "reads", "selects", "sweeps", "told", "unsure",
        "updates", "within", "writes",
    )  # fmt: skip

    def __init__(self) -> None:
        self.reads: set[str] = set()
        #: Read within a view, a common table expression or a trigger.
        self.inner: set[str] = set()
        self.unsure: set[str] = set()
        #: The views, common table expressions and triggers within which anything was done.
        self.within: set[str] = set()
        self.updates: set[str] = set()
        self.writes: set[str] = set()
        self.fills: set[str] = set()
        self.drops: set[str] = set()
        self.sweeps: set[str] = set()
        self.creates: set[str] = set()
        self.selects = False
        #: Whether anything was told.
        self.told = False

    def note(
        self,
        action: int,
        first: str | None,
        second: str | None,
        schema: str | None,
        by: str | None,
    ) -> None:
        """Take one call of the authorizer."""
        if action == sqlite3.SQLITE_TRANSACTION:
            return  # Python begins before a statement that may have been prepared long ago
        self.told = True
        if by is not None:
            self.within.add(by.lower())
        if action == sqlite3.SQLITE_READ:
            if first is None:
                return
            if schema == "main":
                (self.reads if by is None else self.inner).add(first.lower())
            elif schema is None:
                self.unsure.add(first.lower())
        elif action == sqlite3.SQLITE_SELECT:
            self.selects = True
        elif action == sqlite3.SQLITE_ALTER_TABLE:
            if first == "main" and second is not None:
                self.drops.add(second.lower())
        elif schema == "main" and first is not None:
            if action in (sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE):
                self.writes.add(first.lower())
                self.fills.add(first.lower())
                if action == sqlite3.SQLITE_UPDATE and by is None:
                    self.updates.add(first.lower())
            elif action in _MAKING:
                self.creates.add(first.lower())
            elif action in _REMOVING:
                # Foreign keys delete after what the statement says; there is no name for them.
                swept = action == sqlite3.SQLITE_DELETE and (by is not None or bool(self.writes))
                (self.sweeps if swept else self.drops).add(first.lower())
                self.writes.add(first.lower())

    def authorize(self, action: int, *names: str | None) -> int:
        """Take one call, as an authorizer that allows everything."""
        self.note(action, *names)
        return sqlite3.SQLITE_OK

    def facts(self, sql: str) -> Facts:
        """Return what was told, of one statement.

        One that changes rows also reads what foreign keys lead to, which nobody has asked for: it
        counts as a reader of what it changes, and of what a SELECT inside of it names or a view.
        """
        # A common table expression that is only counted is told of by its name alone, as a table.
        reads, unsure = self.reads | self.inner, self.unsure - self.within
        # SQLite does not tell of `IN (SELECT key FROM …)`, where it looks into the table itself.
        if self.writes and (self.selects or _SELECT.search(sql)):
            text = sql.lower()
            reads = {table for table in self.reads if table in text} | self.inner
        elif self.writes:
            reads, unsure = self.reads & self.updates, set()
        return Facts(
            frozenset(reads),
            frozenset(unsure),
            frozenset(self.writes),
            frozenset(self.fills),
            frozenset(self.drops),
            frozenset(self.sweeps - self.drops),
            frozenset(self.creates),
        )


_REMOVING = frozenset(
    {
        sqlite3.SQLITE_DELETE,
        sqlite3.SQLITE_DROP_TABLE,
        sqlite3.SQLITE_DROP_VIEW,
        sqlite3.SQLITE_DROP_VTABLE,
    }
)
_MAKING = frozenset(
    {sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_CREATE_VIEW, sqlite3.SQLITE_CREATE_VTABLE}
)
