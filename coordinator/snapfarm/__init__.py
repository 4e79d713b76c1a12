"""snapfarm: a test farm that gives every test a pristine SQLite database.

What stands in `__all__` is the public interface, and is imported when it is first used.

(PYTEST_DONT_REWRITE: pytest would warn that the `farm` command had imported this already.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from snapfarm.lazily import public

if TYPE_CHECKING:
    from snapfarm.golden.handle import Golden
    from snapfarm.layering import layer
    from snapfarm.pool import PoolReport, PoolStatistics, Progress, WorkerPool
    from snapfarm.store import SnapshotStore
    from snapfarm_worker.persistent import PersistentRing
    from snapfarm_worker.ring import Ring
    from snapfarm_worker.snapshot import Snapshot
    from snapfarm_worker.tasks import current_task

__version__ = "0.1.0"

__all__ = [
    "Golden",
    "PersistentRing",
    "PoolReport",
    "PoolStatistics",
    "Progress",
    "Ring",
    "Snapshot",
    "SnapshotStore",
    "WorkerPool",
    "current_task",
    "layer",
]

_HOMES = {
    "Golden": "snapfarm.golden.handle",
    "PersistentRing": "snapfarm_worker.persistent",
    "PoolReport": "snapfarm.pool",
    "PoolStatistics": "snapfarm.pool",
    "Progress": "snapfarm.pool",
    "Ring": "snapfarm_worker.ring",
    "Snapshot": "snapfarm_worker.snapshot",
    "SnapshotStore": "snapfarm.store",
    "WorkerPool": "snapfarm.pool",
    "current_task": "snapfarm_worker.tasks",
    "layer": "snapfarm.layering",
}

__getattr__, __dir__ = public(__name__, _HOMES)
