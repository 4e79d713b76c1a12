"""Small projects with golden databases, for tests of building them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec

from snapfarm.config import FarmConfig
from snapfarm.config_golden import GoldenConfig
from snapfarm.golden.build import BuiltGolden, build
from snapfarm_worker.snapshot import Snapshot


def write_files(root: Path, files: dict[str, str]) -> None:
    """Write files by their path relative to `root`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def build_golden(root: Path, **keys: object) -> BuiltGolden:
    """Build the golden database `a` of a project, declared with `keys`, past any cache."""
    golden = msgspec.structs.replace(GoldenConfig(name="a"), **keys)
    return build(FarmConfig(root=root, golden=(golden,)), golden)


@contextlib.contextmanager
def opened(snapshot: Snapshot) -> Iterator[sqlite3.Connection]:
    """Open a copy of a snapshot's database."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        conn.deserialize(bytes(snapshot.data))
        yield conn
