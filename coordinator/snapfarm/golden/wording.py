"""Sizes and counts in words."""

from __future__ import annotations


def sized(size: int) -> str:
    """Return a number of bytes as people read it."""
    if size >= 10_000_000_000:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"


def counted(count: int, singular: str, plural: str) -> str:
    """Return a count with the right form of its noun."""
    return f"{count} {singular if count == 1 else plural}"
