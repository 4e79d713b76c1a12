"""The text of a configuration, and where it goes: pyproject.toml, else a new farm.toml."""

from __future__ import annotations

import json
import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path

from snapfarm.config import load_config
from snapfarm.errors import ConfigError, UserError
from snapfarm.init.choice import Candidate, Choice

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_WITHOUT = """\
# No golden database: nothing was found that makes one. Say what it is made of, such as
# [{table}golden.default]
# schema = ["schema.sql"]
"""


def configuration(choice: Choice, candidate: Candidate | None, *, prefix: str) -> str:
    """Return the tables in TOML; `prefix` is "tool.farm" in a pyproject.toml, else empty."""
    lines = [f"[{prefix}]"] if prefix else []
    lines.append("# Written by farm init. Every key that is not here has its default.")
    for key, (value, comment) in choice.keys.items():
        lines += [f"# {comment}", f"{key} = {_value(value)}"]
    table = f"{prefix}." if prefix else ""
    if candidate is None:
        if "django" not in choice.keys:
            lines += ["", *_WITHOUT.format(table=table).splitlines()]
        return "\n".join(lines) + "\n"
    lines += [
        "",
        f"[{table}golden.default]",
        f"# Made of {candidate.what}: {candidate.why}.",
    ]
    lines += [f"{key} = {_value(value)}" for key, value in candidate.table.items()]
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    """Return a value in TOML."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(str(key))} = {_value(each)}" for key, each in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    # A JSON text is a basic string of TOML, but for the escape of DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _value(key)


def check_free(root: Path) -> None:
    """Check that nothing configures a farm yet. Raises ConfigError."""
    config = load_config(root, environ={})
    if config.source is not None:
        what = "the table [tool.farm]" if config.source.name == "pyproject.toml" else "it"
        raise ConfigError(
            f"{config.source} configures the farm already: change {what} there, or remove it and "
            f"call farm init again; --dry-run only shows what would be written"
        )


def target(root: Path) -> tuple[Path, str]:
    """Return the file that the configuration goes to, and what stands before its tables."""
    shared = root / "pyproject.toml"
    return (shared, "tool.farm") if shared.is_file() else (root / "farm.toml", "")


def write(path: Path, text: str) -> None:
    """Add tables to a file, or make it; what it holds stays as it is, byte by byte.

    It is written as a whole or not at all. Raises UserError.
    """
    before = path.read_bytes() if path.exists() else b""
    newline = "\r\n" if b"\r\n" in before else "\n"
    added = text.replace("\n", newline)
    if before:
        gap = newline if before.endswith(b"\n") else newline * 2
        added = gap + added
    after = before + added.encode("utf-8")
    _check(path, before, after)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(after)
        Path(temporary).chmod(path.stat().st_mode & 0o777 if before else 0o644)
        Path(temporary).replace(path)
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror or error}") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def _check(path: Path, before: bytes, after: bytes) -> None:
    """Check that the old tables mean the same, and that a farm's are there. Raises UserError."""
    try:
        old = tomllib.loads(before.decode("utf-8-sig"))
        new = tomllib.loads(after.decode("utf-8-sig"))
    except (ValueError, UnicodeDecodeError) as error:
        # A table `tool` that is written in one line, say, can't be added to.
        raise ConfigError(
            f"{path}: the table [tool.farm] can't be added to it ({error}); put what --dry-run "
            f"shows there by hand, or into a farm.toml without the words tool.farm"
        ) from error
    if path.name == "pyproject.toml":
        tool = new.get("tool", {})
        tool.pop("farm", None)
        if not tool and "tool" not in old:
            new.pop("tool", None)
        if new != old:
            raise ConfigError(f"{path}: adding [tool.farm] would change its other tables")
