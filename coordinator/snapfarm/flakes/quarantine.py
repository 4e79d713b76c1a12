"""Tests that may fail for now: each with a reason, an owner, an issue, and a day on which it ends.

[[quarantine]]
test = "tests/test_mail.py::test_bounces*"
reason = "the mail server of the test network drops connections"
owner = "anna"
issue = "https://example.org/issues/7"
expires = 2027-01-31
"""

from __future__ import annotations

import datetime as dt
import fnmatch
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from snapfarm.errors import ConfigError

#: Name of the file in the project's folder.
FILE_NAME = "quarantine.toml"
#: Passed attempts since the last failure after which an entry is proposed for removal.
STABLE = 50


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry. `test` is a node id, or a pattern with `*` and `?`."""

    test: str
    reason: str
    owner: str
    issue: str
    #: The last day on which it holds.
    expires: dt.date

    def covers(self, nodeid: str) -> bool:
        """Whether it is about this test; brackets stand for themselves."""
        pattern = self.test.replace("[", "[[]")
        return nodeid == self.test or fnmatch.fnmatchcase(nodeid, pattern)

    def expired(self, today: dt.date) -> bool:
        """Whether its time is over."""
        return today > self.expires

    def __str__(self) -> str:
        return f"{self.reason} ({self.owner}, {self.issue}, until {self.expires})"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    quarantine: tuple[Entry, ...] = ()


class Quarantine:
    """The entries of a file."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.entries = tuple(entries)

    def entry_of(self, nodeid: str) -> Entry | None:
        """Return the first entry about a test."""
        return next((entry for entry in self.entries if entry.covers(nodeid)), None)

    def expired(self, today: dt.date) -> tuple[Entry, ...]:
        """Return the entries whose time is over: they fail the run."""
        return tuple(entry for entry in self.entries if entry.expired(today))


def load(path: Path) -> Quarantine:
    """Return the quarantine of a file, empty where there is none. Raises ConfigError."""
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        return Quarantine()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read: {error}") from error
    try:
        found = msgspec.convert(tomllib.loads(text), _File)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is no valid TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"{path}: {error}; an entry [[quarantine]] has test, reason, owner, issue and "
            "expires (a date, as 2027-01-31)"
        ) from error
    for index, entry in enumerate(found.quarantine):
        for name in ("test", "reason", "owner", "issue"):
            if not getattr(entry, name).strip():
                raise ConfigError(f"{path}: quarantine[{index}].{name}: must not be empty")
    return Quarantine(found.quarantine)


def expired_lines(entries: Iterable[Entry], path: Path) -> Iterator[str]:
    """Yield what to say of expired entries."""
    for entry in entries:
        yield (
            f"{path.name}: {entry.test}: expired on {entry.expires}; ask {entry.owner}, see "
            f"{entry.issue}: mend the test and remove the entry, or give it a new date"
        )
