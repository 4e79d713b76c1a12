"""The marker `farm`: what it may say, and what the markers of one test say together."""

from __future__ import annotations

import msgspec
import pytest

from snapfarm_worker.anomaly import AnomalyKind
from snapfarm_worker.ring import ResetPolicy
from snapfarm_worker.threads import DEFAULT_THREADS

MARKER = (
    "farm(database=None, reset=None, threads=4, layer=None, allow=()): choose the golden database "
    "of the farm's fixtures, when it is reset ('test', 'module', 'session', 'never'), the threads "
    "of farm_threads, a declared layer (or several, of several databases) to begin with, and kinds "
    "of anomalies that are all right here"
)


class FarmMark(msgspec.Struct, frozen=True):
    """What the `farm` markers of one item say; the closest one wins, key by key."""

    database: str | None = None
    reset: ResetPolicy | None = None
    threads: int = DEFAULT_THREADS
    layers: tuple[str, ...] = ()
    allow: frozenset[AnomalyKind] = frozenset()


class MarkError(ValueError):
    """A `farm` marker can't be understood; the message tells which part of it."""


def read_marks(item: pytest.Item) -> FarmMark:
    """Return what the `farm` markers of an item say together. Raises MarkError."""
    values: dict[str, object] = {}
    for mark in item.iter_markers("farm"):
        if mark.args:
            raise MarkError(f"{mark.args!r} has no keyword: write farm(database=…, reset=…)")
        for key, value in mark.kwargs.items():
            if key not in ("database", "reset", "threads", "layer", "allow"):
                raise MarkError(
                    f"unknown keyword {key!r}: expected database, reset, threads, layer or allow"
                )
            values.setdefault(key, value)
    database, reset, threads = values.get("database"), values.get("reset"), values.get("threads")
    if database is not None and not isinstance(database, str):
        raise MarkError(f"database is {database!r}: expected the name of a golden database")
    if threads is None:
        threads = DEFAULT_THREADS
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise MarkError(f"threads is {threads!r}: expected a number from 1 on")
    try:
        policy = None if reset is None else ResetPolicy(str(reset))
    except ValueError:
        known = ", ".join(repr(str(each)) for each in ResetPolicy)
        raise MarkError(f"reset is {reset!r}: expected one of {known}") from None
    return FarmMark(
        database, policy, threads, _layers(values.get("layer")), _kinds(values.get("allow"))
    )


def layer_key(item: pytest.Item) -> str:
    """Return the names of the declared layers that an item asks for, joined; "" for a wrong mark.

    Items of one key begin with the same databases.
    """
    if next(item.iter_markers("farm"), None) is None:
        return ""
    try:
        return ",".join(sorted(read_marks(item).layers))
    except MarkError:
        return ""


def _layers(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    names = (value,) if isinstance(value, str) else value
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
        return tuple(dict.fromkeys(names))
    raise MarkError(f"layer is {value!r}: expected the name of a declared layer, or a list of such")


def _kinds(value: object) -> frozenset[AnomalyKind]:
    if value is None:
        return frozenset()
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, list | tuple | set | frozenset):
        raise MarkError(f"allow is {value!r}: expected kinds of anomalies, as a list")
    try:
        return frozenset(AnomalyKind(str(name)) for name in names)
    except ValueError as error:
        known = ", ".join(AnomalyKind)
        raise MarkError(f"allow: {error}: expected some of {known}") from None


def allowed_kinds(item: pytest.Item) -> frozenset[AnomalyKind]:
    """Return the kinds of anomalies that an item allows; none for a wrong mark."""
    try:
        return read_marks(item).allow
    except MarkError:
        return frozenset()
