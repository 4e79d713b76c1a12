"""The report of a pool: the same model as that of a test run."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from snapfarm import __version__
from snapfarm.errors import ConfigError
from snapfarm.report import formats, terminal
from snapfarm.report.model import (
    GoldenLine,
    RunReport,
    TaskCounts,
    WorkerLine,
    write_text,
)

if TYPE_CHECKING:
    from snapfarm.golden.handle import Golden
    from snapfarm.pool.manager import PoolManager
    from snapfarm.pool.settings import PoolSettings

_FORMATS = (".html", ".json", ".md", ".txt", ".xml")


class PoolReport:
    """What is known of a pool at one moment; `model` holds it all."""

    def __init__(self, model: RunReport) -> None:
        self.model = model

    def __str__(self) -> str:
        return "\n".join(terminal.pool_lines(self.model))

    def write(self, path: str | Path) -> Path:
        """Write the report, whole or not at all.

        The end of the name says as what: .html, .json, .md, .txt, or .xml for JUnit. Returns the
        path. Raises ConfigError for another ending, and OSError.
        """
        path = Path(path)
        chosen = formats.format_of(path)
        if path.suffix not in _FORMATS or chosen is None:
            raise ConfigError(
                f"report: {path}: expected a name that ends in {', '.join(_FORMATS)}, "
                f"not in {path.suffix!r}"
            )
        write_text(formats.render(self.model, chosen), path)
        return path


def report_of(
    manager: PoolManager, settings: PoolSettings, goldens: Sequence[Golden], *, began: float
) -> PoolReport:
    """Return the report of a pool so far; `began` in seconds since the epoch."""
    picture = manager.tally.picture()
    model = RunReport(
        snapfarm=__version__,
        python=sys.version.split()[0],
        sqlite=sqlite3.sqlite_version,
        started=began,
        seconds=time.time() - began,
        planned_workers=settings.workers,
        tasks=TaskCounts(
            submitted=picture.submitted,
            done=picture.done,
            failed=picture.failed,
            crashed=picture.crashed,
            cancelled=picture.cancelled,
            retried=picture.retried,
            threads=settings.threads,
            isolation=settings.isolation,
            queue_median=picture.queue_median,
            queue_max=picture.queue_max,
        ),
        items=list(manager.memory.failures),
        anomalies=list(manager.memory.anomalies),
        notices=list(manager.memory.notices),
    )
    if manager.memory.more_anomalies:
        model.notices.append(f"{manager.memory.more_anomalies} more anomalies were not kept")
    if manager.broken:
        model.notices.append(manager.broken)
    for golden in goldens:
        manifest = golden.manifest
        model.golden.append(
            GoldenLine(
                name=golden.name,
                digest=manifest.digest,
                size=manifest.size,
                tables=sum(table.kind != "view" for table in manifest.tables),
                fingerprint=golden.fingerprint or "",
                cached=golden.cached,
                build_seconds=golden.build_seconds,
                notes=golden.notes,
            )
        )
    for each in picture.workers:
        model.workers[each.worker] = WorkerLine(
            worker=each.worker,
            pid=each.pid,
            items=each.tasks,
            busy_seconds=each.busy_seconds,
            busy=each.busy,
            peak_memory=each.peak_memory,
            resets=each.resets,
            reset_seconds=each.reset_seconds,
            death=each.death,
        )
    return PoolReport(model)
