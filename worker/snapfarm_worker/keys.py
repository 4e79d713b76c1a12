"""The keys by which items are named between processes: unique, exact, and valid text.

A key is the item's node id wherever that will do. Otherwise a NUL and a counter follow it; and
where the node id itself is no valid text (a file name that is not UTF-8, say), its bytes too.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable

from snapfarm_worker.texts import readable

_MARK = "\x00"
#: Between the counter and the bytes of a node id.
_BYTES = "x"


def unique_keys(nodeids: Iterable[str]) -> list[str]:
    """Return a key for each node id, also where one occurs again."""
    seen: collections.Counter[str] = collections.Counter()
    keys = []
    for nodeid in nodeids:
        seen[nodeid] += 1
        shown = readable(nodeid)
        key = nodeid
        if shown != nodeid:
            code = nodeid.encode("utf-8", "surrogatepass").hex()
            key = f"{shown}{_MARK}{seen[nodeid]}{_BYTES}{code}"
        elif seen[nodeid] > 1 or _MARK in nodeid:
            key = f"{nodeid}{_MARK}{seen[nodeid]}"
        keys.append(key)
    return keys


def nodeid_of(key: str) -> str:
    """Return the node id in an item's key."""
    nodeid, mark, more = key.rpartition(_MARK)
    if not mark:
        return key
    _, _, code = more.partition(_BYTES)
    return str(bytes.fromhex(code), "utf-8", "surrogatepass") if code else nodeid
