"""The facts of the machine that numbers depend on."""

from __future__ import annotations

import os
import platform
import sqlite3
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec
import psutil


class Machine(msgspec.Struct, frozen=True):
    """Where and when a benchmark ran. `load` is the load average of the minute before it."""

    when: str
    cpu: str
    cores: int
    memory_gib: float
    system: str
    python: str
    sqlite: str
    packages: dict[str, str]
    load: float

    def __str__(self) -> str:
        packages = ", ".join(f"{name} {number}" for name, number in self.packages.items())
        return (
            f"{self.when}, {self.cores} cores ({self.cpu}), {self.memory_gib:.0f} GiB, "
            f"{self.system}, Python {self.python}, SQLite {self.sqlite}, {packages}, "
            f"load average {self.load:.1f} before the start"
        )


def look() -> Machine:
    """Return the facts as they are now."""
    return Machine(
        when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=psutil.virtual_memory().total / 2**30,
        system=f"{platform.system()} {platform.release().partition('-')[0]}",
        python=platform.python_version(),
        sqlite=sqlite3.sqlite_version,
        packages={name: version(name) for name in ("pytest", "pytest-xdist", "pyzmq")},
        load=os.getloadavg()[0],
    )


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
