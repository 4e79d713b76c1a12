"""Split an SQL script into statements, in time linear in its length.

The splitter is pure: it never asks SQLite. It knows what can hide a semicolon (strings, quoted
names, comments, the body of a trigger) and nothing else of the grammar, so a statement that SQLite
rejects comes out as written, with the line it began on.

A trigger's body ends where SQLite's own `sqlite3_complete` says: at `; END ;`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec


class Statement(msgspec.Struct, frozen=True):
    """One statement of a script.

    `sql` starts at its first word (comments before it belong to nothing) and includes its
    semicolon where there is one; the last statement of a script needs none. `line` counts from 1.
    `unfinished` is empty, or names what the script's end cut off: "string", "quoted name",
    "comment" or "trigger body"; only the last statement of a script can have one.
    """

    sql: str
    line: int
    unfinished: str = ""


#: What may stand before a statement. Possessive repeats here and below: what was consumed is never
#: given back, so that no input can make the match backtrack.
_LEAD = re.compile(r"(?:\s++|;|\ufeff|--[^\n]*+|/\*(?:[^*]++|\*(?!/))*+\*/)*+", re.ASCII)

#: Everything up to the next semicolon that ends a statement, or to a construct that never closes.
_BODY = re.compile(
    r"""(?:
        [^'"`\[\-/;]++          # plain text
      | '[^']*+'                # a string; a doubled quote reads as two strings in a row
      | "[^"]*+" | `[^`]*+` | \[[^\]]*+\]
      | --[^\n]*+
      | /\*(?:[^*]++|\*(?!/))*+\*/
      | -(?!-) | /(?!\*)
    )*+""",
    re.VERBOSE | re.ASCII,
)

_GAP = r"(?:\s|--[^\n]*+(?:\n|\Z)|/\*(?:[^*]++|\*(?!/))*+\*/)++"

_TRIGGER = re.compile(
    rf"(?:EXPLAIN{_GAP}(?:QUERY{_GAP}PLAN{_GAP})?)?CREATE{_GAP}(?:TEMP(?:ORARY)?{_GAP})*+TRIGGER\b",
    re.IGNORECASE | re.ASCII,
)

#: Inside a trigger's body, what may stand between a semicolon and the word that follows.
_FILL = re.compile(rf"(?:{_GAP}|;)*+", re.ASCII)

#: What has to follow there for the trigger to be over.
_TRIGGER_END = re.compile(rf"END(?:{_GAP})?(?:;|\Z)", re.IGNORECASE | re.ASCII)

_OPENERS = {"'": "string", '"': "quoted name", "`": "quoted name", "[": "quoted name"}


def split(script: str) -> Iterator[Statement]:
    """Yield the statements of a script in order; comments and empty statements are left out."""
    line, counted = 1, 0
    position = 0
    while True:
        matched = _LEAD.match(script, position)
        start = matched.end() if matched else position
        if start >= len(script):
            return
        line += script.count("\n", counted, start)
        counted = start
        position, unfinished = _end_of(script, start)
        yield Statement(script[start:position].rstrip(), line, unfinished)


def _end_of(script: str, start: int) -> tuple[int, str]:
    """Return the end of the statement that begins at `start`, and what is unfinished there."""
    in_trigger = _TRIGGER.match(script, start) is not None
    position = start
    while True:
        matched = _BODY.match(script, position)
        position = matched.end() if matched else position
        if position >= len(script):
            return position, "trigger body" if in_trigger else ""
        if script[position] != ";":
            return len(script), _OPENERS.get(script[position], "comment")
        position += 1
        if not in_trigger:
            return position, ""
        # Going on behind the filling: a long run of semicolons is not to be read for each of them.
        filled = _FILL.match(script, position)
        position = filled.end() if filled else position
        ended = _TRIGGER_END.match(script, position)
        if ended:
            return ended.end(), ""
