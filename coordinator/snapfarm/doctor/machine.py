"""Reads what a machine has for a farm."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path

from snapfarm.doctor.facts import Machine
from snapfarm_worker.errors import RingUnsupported
from snapfarm_worker.ringkind import RingKind, check_support

_SHARED_MEMORY = Path("/dev/shm")
#: Where a control group tells its limit and its use, of both versions.
_GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def read_machine() -> Machine:
    """Return what this machine has."""
    from multiprocess import get_all_start_methods

    memory, source = available_memory()
    temporary = tempfile.gettempdir()
    return Machine(
        python=f"{platform.python_implementation()} {platform.python_version()}",
        implementation=sys.implementation.name,
        free_threaded=not getattr(sys, "_is_gil_enabled", lambda: True)(),
        sqlite=sqlite3.sqlite_version,
        threadsafety=sqlite3.threadsafety,
        serialize=hasattr(sqlite3.Connection, "deserialize"),
        rings={str(kind): _fault_of(kind) for kind in RingKind},
        memory=memory,
        memory_source=source,
        descriptors=_descriptors(),
        shared_memory=_free(_SHARED_MEMORY),
        temporary=temporary,
        temporary_free=_free(Path(temporary)),
        start_methods=tuple(get_all_start_methods()),
        system=platform.system(),
    )


def available_memory(root: Path = Path("/")) -> tuple[int | None, str]:
    """Return the bytes that new processes can have, and where that is from; None if unknown.

    `root` is where /proc and /sys lie. The least of the system's and the control group's counts.
    """
    found: list[tuple[int, str]] = []
    with contextlib.suppress(OSError, ValueError):
        found += [
            (int(line.split()[1]) * 1024, "the system")
            for line in (root / "proc/meminfo").read_text().splitlines()
            if line.startswith("MemAvailable:")
        ]
    for limit, used in _GROUPS:
        try:
            most = int((root / limit.lstrip("/")).read_text())
            now = int((root / used.lstrip("/")).read_text())
        except (OSError, ValueError):  # "max" is no number
            continue
        found.append((max(0, most - now), "the control group"))
    return min(found) if found else (None, "")


def _fault_of(kind: RingKind) -> str:
    try:
        check_support(kind)
    except RingUnsupported as error:
        return str(error)
    return ""


def _descriptors() -> tuple[int | None, int | None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return tuple(  # type: ignore[return-value]  # mypy knows no length here
        None if each == resource.RLIM_INFINITY else each for each in (soft, hard)
    )


def _free(folder: Path) -> int | None:
    if not os.access(folder, os.W_OK | os.X_OK):
        return None
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
