"""Hashes of files, and the names under which files enter a fingerprint and messages."""

from __future__ import annotations

import glob
import hashlib
from pathlib import Path

from snapfarm.errors import GoldenError


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's content. Raises GoldenError where it can't be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise GoldenError(f"{path}: can't be read: {error.strerror or error}") from error


def matching(pattern: Path) -> list[Path]:
    """Return the files that a pattern (`*`, `?`, `[…]`, `**`) matches, sorted.

    Names that exist stand for themselves, so a project may lie in a folder called `job[1]`.
    Compiled modules are left out: a build writes them, and they say no more than their sources.
    """
    if pattern.is_file():
        return [pattern]
    base = next((folder for folder in pattern.parents if folder.is_dir()), Path(pattern.anchor))
    rest = str(pattern.relative_to(base))
    names = glob.glob(rest, root_dir=base, recursive=True)  # noqa: PTH207  # sorted as text
    found = [base / name for name in sorted(names)]
    return [path for path in found if "__pycache__" not in path.parts and path.is_file()]


def text_hash(text: str) -> str:
    """Return the SHA-256 of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def shown(path: Path, root: Path) -> str:
    """Return the path relative to the project where it is inside of it.

    Fingerprints hold these names, so that a cache may move with its project to another folder.
    """
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
