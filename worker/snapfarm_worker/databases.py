"""All rings of this process, and what happens to them before and after each test."""

from __future__ import annotations

import functools
import re
import sqlite3
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import msgspec

from snapfarm_worker import connections
from snapfarm_worker.anomaly import Anomaly, AnomalyKind, Level
from snapfarm_worker.engines import sqlalchemy_url
from snapfarm_worker.errors import RingError
from snapfarm_worker.members import SoloConnection, member_of
from snapfarm_worker.ring import ResetOutcome, ResetPolicy, Ring, RingKind
from snapfarm_worker.sensors import Sensors
from snapfarm_worker.snapshot import BASE
from snapfarm_worker.widefixtures import WideFixture, WideFixtures

if TYPE_CHECKING:
    from snapfarm_worker.findings import Findings
    from snapfarm_worker.offers import DeclaredLayers
    from snapfarm_worker.snapshot import Snapshot
    from snapfarm_worker.wire import DatabaseOrder

#: The database that FARM_URI and fixtures without a `database=` mean.
DEFAULT = "default"

#: What ends together with a test: the test alone, its module as well, or the whole session.
Boundary = Literal["test", "module", "session"]

_DUE: dict[ResetPolicy, frozenset[Boundary]] = {
    ResetPolicy.TEST: frozenset({"test", "module", "session"}),
    ResetPolicy.MODULE: frozenset({"module", "session"}),
    ResetPolicy.SESSION: frozenset({"session"}),
    ResetPolicy.NEVER: frozenset(),
}


class TestDatabases(msgspec.Struct, frozen=True):
    """What a test did to the databases: anomalies, and the reset of each ring that was due."""

    __test__ = False  # no test class, whatever its name says

    anomalies: tuple[Anomaly, ...]
    resets: dict[str, ResetOutcome]
    #: What people should know besides.
    notes: tuple[str, ...] = ()
    #: Tables that its statements changed, as database.table, as far as sensors saw them.
    written: tuple[str, ...] = ()
    #: Tables that they read, where that is noted.
    read: tuple[str, ...] = ()


class Databases:
    """The rings by name of their database. While it is open, `sqlite3.connect` knows them."""

    def __init__(
        self, *, policy: ResetPolicy, sensors: Level | bool, findings: Findings | None = None
    ) -> None:
        """Begin without rings. `sensors` is how much is watched; True means all."""
        level = (
            Level(sensors) if isinstance(sensors, str) else (Level.FULL if sensors else Level.OFF)
        )
        self.policy = policy
        self._rings: dict[str, Ring] = {}
        #: Those that the farm itself resets, and whose transactions it looks after.
        self._own: dict[str, Ring] = {}
        self._policies: dict[str, ResetPolicy] = {}
        self._sensors = Sensors(findings, level=level) if level is not Level.OFF else None
        self._wide_fixtures = 0
        self._declared: DeclaredLayers | None = None
        self._fixtures = WideFixtures(self._own, self._reset)
        #: Whether the present test has failed.
        self._failed = False
        self._open = True

    def add(self, ring: Ring, *, policy: ResetPolicy | None = None, managed: bool = False) -> None:
        """Take over a ring, which `close()` will close.

        One that is `managed` belongs to a framework that opens its connections, keeps them from
        test to test, and undoes what tests do: it is not reset, and nothing there is a leak. Where
        it empties tables, that is only told of tests that fail and read them.

        Raises RingError if there is one of that name, or of that environment variable.
        """
        for name in self._rings:
            if _variable(name) == _variable(ring.database):
                raise RingError(
                    f"databases {name!r} and {ring.database!r} would share the variable "
                    f"{_variable(name)}: rename one"
                )
        if not self._rings:
            # Without a ring, sqlite3 stays as it is.
            connections.install()
        self._rings[ring.database] = ring
        if not managed:
            self._own[ring.database] = ring
        if policy is not None:
            self._policies[ring.database] = policy
        if self._sensors is not None:
            wide = self._is_wide(ring.database, None)
            self._sensors.watch(ring, wide=wide, managed=managed)

    def hold(self, order: DatabaseOrder, snapshot: Snapshot) -> Ring:
        """Return a ring with a verified snapshot, as ordered. Raises WorkerError."""
        ring = Ring.restore(snapshot, kind=RingKind(order.ring), verified=True)
        self.add(ring, policy=ResetPolicy(order.reset), managed=order.django is not None)
        return ring

    def declare(self, layers: DeclaredLayers) -> None:
        """Know of layers that tests can ask for."""
        self._declared = layers

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the databases, in the order in which they were added."""
        return tuple(self._rings)

    def get(self, name: str | None = None) -> Ring:
        """Return a ring; without a name the one of "default", or the only one.

        Raises RingError, which tells what there is.
        """
        if not self._rings:
            raise RingError(
                "no golden database is configured: declare one as [tool.farm.golden.default] in "
                "pyproject.toml"
            )
        ring = self._rings.get(name) if name is not None else self._default()
        if ring is None:
            known = ", ".join(repr(each) for each in self._rings)
            wanted = f"database {name!r}" if name is not None else f"database named {DEFAULT!r}"
            raise RingError(f"there is no {wanted}: choose one of {known} with farm(database=…)")
        return ring

    def environment(self) -> dict[str, str]:
        """Return the variables that tell programs where the databases are."""
        uris = {_suffix(name): ring.uri for name, ring in self._rings.items()}
        default = self._default()
        if default is not None:
            uris[""] = default.uri
        found = {f"FARM_URI{suffix}": uri for suffix, uri in uris.items()}
        return found | {
            f"FARM_SQLALCHEMY_URL{suffix}": sqlalchemy_url(uri) for suffix, uri in uris.items()
        }

    @property
    def findings(self) -> Findings | None:
        """Where the sensors' observations are collected; None without sensors."""
        return self._sensors.findings if self._sensors is not None else None

    def begin_test(self, test: str, policy: ResetPolicy | None = None) -> None:
        """A test begins: what holds locks already is not its doing.

        `policy` is the test's own, before the database's and the suite's.
        """
        self._failed = False
        self._fixtures.ending = None
        self._fixtures.policies = {name: self._policy(name, policy) for name in self._own}
        for ring in self._own.values():
            ring.mark()
            for member in ring.members():
                member.recent.clear()
        if self._sensors is not None:
            self._sensors.begin(test, lambda name: self._is_wide(name, policy))

    def _is_wide(self, name: str, policy: ResetPolicy | None) -> bool:
        """Tell whether tests leave what they commit to later ones."""
        return name not in self._own or self._policy(name, policy) is not ResetPolicy.TEST

    def test_failed(self) -> None:
        """The test that runs has failed: what it leaves behind is no surprise."""
        self._failed = True

    def stand_on(self, layers: Sequence[str]) -> bool:
        """Bring each database to the one of these declared layers that is its own, or to golden.

        Fixtures of wider scope that have committed on top of another layer are torn down: whoever
        needs one has it set up again. Returns whether anything was done.

        Raises RingError for layers that don't exist or exclude each other, what getting a layer
        raises, and what fixtures raise while they are torn down.
        """
        if self._declared is None and not layers:
            return False
        wanted = self._grounds(layers)
        changing = [
            (ring, wanted.get(name, BASE))
            for name, ring in self._rings.items()
            if name in wanted or (ring.is_open and ring.layers.ground != BASE)
        ]
        for ring, layer in changing:
            ring.ensure()
            if layer != BASE:
                assert self._declared is not None
                ring.layers.prepare(layer, functools.partial(self._declared.snapshot, layer))
        changing = [(ring, layer) for ring, layer in changing if ring.layers.ground != layer]
        errors: list[BaseException] = []
        for ring, layer in changing:
            errors += self._fixtures.finish(ring)
            ring.layers.stand_on(layer)
            ring.reset()
        if errors:
            raise errors[0]
        return bool(changing)

    def _grounds(self, layers: Sequence[str]) -> dict[str, str]:
        """Return the layer of each database that has one of these. Raises RingError."""
        known = self._declared.databases if self._declared is not None else {}
        wanted: dict[str, str] = {}
        for layer in layers:
            if layer not in known:
                there_are = (
                    f"choose one of {', '.join(map(repr, known))}"
                    if known
                    else "none is declared in [tool.farm.layers], or by @snapfarm.layer in a "
                    "module that the key layer_modules names"
                )
                raise RingError(f"there is no layer {layer!r}: {there_are}")
            other = wanted.setdefault(known[layer], layer)
            if other != layer:
                raise RingError(
                    f"layers {other!r} and {layer!r} are both of database {known[layer]!r}: a test "
                    "has one of them; declare a layer with on= that holds both"
                )
        return wanted

    def note_reads(self) -> None:
        """Remember from now on which tables tests read."""
        if self._sensors is not None:
            self._sensors.note_reads()

    def anomalies(self) -> tuple[Anomaly, ...]:
        """Return what was observed so far in the test that runs."""
        return self._sensors.findings.peek() if self._sensors is not None else ()

    def begin_teardown(self, policy: ResetPolicy | None, boundary: Boundary) -> None:
        """The tear-down of a test begins, after which `end_test` is called with the same."""
        self._fixtures.ending = frozenset(
            ring for name, ring in self._own.items() if boundary in _DUE[self._policy(name, policy)]
        )

    def end_test(self, test: str, policy: ResetPolicy | None, boundary: Boundary) -> TestDatabases:
        """A test ended, its fixtures torn down: observe what is left, and reset what is due.

        `policy` is the test's own, before the database's and the suite's.
        """
        resets: dict[str, ResetOutcome] = {}
        notes: list[str] = []
        for name, ring in self._own.items():
            if not ring.is_open:
                if self._sensors is not None and ring.fate():
                    self._sensors.scan(ring)
                continue
            self._observe_residue(ring)
            if boundary in _DUE[self._policy(name, policy)]:
                resets[name] = self._reset(ring)
                if resets[name].tier != "clean":
                    notes += self._fixtures.taken_back(ring)
            else:
                if self._sensors is not None:
                    self._sensors.scan(ring)
                left = ring.leave()
                if self._sensors is not None:
                    self._sensors.blocked(ring, left, retired=False)
        if self._sensors is None:
            return TestDatabases((), resets, tuple(notes))
        managed = self._rings.keys() - self._own.keys()
        for name in managed:
            self._sensors.remember(self._rings[name])
        written, read = self._sensors.tables_written(), self._sensors.tables_read()
        anomalies = self._sensors.finish()
        if not self._failed:
            # Tests of a framework that empties tables expect that; only failures are explained.
            anomalies = tuple(each for each in anomalies if not _is_expected(each, managed))
        return TestDatabases(anomalies, resets, tuple(notes), written, read)

    def _policy(self, name: str, policy: ResetPolicy | None) -> ResetPolicy:
        return policy or self._policies.get(name, self.policy)

    def _reset(self, ring: Ring) -> ResetOutcome:
        """Observe what a test leaves in a ring, and reset it."""
        if self._sensors is not None:
            self._sensors.scan(ring)
        outcome, blockers = ring.reset_naming()
        if self._sensors is not None:
            self._sensors.blocked(ring, blockers, retired=outcome.tier == "retired")
        return outcome

    def _observe_residue(self, ring: Ring) -> None:
        if self._sensors is not None:
            self._sensors.residue(ring, passed=not self._failed)

    @contextmanager
    def wide_fixture(self, fixture: WideFixture) -> Iterator[None]:
        """Set up a fixture that outlives the test: what it opens and begins is not the test's.

        What it commits becomes a layer, unless the context raises.
        """
        before = {name: ring.transactions() for name, ring in self._own.items() if ring.is_open}
        self._wide_fixtures += 1
        self._tell_sensors()
        try:
            with self._fixtures.set_up(fixture):
                yield
        finally:
            self._wide_fixtures -= 1
            self._tell_sensors()
            for name, ring in self._own.items():
                if ring.is_open:
                    ring.adopt(before.get(name, frozenset()))
            self._accept()

    def begin_fixture_teardown(self, fixture: WideFixture) -> None:
        """A fixture that `wide_fixture` has set up is about to be torn down."""
        for ring in self._own.values():
            if ring.is_open:
                self._observe_residue(ring)  # what was left before is the test's
        self._fixtures.begin_teardown(fixture)

    def end_fixture_teardown(self, fixture: WideFixture) -> list[str]:
        """A fixture was torn down, its layers go; return what people should know."""
        told = self._fixtures.end_teardown(fixture)
        self._accept()
        return told

    def _accept(self) -> None:
        """What is committed by now is a wider fixture's, and meant so."""
        for ring in self._rings.values():
            if ring.is_open and self._sensors is not None:
                self._sensors.accept(ring)

    def open_fixture(self, ring: Ring) -> sqlite3.Connection:
        """Return a connection that `close_fixture` will end."""
        conn = ring.connect()
        member = member_of(conn)
        if member is not None:
            member.fixture = True
            member.alert = member.watcher is not None
        return conn

    def close_fixture(self, conn: sqlite3.Connection) -> None:
        """Roll back and close; only a transaction that the test itself began is worth a word."""
        member = member_of(conn)
        if member is not None and member.closed:
            return
        if conn.in_transaction:
            if member is not None and member.explicit and self._sensors is not None:
                self._sensors.leaked_transaction(member)
            conn.rollback()
        conn.close()

    def call_failed(self, conn: sqlite3.Connection, error: BaseException) -> None:
        """A task that was given this connection raised: that may be what SQLite told it."""
        if isinstance(conn, SoloConnection) and isinstance(error, sqlite3.Error):
            member = conn.farm_member
            if member.watcher is not None:
                member.watcher.failed(conn, member, "", error, partly=False)

    def end_call(self, conn: sqlite3.Connection) -> bool:
        """A task ended that was given this connection: report and end a transaction that it left.

        Returns whether the connection can be given to the next one: it is open, and in the ring.
        """
        member = member_of(conn)
        if member is not None and (member.closed or member.left):
            return False
        try:
            if conn.in_transaction:
                if member is not None and self._sensors is not None:
                    self._sensors.leaked_transaction(member, of_task=True)
                conn.rollback()
        except sqlite3.Error:  # closed; or a private database that is damaged
            return False
        return True

    def close(self) -> None:
        """Close all rings, and let `sqlite3.connect` be again."""
        if not self._open:
            return
        self._open = False
        if self._sensors is not None:
            self._sensors.close()
        for ring in self._rings.values():
            ring.close()
        if self._rings:
            connections.uninstall()

    def _default(self) -> Ring | None:
        if len(self._rings) == 1:
            return next(iter(self._rings.values()))
        return self._rings.get(DEFAULT)

    def _tell_sensors(self) -> None:
        if self._sensors is not None:
            self._sensors.in_wide_fixture = self._wide_fixtures > 0


def _is_expected(anomaly: Anomaly, managed: Set[str]) -> bool:
    return anomaly.kind is AnomalyKind.EMPTY_TABLE_READ and anomaly.database in managed


def _variable(name: str) -> str:
    return f"FARM_URI{_suffix(name)}"


def _suffix(name: str) -> str:
    return "_" + re.sub(r"[^A-Z0-9]", "_", name.upper())
