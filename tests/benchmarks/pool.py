"""Measures the worker pool beside its peers: tasks per second, start, memory, shared rings."""

from __future__ import annotations

from benchmarks import contention, startup, throughput
from benchmarks.model import Bar, Result, Table
from benchmarks.options import Options, command

NAME = "pool"


def run(options: Options) -> Result:
    """Measure all tables that are wanted."""
    tables: list[Table] = []
    bars: tuple[Bar, ...] = ()
    for part in (throughput.run, startup.run, contention.run):
        found, met = part(options, NAME)
        tables += found
        bars += met
    return Result(NAME, tuple(tables), bars)


if __name__ == "__main__":
    command({NAME: run})()
