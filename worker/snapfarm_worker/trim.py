"""Leaves out the middle of what is too long to travel: what a test printed, most likely."""

from __future__ import annotations

#: Characters that are kept at either end of a long text.
KEPT = 1 << 20


def trimmed(value: object, kept: int = KEPT) -> object:
    """Return plain data with the middle of each long text left out, and a word on how much."""
    if isinstance(value, str):
        left_out = len(value) - 2 * kept
        if left_out <= 0:
            return value
        return f"{value[:kept]}\n… {left_out} characters were left out here …\n{value[-kept:]}"
    if isinstance(value, dict):
        return {key: trimmed(inner, kept) for key, inner in value.items()}
    if isinstance(value, list):
        return [trimmed(inner, kept) for inner in value]
    if isinstance(value, tuple):
        return tuple(trimmed(inner, kept) for inner in value)
    return value
