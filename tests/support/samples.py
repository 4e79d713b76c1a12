"""The sample projects of `tests/samples`: what users write, with tests for any order.

Each is a project by itself: it has its own settings of pytest and its configuration of the farm.
"""

from __future__ import annotations

import shutil
from pathlib import Path

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
#: Names of those whose tests may run in any order. In a project of Django's, which has a manage.py,
#: classes that roll back come before those that leave tables empty: `test_django_shop.py` runs it.
NAMES = sorted(
    {
        file.parent.name
        for pattern in ("*/pytest.ini", "*/pyproject.toml")
        for file in SAMPLES.glob(pattern)
        if not (file.parent / "manage.py").exists()
    }
)


def copied(name: str, parent: Path) -> Path:
    """Return a fresh copy of a sample in a folder: runs write there."""
    ignored = shutil.ignore_patterns(".farm", "__pycache__", ".pytest_cache")
    return Path(shutil.copytree(SAMPLES / name, parent / name, ignore=ignored))
