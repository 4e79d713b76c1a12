"""Which tests of a Django project have to run before which, in one process.

A test in a transaction finds the rows of data migrations; one that commits is followed by a flush,
which takes them away. So pytest-django and Django's own runner sort the former before the latter,
and no worker may be given one of them back after it has begun with the others.
"""

from __future__ import annotations

import enum
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

#: Fixtures of pytest-django by which a test commits.
_COMMITTING = frozenset({"transactional_db", "live_server", "django_db_reset_sequences"})


class Turn(enum.IntEnum):
    """When a test may run: on one worker, no EARLY one after a LATE one."""

    ANY = 0
    EARLY = 1
    LATE = 2


def turn_of(item: pytest.Item) -> Turn:
    """Return when a test may run, by what pytest-django sorts tests by."""
    testing = sys.modules.get("django.test")
    if testing is None:
        return Turn.ANY
    cls = getattr(item, "cls", None)
    if isinstance(cls, type) and issubclass(cls, testing.TransactionTestCase):
        # Each TestCase is one, too.
        return Turn.EARLY if issubclass(cls, testing.TestCase) else Turn.LATE
    fixtures: frozenset[str] = frozenset(getattr(item, "fixturenames", ()))
    mark = item.get_closest_marker("django_db")
    if mark is not None:
        # django_db(transaction=False, reset_sequences=False, …)
        named = (mark.kwargs.get(name) for name in ("transaction", "reset_sequences"))
        if any(mark.args[:2]) or any(named):
            return Turn.LATE
    if fixtures & _COMMITTING:
        return Turn.LATE
    return Turn.EARLY if mark is not None or "db" in fixtures else Turn.ANY
