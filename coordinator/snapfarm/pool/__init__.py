"""The worker pool: functions over workers x threads, each on a ready database."""

from __future__ import annotations

from snapfarm.pool.executor import WorkerPool
from snapfarm.pool.progress import Progress
from snapfarm.pool.report import PoolReport
from snapfarm.pool.statistics import PoolStatistics, WorkerStatistics

__all__ = ["PoolReport", "PoolStatistics", "Progress", "WorkerPool", "WorkerStatistics"]
