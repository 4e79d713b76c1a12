"""Runs programs as the tests of a suite, with rings, resets and sensors as in a worker."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator

import msgspec

from snapfarm_worker.anomaly import Anomaly, AnomalyKind, Level, Severity
from snapfarm_worker.databases import Databases
from snapfarm_worker.engines import sqlalchemy_url
from snapfarm_worker.ring import ResetPolicy, Ring, RingKind
from snapfarm_worker.snapshot import Snapshot
from support.golden import golden

GOLDEN = golden()


class Stage:
    """A ring with sensors; each program that is run on it is one test."""

    def __init__(
        self,
        policy: ResetPolicy,
        *,
        kind: RingKind = RingKind.SHARED_CACHE,
        level: Level = Level.FULL,
        snapshot: Snapshot = GOLDEN,
    ) -> None:
        self.policy = policy
        self.databases = Databases(policy=policy, sensors=level)
        self.ring = Ring.restore(snapshot, kind=kind)
        self.databases.add(self.ring)
        self.cleanups = contextlib.ExitStack()
        #: A connection that programs pass on from test to test.
        self.kept: sqlite3.Connection | None = None
        self._number = 0

    @property
    def uri(self) -> str:
        """The address of the ring."""
        return self.ring.uri

    @property
    def url(self) -> str:
        """The address for SQLAlchemy."""
        return sqlalchemy_url(self.ring.uri)

    @property
    def name(self) -> str:
        """The test that runs, or ran last."""
        return f"t.py::{self._number}"

    def run(self, program: Program) -> tuple[Anomaly, ...]:
        """Run a program as one test, in the middle of a module; return what was observed."""
        self._number += 1
        self.databases.begin_test(self.name)
        program(self)
        return self.databases.end_test(self.name, None, "test").anomalies

    def close(self) -> None:
        """Run the cleanups, close the ring."""
        self.cleanups.close()
        self.databases.close()


Program = Callable[[Stage], object]


class Case(msgspec.Struct, frozen=True):
    """The last of some tests, and the kinds that have to be reported for it, and no others."""

    name: str
    kinds: tuple[AnomalyKind, ...]
    program: Program
    #: Tests that run before it.
    after: tuple[Program, ...] = ()
    policy: ResetPolicy = ResetPolicy.TEST
    ring: RingKind = RingKind.SHARED_CACHE
    snapshot: Snapshot = GOLDEN
    #: What the first kind weighs here, where it is not what it usually weighs.
    severity: Severity | None = None
    #: The table that the first anomaly has to name.
    table: str = ""

    def observed(self, level: Level = Level.FULL) -> tuple[Anomaly, ...]:
        """Run the tests; return what was observed in the last one."""
        stage = Stage(self.policy, kind=self.ring, level=level, snapshot=self.snapshot)
        try:
            for program in self.after:
                stage.run(program)
            found = stage.run(self.program)
            sensors = stage.databases._sensors
            assert sensors is not None
            assert sensors.switches.off == set()
            return found
        finally:
            stage.close()


def anywhere(name: str, program: Program) -> list[Case]:
    """Return the cases of a sound program, with and without what earlier tests leave."""
    return [
        Case(f"{name}-{policy}-{ring}", (), program, policy=policy, ring=ring)
        for policy, ring in (
            (ResetPolicy.TEST, RingKind.SHARED_CACHE),
            (ResetPolicy.MODULE, RingKind.SHARED_CACHE),
            (ResetPolicy.SESSION, RingKind.MEMDB),
        )
    ]


def kinds(found: tuple[Anomaly, ...]) -> set[AnomalyKind]:
    """Return the kinds of what was observed, apart from mere information."""
    return {each.kind for each in found if each.severity is not Severity.INFO}


@contextlib.contextmanager
def opened(stage: Stage, **options: object) -> Iterator[sqlite3.Connection]:
    """Open a connection to the ring as programs do, and close it in the end."""
    conn: sqlite3.Connection = sqlite3.connect(stage.uri, uri=True, **options)  # type: ignore[call-overload]  # options of sqlite3.connect
    try:
        yield conn
    finally:
        conn.close()
