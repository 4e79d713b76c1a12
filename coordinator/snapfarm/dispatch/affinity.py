"""Which items stay together: the affinity key of an item in each distribution mode.

This is all that tells the modes apart; the dispatcher has one algorithm for all of them.
"""

from __future__ import annotations

import enum
from typing import assert_never

from snapfarm.dispatch.model import Item


class DistMode(enum.StrEnum):
    """The values of `--dist`."""

    LOAD = "load"
    LOADSCOPE = "loadscope"
    LOADFILE = "loadfile"
    LOADGROUP = "loadgroup"
    WORKSTEAL = "worksteal"


def affinity_of(item: Item, mode: DistMode) -> str | None:
    """Return the key that an item shares with those it stays together with; None: it has none."""
    match mode:
        case DistMode.LOAD | DistMode.WORKSTEAL:
            return None
        case DistMode.LOADFILE:
            return item.key.partition("::")[0]
        case DistMode.LOADSCOPE:
            return scope_of(item.key)
        case DistMode.LOADGROUP:
            return item.group or None
        case _:
            assert_never(mode)


def scope_of(key: str) -> str:
    """Return the class of a node id, or the file if it is in no class.

    A `::` among the parameters, as in `test_x[a::b]`, separates nothing. Brackets in the path
    open no parameters.
    """
    path, separator, rest = key.partition("::")
    names = rest.partition("[")[0]
    scope, inner, _name = names.rpartition("::")
    return f"{path}{separator}{scope}" if inner else path
