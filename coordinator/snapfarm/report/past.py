"""What earlier runs say, read from the history of attempts without writing to it.

The history is optional: a file that is not there, or can't be read, has nothing to say.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

#: Runs whose durations are averaged.
_RECENT = 3

_DURATIONS = """
WITH recent AS (
    SELECT id FROM run WHERE source = 'farm' AND finished IS NOT NULL
    ORDER BY started DESC LIMIT ?
)
SELECT test, avg(seconds) FROM attempt
WHERE run IN recent AND outcome = 'passed' GROUP BY test
"""


def durations(history: Path) -> dict[str, float]:
    """Return how many seconds tests took on average in the last runs, by node id."""
    return {str(test): float(seconds) for test, seconds in _rows(history, _DURATIONS, (_RECENT,))}


def _rows(
    history: Path, query: str, parameters: tuple[str | int | float, ...]
) -> list[tuple[str | int | float, ...]]:
    """Return the rows of a query; none where the history can't be read."""
    uri = f"{history.resolve().as_uri()}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=1.0)) as conn:
            return conn.execute(query, parameters).fetchall()
    except sqlite3.Error:
        return []
