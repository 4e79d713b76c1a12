"""Runs all benchmarks, tells which bars are met, and writes the samples as JSON."""

from __future__ import annotations

from benchmarks import broadcast, django_suite, pool, reset, restore, sensors, suites
from benchmarks.options import command

BENCHMARKS = {
    suites.NAME: suites.run,
    django_suite.NAME: django_suite.run,
    broadcast.NAME: broadcast.run,
    restore.NAME: restore.run,
    reset.NAME: reset.run,
    pool.NAME: pool.run,
    sensors.NAME: sensors.run,
}

if __name__ == "__main__":
    command(BENCHMARKS)(prog_name="python -m benchmarks")
