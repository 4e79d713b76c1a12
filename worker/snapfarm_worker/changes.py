"""What the statements of one test change in a ring, found out where somebody asks.

A statement is noted by its text, which costs no more than a look into a set. Few tests are ever
asked what they removed: those that find a table empty which an earlier one emptied. Then SQLite
prepares the texts once more, without running them, in the baseline and in the present database,
and tells an authorizer what each does.

What can't be told counts as a removal of everything: better no anomaly than a false one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence, Set

from snapfarm_worker import sqlscript
from snapfarm_worker.statements import NOTHING, Facts, Word, named, united, word_of, written_by

#: Returns what a statement does in a database; None where it can't be prepared there.
Ask = Callable[[str], Facts | None]

#: Texts that are kept of one test.
LIMIT = 1000
_INDIRECT = re.compile(r"\b(?:VIEW|VIRTUAL|TRIGGER)\b", re.IGNORECASE)
_TRIGGER = re.compile(r"\bTRIGGER\b", re.IGNORECASE)
_NEW_SCHEMA = re.compile(
    r"\b(?:CREATE|DROP|ALTER|VACUUM|ANALYZE|OPTIMIZE|SCHEMA_VERSION)\b", re.IGNORECASE
)
_ACTION = re.compile(r"\bON\s+(?:DELETE|UPDATE)\s+(?:CASCADE|SET)\b", re.IGNORECASE)
#: An order to a full-text index, which is written into a column of the index's own name.
_COMMAND = re.compile(
    r"""\bINTO\W+(?:main\W+)?([^"'`\[\]()]*\w)\W*\([^)]*(?<!\w)\1(?!\w)""", re.IGNORECASE
)
_IF_NOT_EXISTS = re.compile(r"\bIF\s+NOT\s+EXISTS\b", re.IGNORECASE)


class Changes:
    """The statements of the present test that are no reads."""

    def __init__(self) -> None:
        self.texts: set[str] = set()
        #: Those that failed as a whole; a conflict clause may have kept what they removed.
        self._failed: set[str] = set()
        #: Whether there were no more than are kept.
        self.complete = True
        self._known: dict[str, Facts | None] = {}
        #: What was removed, and when that was found out.
        self._told: tuple[tuple[int, int, int, bool], frozenset[str] | None] | None = None
        #: Tells what is known of one test from what a thread still finds out of another one.
        self._clears = 0

    def clear(self) -> None:
        """Begin anew."""
        self.texts.clear()
        self._failed.clear()
        self._known.clear()
        self._clears += 1
        self.complete = True

    def note(self, sql: str) -> None:
        """Note a statement, or a script, that succeeded at least in part."""
        if len(self.texts) < LIMIT:
            self.texts.add(sql)
        elif sql not in self.texts:
            self.complete = False

    def note_failed(self, sql: str) -> None:
        """Note a statement that failed."""
        if len(self._failed) < LIMIT:
            self._failed.add(sql)

    def removed(self, asks: Sequence[Ask], *, only_here: bool = False) -> frozenset[str] | None:
        """Return the tables that rows may have been removed from; None where it can't be told.

        With `only_here`, what nobody but the baseline can prepare can't be told: a trigger that
        tests have made may have gone with its table.

        A trigger or foreign key that finds no row removes nothing; whoever writes DELETE means it.
        """
        # Whoever reads again and again what is empty has not written in between, as a rule.
        state = self._clears, len(self.texts), len(self._failed), only_here
        told = self._told
        if told is None or told[0] != state:
            told = self._told = state, self._removed(asks, only_here=only_here)
        return told[1] if self.complete else None

    def _removed(self, asks: Sequence[Ask], *, only_here: bool) -> frozenset[str] | None:
        gone: set[str] = set()
        swept: set[str] = set()
        filled: set[str] = set()
        for text in list(self.texts):
            for sql, facts in self._facts_of(text, asks, only_here=only_here):
                if facts is None:
                    return None
                gone |= facts.removes
                swept |= facts.sweeps
                filled |= facts.fills
                if facts.creates and not _IF_NOT_EXISTS.search(sql):
                    gone |= facts.creates
        for text in list(self._failed):
            for _, facts in self._facts_of(text, asks, only_here=only_here):
                gone |= facts.removes if facts is not None else frozenset()
                swept |= facts.sweeps if facts is not None else frozenset()
        return frozenset(gone | swept & filled)

    def touch_schema(self) -> bool:
        """Tell whether a text may have changed the number of the schema."""
        return any(_NEW_SCHEMA.search(text) for text in list(self.texts))

    def written(self) -> frozenset[str]:
        """Return the tables that the texts name as what they change, their definitions too."""
        return frozenset[str]().union(*map(written_by, list(self.texts)))

    def rows_written(self, asks: Sequence[Ask], tables: Set[str], *, acts: bool) -> frozenset[str]:
        """Return the tables whose rows were changed: those named and, where it `acts`, by triggers.

        SQLite is also asked of texts that name none of the `tables`, or not as we understand them.
        """
        names = set[str]()
        for text in list(self.texts):
            unclear = acts
            for statement in sqlscript.split(text):
                if word_of(statement.sql) is Word.WRITE:
                    named_here = written_by(statement.sql)
                    unclear = unclear or not named_here or not named_here <= tables
                    names |= named_here
            for _, facts in self._facts_of(text, asks) if unclear else ():
                names |= facts.writes if facts is not None else frozenset()
        return frozenset(names)

    def _facts_of(
        self, text: str, asks: Sequence[Ask], *, only_here: bool = False
    ) -> Iterator[tuple[str, Facts | None]]:
        for statement in sqlscript.split(text):
            sql = statement.sql
            if sql not in self._known:
                self._known[sql] = _facts(sql, asks, only_here=only_here)
            yield sql, self._known[sql]


def is_indirect(sql: str) -> bool:
    """Tell whether a change of the schema lets statements touch tables that they don't name."""
    return _INDIRECT.search(sql) is not None


def makes_reacting(sql: str) -> bool:
    """Tell whether a definition has a foreign key that changes rows."""
    return _ACTION.search(sql) is not None


def ordered_by(sql: str) -> frozenset[str]:
    """Return the full-text indexes that a text gives orders to, in lower case."""
    return frozenset(found[1].lower() for found in _COMMAND.finditer(sql))


def _facts(sql: str, asks: Sequence[Ask], *, only_here: bool) -> Facts | None:
    """Return what a statement does by all who can prepare it; the first is the baseline."""
    match word_of(sql):
        case Word.WRITE if _COMMAND.search(sql):
            return None
        case Word.WRITE:
            told = [ask(sql) for ask in asks]
            enough = told[1:] if only_here else told
            if all(facts is None for facts in enough):
                return None
            return united(facts for facts in told if facts is not None)
        case Word.SCHEMA:
            if _TRIGGER.search(sql):
                return None  # which does what it does to later statements, and may be gone
            # It has been executed, and can be prepared where it was not.
            return asks[0](sql) or named(sql)
        case _:
            return NOTHING
