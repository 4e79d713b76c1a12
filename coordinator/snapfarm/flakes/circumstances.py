"""Under which circumstances an experiment ran, as the history keeps them: one line of text.

1004, hash 2, zone UTC+12, switch 1e-06, ring memdb
"""

from __future__ import annotations

import contextlib
from typing import Self

import msgspec


class Circumstances(msgspec.Struct, frozen=True, kw_only=True):
    """What has to be the same for the same to happen again; None: nothing was chosen."""

    seed: int | None = None
    hash_seed: int | None = None
    timezone: str | None = None
    switch: float | None = None
    ring: str | None = None
    #: What pytest-randomly seeded the tests with.
    randomly: int | None = None

    def __str__(self) -> str:
        named = {name: getattr(self, field) for name, field in _NAMES.items()}
        parts = [] if self.seed is None else [str(self.seed)]
        return ", ".join(
            (*parts, *(f"{name} {value}" for name, value in named.items() if value is not None))
        )

    @classmethod
    def parsed(cls, *texts: str) -> Self:
        """Return what texts say together; what they say that nobody knows is left out."""
        found = cls()
        for part in ", ".join(texts).split(", "):
            name, _, value = part.rpartition(" ")
            field = _NAMES.get(name) if name else "seed"
            with contextlib.suppress(msgspec.ValidationError):
                if field is not None and value:
                    one = msgspec.convert({field: value}, cls, strict=False)
                    found = msgspec.structs.replace(found, **{field: getattr(one, field)})
        return found


_NAMES = {
    "hash": "hash_seed", "zone": "timezone", "switch": "switch", "ring": "ring",
    "randomly": "randomly",
}  # fmt: skip
