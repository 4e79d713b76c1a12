"""A ring with sensors, inside of one test."""

from __future__ import annotations

from snapfarm_worker.anomaly import Anomaly, AnomalyKind, Level
from snapfarm_worker.databases import Databases
from snapfarm_worker.ring import ResetPolicy, Ring, RingKind
from support.golden import golden, image

SNAPSHOT = golden()
EMPTY_SCHEMA = image(
    "CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE orders(id, customer);"
)
SHARING = [RingKind.SHARED_CACHE, RingKind.MEMDB]


class Rig:
    """Databases with one ring, inside of one test."""

    def __init__(
        self,
        kind: RingKind,
        policy: ResetPolicy = ResetPolicy.TEST,
        *,
        level: Level = Level.FULL,
    ) -> None:
        self.databases = Databases(policy=policy, sensors=level)
        self.ring = Ring.restore(SNAPSHOT, kind=kind)
        self.databases.add(self.ring)
        self.databases.begin_test("t.py::one")

    def end(self, *, then: str = "t.py::two") -> tuple[Anomaly, ...]:
        """End the test, begin another; return what was found."""
        found = self.databases.end_test("t.py::one", None, "test").anomalies
        self.databases.begin_test(then)
        return found

    def kinds(self) -> list[AnomalyKind]:
        return [anomaly.kind for anomaly in self.end()]
