"""How many workers "auto" means."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Literal

import pytest


def worker_count(config: pytest.Config, wanted: int | Literal["auto", "logical"]) -> int:
    """Return a number of workers; a hook of a conftest or plugin may decide what "auto" is."""
    if isinstance(wanted, int):
        return wanted
    manager = config.pluginmanager
    # xdist's own answer is its last resort, as ours below is.
    theirs = [manager.get_plugin("xdist"), manager.get_plugin("xdist.plugin")]
    hook = manager.subset_hook_caller("pytest_xdist_auto_num_workers", theirs)
    decided = hook(config=config)
    if isinstance(decided, int):
        return max(1, decided)
    with contextlib.suppress(ValueError):
        return max(1, int(os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS", "")))
    return processors() if wanted == "logical" else cores()


def processors() -> int:
    """Return the number of processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def cores() -> int:
    """Return the number of physical cores that this process may use, as far as that is known."""
    found = set()
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:
        return processors()
    for number in allowed:
        siblings = Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list")
        try:
            found.add(siblings.read_text().strip())
        except OSError:
            return processors()
    return max(1, len(found))
