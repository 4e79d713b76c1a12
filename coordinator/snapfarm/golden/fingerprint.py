"""The identity of a golden database: a hash over the named inputs of its build."""

from __future__ import annotations

import hashlib
import os
import platform
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import msgspec

import snapfarm
from snapfarm.config import FarmConfig
from snapfarm.config_golden import GoldenConfig, is_script
from snapfarm.golden.builders import builders_of
from snapfarm.golden.hashing import file_hash, matching, shown, text_hash
from snapfarm.golden.order import Below, Caller


class Fingerprint(msgspec.Struct, frozen=True):
    """What a golden database is made of.

    `digest` is the SHA-256 over `parts`; two builds of one digest are interchangeable. `parts` maps
    the name of each input to the hash of its content, or to its version.
    """

    digest: str
    parts: dict[str, str]


def fingerprint(
    config: FarmConfig,
    golden: GoldenConfig,
    caller: Caller | None = None,
    below: Below | None = None,
) -> Fingerprint:
    """Return the fingerprint of a golden database, without importing or running user code.

    `caller` is the Python code that asks for it, if any does: modules are looked for as there. A
    layer is built on what is `below`.

    Raises ConfigError for files that do not exist, GoldenError for files that can't be read.
    """
    parts = {
        "snapfarm": snapfarm.__version__,
        "sqlite": sqlite3.sqlite_version,
        "python": ".".join(platform.python_version_tuple()[:2]),
        "order": _order(config, golden, caller, below),
    }
    for builder in builders_of(config, golden, caller, below=below):
        parts |= builder.fingerprint()
    for pattern in golden.inputs:
        parts |= _matching(pattern, config.root)
    for variable in golden.env:
        value = os.environ.get(variable)
        # Only a hash is kept: the value may be a secret.
        parts[f"env {variable}"] = "not set" if value is None else text_hash(value)
    digest = hashlib.sha256(msgspec.json.encode(sorted(parts.items()))).hexdigest()
    return Fingerprint(digest, parts)


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Say which parts differ between two fingerprints, in words, sorted by name."""
    said = []
    for name in sorted(before.keys() | now.keys()):
        if name not in before:
            said.append(f"{name} is new")
        elif name not in now:
            said.append(f"{name} is gone")
        elif before[name] != now[name]:
            said.append(f"{name} changed")
    return tuple(said)


def _order(
    config: FarmConfig, golden: GoldenConfig, caller: Caller | None, below: Below | None
) -> str:
    """Hash what runs in which order, by names that hold in any folder."""
    entries = [
        [shown(config.root / entry, config.root) if is_script(entry) else entry for entry in group]
        for group in (golden.schema, golden.seed)
    ]
    titles = [builder.title for builder in builders_of(config, golden, caller, below=below)]
    return text_hash(msgspec.json.encode([entries, titles]).decode())


def _matching(pattern: str, root: Path) -> dict[str, str]:
    files = matching(root / pattern)
    if not files:
        return {f"inputs {shown(root / pattern, root)}": "no such file"}
    return {f"input {shown(path, root)}": file_hash(path) for path in files}
