"""Text that may hold what UTF-8 can't, as Python has it from file names that are no valid text."""

from __future__ import annotations


def readable(text: str) -> str:
    r"""Return text that UTF-8 can hold: a lone surrogate becomes its escape, as `\udcff`."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode()


def readable_data(value: object) -> object:
    """Return dicts and lists, as msgspec makes them of structs, with all their texts readable."""
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, dict):
        return {readable_data(key): readable_data(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [readable_data(inner) for inner in value]
    return value
