"""Git repositories that tests make."""

from __future__ import annotations

import subprocess
from pathlib import Path

_WHO = ("-c", "user.name=tester", "-c", "user.email=tester@example.org")


def git(folder: Path, *arguments: str) -> str:
    """Call git in a folder, as somebody; return what it printed."""
    done = subprocess.run(
        ["git", *_WHO, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()
