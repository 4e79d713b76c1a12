"""Checks of single configuration values, each with a message that says what was expected."""

from __future__ import annotations

import difflib
import math
import os
import re
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Union, get_args, get_origin

import msgspec

from snapfarm.errors import ConfigError

NotEmpty = Annotated[str, msgspec.Meta(min_length=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def checked(where: str, value: object, wanted: object) -> object:
    """Return `value` as the type `wanted`, without any conversion that could hide a mistake.

    Raises ConfigError, which starts with `where` and says what was expected.
    """
    try:
        converted: object = msgspec.convert(value, type=wanted)
    except msgspec.ValidationError as error:
        place = re.search(r" - at `\$(.*)`$", str(error))
        inner = place[1] if place else ""
        if inner and get_origin(wanted) is tuple:
            wanted = get_args(wanted)[0]
        raise ConfigError(
            f"{where}{inner}: expected {expected(wanted)}, got {_item(value, inner)!r}"
        ) from None
    if isinstance(converted, float) and not math.isfinite(converted):
        raise ConfigError(f"{where}: expected {expected(wanted)}, got {converted!r}")
    return converted


def from_text(text: str, wanted: object) -> object:
    """Return what the text of a variable or flag means where `wanted` is expected.

    A text that means nothing there comes back as it is, for `checked` to refuse.
    """
    kinds = set(_plain_types(wanted))
    stripped = text.strip()
    if get_origin(wanted) is tuple:
        return [part.strip() for part in stripped.split(",")]
    if int in kinds and re.fullmatch(r"[+-]?\d+", stripped):
        return int(stripped)
    if float in kinds:
        try:
            return float(stripped)
        except ValueError:
            return text
    return text if stripped not in _literals(wanted) else stripped


def expected(wanted: object) -> str:
    """Say in words what a value of the type `wanted` looks like."""
    return " or ".join(_wordings(wanted))


def key_path(prefix: str, key: str) -> str:
    """Return the dotted path of a key as TOML would write it."""
    written = key if _BARE_KEY.fullmatch(key) else f'"{key}"'
    return f"{prefix}.{written}" if prefix else written


def absolute(where: str, path: str, base: Path) -> str:
    """Return a path that a user wrote, `~` expanded, relative to `base`. Raises ConfigError."""
    try:
        expanded = Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(
            f"{where}: there is no home folder for the '~' of {path!r}: write the path in full, or "
            f"./~… for a file of that name"
        ) from None
    return os.path.normpath(base / expanded)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown word: the nearest known one, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(word.lower().replace("-", "_"), names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known are: {', '.join(names)}"


def _item(value: object, path: str) -> object:
    """Return the part of a value that the path of a validation error leads to."""
    for index in re.findall(r"\[(\d+)\]", path):
        if isinstance(value, list | tuple) and int(index) < len(value):
            value = value[int(index)]
    return value


def _alternatives(wanted: object) -> list[object]:
    if get_origin(wanted) in (Union, types.UnionType):
        return [part for arg in get_args(wanted) for part in _alternatives(arg)]
    return [wanted]


def _plain_types(wanted: object) -> list[object]:
    return [
        get_args(part)[0] if get_origin(part) is Annotated else part
        for part in _alternatives(wanted)
    ]


def _literals(wanted: object) -> list[object]:
    return [
        value
        for part in _alternatives(wanted)
        if get_origin(part) is Literal
        for value in get_args(part)
    ]


def _wordings(wanted: object) -> list[str]:
    words: list[str] = []
    for part in _alternatives(wanted):
        origin, args = get_origin(part), get_args(part)
        if part is type(None):
            continue  # TOML has no null: a key that may be absent is simply left out
        if origin is Literal:
            words.append(("one of " if len(args) > 1 else "") + ", ".join(f'"{a}"' for a in args))
        elif origin is tuple:
            words.append(f"a list, each entry {expected(args[0])}")
        elif part is bool:
            words.append("true or false")
        elif origin is Annotated:
            words.append(_bounded(args[0], args[1]))
        else:
            words.append(_noun(part))
    return words


def _noun(plain: object) -> str:
    return {int: "a whole number", float: "a number", str: "a text"}.get(
        plain if isinstance(plain, type) else object, str(plain)
    )


def _bounded(plain: object, meta: msgspec.Meta) -> str:
    text = _noun(plain)
    if meta.min_length:
        text += " that is not empty"
    if meta.gt is not None:
        text += f" above {meta.gt}"
    if meta.ge is not None:
        text += f" of at least {meta.ge}"
    if meta.le is not None:
        text += f" and at most {meta.le}"
    return text
