"""The pytest plugin that gives tests their databases: fixtures, the marker `farm`, resets.

The same plugin runs in a farm's workers and under plain pytest. It surrounds the setup and the
teardown of each attempt at an item, outside of all other plugins, so that it sees the database
after the last finalizer.
"""

from __future__ import annotations

import functools
import sqlite3
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import pytest

from snapfarm_worker.anomaly import Action, Anomaly, AnomalyPolicy, summary_of
from snapfarm_worker.databases import Boundary, Databases
from snapfarm_worker.engines import async_engine, sqlalchemy_url, sync_engine
from snapfarm_worker.errors import RingError
from snapfarm_worker.marks import MARKER, FarmMark, MarkError, allowed_kinds, read_marks
from snapfarm_worker.ring import ResetOutcome, ResetPolicy, Ring, RingKind
from snapfarm_worker.snapshot import Manifest
from snapfarm_worker.threads import DEFAULT_TIMEOUT, run_threads
from snapfarm_worker.warning import warn
from snapfarm_worker.widefixtures import WideFixture
from snapfarm_worker.wire import RingReset

if TYPE_CHECKING:
    import sqlalchemy as sa
    import sqlalchemy.orm
    from _pytest.fixtures import SubRequest
    from sqlalchemy.ext.asyncio import AsyncEngine

    from snapfarm_worker.evidence import DatabaseEvidence, EvidenceOrder
    from snapfarm_worker.keeping import Failures

_T = TypeVar("_T")

SECTION = "farm anomalies"

_databases_key: pytest.StashKey[Databases] = pytest.StashKey()


# No method: pytest wants fixtures of wider scope to be none.
@pytest.fixture(scope="session")
def farm_databases(pytestconfig: pytest.Config) -> Databases:
    """All rings; `farm_databases.get(name)` returns one. For fixtures of wider scope.

    What such a fixture commits is there for every test that it is there for.
    """
    return pytestconfig.stash[_databases_key]


class FarmRing:
    """The ring of a test's database, as the fixture `farm_ring` gives it."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring

    @property
    def uri(self) -> str:
        """The URI that joins the ring, for `sqlite3.connect(uri, uri=True)`."""
        return self._ring.uri

    @property
    def database(self) -> str:
        """The name of the golden database."""
        return self._ring.database

    @property
    def kind(self) -> RingKind:
        """How the connections of the ring share their database."""
        return self._ring.kind

    @property
    def manifest(self) -> Manifest:
        """What the golden database holds."""
        return self._ring.manifest

    @property
    def baseline(self) -> Manifest:
        """What the database holds when the test begins: fixtures may have added to it."""
        return self._ring.baseline

    def connect(self, **options: object) -> sqlite3.Connection:
        """Return a new connection, which the test closes; options as for `sqlite3.connect`."""
        return self._ring.connect(**options)

    def reset(self) -> ResetOutcome:
        """Bring the database back to how it was when the test began, in the middle of it."""
        return self._ring.reset()


class ThreadRunner:
    """Runs a function on several threads, as the fixture `farm_threads` gives it."""

    def __init__(self, ring: Ring, threads: int) -> None:
        self._ring = ring
        self._threads = threads

    def __call__(
        self,
        function: Callable[..., _T],
        threads: int | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> list[_T]:
        """Call `function(conn)` or `function(conn, index)` on all threads at once."""
        count = self._threads if threads is None else threads
        return run_threads(function, self._ring.connect, count, timeout)


class DatabasePlugin:
    """The plugin object; register it before pytest is configured."""

    def __init__(
        self,
        databases: Databases,
        policy: AnomalyPolicy = AnomalyPolicy(),  # noqa: B008  # frozen
        evidence: EvidenceOrder | None = None,
        redact: Sequence[str] = (),
    ) -> None:
        """`redact` has table.column in lower case: of these no anomaly shows a text."""
        self.databases = databases
        self._failures: Failures | None = None
        if evidence is not None and databases.names:
            # Most runs of plain pytest have nothing to keep, and do without it.
            from snapfarm_worker.keeping import Failures

            self._failures = Failures(databases, evidence)
        #: What becomes of anomalies.
        self._policy = policy
        self._redact = tuple(redact)
        #: Everything that was observed in this session.
        self.anomalies: list[Anomaly] = []
        self._of_item: dict[str, list[Anomaly]] = {}
        self._resets: dict[str, list[RingReset]] = {}
        self._written: dict[str, tuple[str, ...]] = {}
        self._read: dict[str, tuple[str, ...]] = {}

    def take(self, nodeid: str) -> tuple[tuple[Anomaly, ...], tuple[RingReset, ...]]:
        """Return, and forget, the anomalies and resets of one item, all its attempts together."""
        return self.take_anomalies(nodeid), tuple(self._resets.pop(nodeid, ()))

    def remember(self) -> None:
        """Write what the running test has executed last; another thread may call this."""
        if self._failures is not None:
            self._failures.remember()

    def take_evidence(self, nodeid: str) -> tuple[DatabaseEvidence, ...]:
        """Return, and forget, what was kept of the failures of one item, all attempts together."""
        return () if self._failures is None else self._failures.take(nodeid)

    def take_anomalies(self, nodeid: str) -> tuple[Anomaly, ...]:
        """Return, and forget, the anomalies of one item."""
        return tuple(self._of_item.pop(nodeid, ()))

    def take_written(self, nodeid: str) -> tuple[str, ...]:
        """Return, and forget, the tables that one item wrote to, in all its attempts."""
        self._read.pop(nodeid, None)
        return self._written.pop(nodeid, ())

    def tables_read(self, nodeid: str) -> tuple[str, ...]:
        """Return the tables that one item read, where that is noted."""
        return self._read.get(nodeid, ())

    # ------------------------------------------------------------ hooks

    def pytest_configure(self, config: pytest.Config) -> None:
        """Make the marker known, and the fixture that is no method."""
        config.addinivalue_line("markers", MARKER)
        config.stash[_databases_key] = self.databases
        config.pluginmanager.register(sys.modules[__name__], "farm-session-fixtures")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        """Begin an attempt at an item."""
        if self._failures is not None:
            self._failures.begin(item.nodeid)
        self.databases.begin_test(item.nodeid, self._policy_of(item))
        return (yield)

    # Inside of all wrappers: whose setup did not begin may fail in teardown, pytest's own included.
    @pytest.hookimpl(specname="pytest_runtest_setup", tryfirst=True)
    def pytest_check_marks(self, item: pytest.Item) -> None:
        """Fail an item whose marker is wrong; bring the databases to the layers that it names."""
        try:
            mark = read_marks(item)
            if mark.database is not None:
                self.databases.get(mark.database)
            if self.databases.stand_on(mark.layers):
                self.databases.begin_test(item.nodeid, mark.reset)
            return
        except (MarkError, RingError) as error:
            told = str(error)
        pytest.fail(f"marker farm of {item.nodeid}: {told}", pytrace=False)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """End an attempt at an item, after the last finalizer that runs now."""
        policy, boundary = self._policy_of(item), _boundary(item, nextitem)
        self.databases.begin_teardown(policy, boundary)
        try:
            result = yield
        except BaseException:
            if self._failures is not None:
                self._failures.keep(item.nodeid)
            self._end(item, policy, boundary)
            raise
        if fatal := self._end(item, policy, boundary):
            pytest.fail(_failure(fatal), pytrace=False)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add what was observed to the reports that people read."""
        report = yield
        if report.failed:
            self.databases.test_failed()
            if self._failures is not None and report.when != "teardown":
                self._failures.keep(item.nodeid)
        if report.when == "teardown":
            found = self._of_item.get(item.nodeid, [])
            report.user_properties += [("anomaly", _property(each)) for each in found]
        else:
            found = self._heeded(item, self.databases.anomalies()) if report.failed else []
        if found:
            lines = [summary_of(found), *map(told, found)]
            report.sections.append((SECTION, "\n".join(lines)))
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[object], request: SubRequest
    ) -> Generator[None, object, object]:
        """Keep what wider fixtures do apart from what the test does: their commits are layers."""
        if fixturedef.scope == "function" or not self.databases.names:
            return (yield)
        fixture = WideFixture(f"{fixturedef.scope} fixture {fixturedef.argname!r}")
        fixture.finish = functools.partial(fixturedef.finish, request)
        # Finalizers run in reverse order: this one when all others have.
        fixturedef.addfinalizer(lambda: self._torn_down(fixture))
        with self.databases.wide_fixture(fixture):
            result = yield
        if fixture.committed:
            fixturedef.addfinalizer(lambda: self.databases.begin_fixture_teardown(fixture))
        return result

    def _policy_of(self, item: pytest.Item) -> ResetPolicy | None:
        """Return the item's own reset policy. A wrong mark has none, and is told elsewhere."""
        if not self.databases.names:
            return None  # most suites have no databases, and many tests
        try:
            return read_marks(item).reset
        except MarkError:
            return None

    def _torn_down(self, fixture: WideFixture) -> None:
        if fixture.committed:
            for note in self.databases.end_fixture_teardown(fixture):
                warn(note)

    def _heeded(self, item: pytest.Item, found: Iterable[Anomaly]) -> list[Anomaly]:
        """Return those of an item's anomalies that are not to be ignored."""
        allowed = allowed_kinds(item)
        heeded = [a for a in found if self._policy.action(a, allowed) is not Action.IGNORE]
        if self._redact and heeded:
            from snapfarm_worker.evidence import blanked

            return [blanked(a, self._redact) for a in heeded]
        return heeded

    def _end(
        self, item: pytest.Item, policy: ResetPolicy | None, boundary: Boundary
    ) -> list[Anomaly]:
        """End an attempt; return the anomalies for which it has to fail."""
        ended = self.databases.end_test(item.nodeid, policy, boundary)
        for note in ended.notes:
            warn(note)
        found = self._heeded(item, ended.anomalies) if ended.anomalies else []
        if found:
            self.anomalies += found
            self._of_item.setdefault(item.nodeid, []).extend(found)
        if ended.written:
            before = self._written.get(item.nodeid, ())
            self._written[item.nodeid] = tuple(dict.fromkeys((*before, *ended.written)))
        if ended.read:
            self._read[item.nodeid] = ended.read
        if ended.resets:
            self._resets.setdefault(item.nodeid, []).extend(
                RingReset(name, outcome.tier, outcome.seconds)
                for name, outcome in ended.resets.items()
            )
        return [each for each in found if self._policy.action(each) is Action.FAIL]

    # ------------------------------------------------------------ fixtures

    @pytest.fixture
    def farm_ring(self, request: pytest.FixtureRequest) -> FarmRing:
        """The ring of the test's database."""
        return FarmRing(self._ring(request))

    @pytest.fixture
    def farm_uri(self, request: pytest.FixtureRequest) -> str:
        """The URI of the test's database."""
        return self._ring(request).uri

    @pytest.fixture
    def farm_db(self, request: pytest.FixtureRequest) -> Iterator[sqlite3.Connection]:
        """A connection to the test's database; rolled back and closed after the test."""
        conn = self.databases.open_fixture(self._ring(request))
        yield conn
        self.databases.close_fixture(conn)

    @pytest.fixture
    def farm_threads(self, request: pytest.FixtureRequest) -> ThreadRunner:
        """Runs a function on threads at once, each with its own connection to the database."""
        return ThreadRunner(self._ring(request), _marks_of(request).threads)

    @pytest.fixture
    def farm_sqlalchemy_url(self, request: pytest.FixtureRequest) -> str:
        """The URL of the test's database for SQLAlchemy; it names a pool that suits a ring."""
        return sqlalchemy_url(self._ring(request).uri)

    @pytest.fixture
    def farm_engine(self, request: pytest.FixtureRequest) -> Iterator[sa.Engine]:
        """A SQLAlchemy engine on the test's database; disposed of after the test."""
        engine = _made(request, sync_engine, self._ring(request))
        yield engine
        engine.dispose()

    @pytest.fixture
    def farm_session(self, farm_engine: sa.Engine) -> Iterator[sa.orm.Session]:
        """A SQLAlchemy session on the test's database; rolled back and closed after the test."""
        from sqlalchemy.orm import Session

        session = Session(farm_engine)
        yield session
        session.close()

    @pytest.fixture
    def farm_async_engine(self, request: pytest.FixtureRequest) -> Iterator[AsyncEngine]:
        """An asynchronous SQLAlchemy engine on the test's database, through aiosqlite."""
        ring = self._ring(request)
        engine = _made(request, async_engine, ring)
        yield engine
        if ring.kind is RingKind.PRIVATE:
            # The one connection that its pool holds has a thread, which is told through a loop.
            import asyncio

            asyncio.run(engine.dispose())

    def _ring(self, request: pytest.FixtureRequest) -> Ring:
        try:
            return self.databases.get(_marks_of(request).database)
        except RingError as error:
            pytest.fail(f"fixture {request.fixturename}: {error}", pytrace=False)


def _failure(anomalies: Sequence[Anomaly]) -> str:
    """Return the text with which a test fails for its anomalies; a section has the evidence."""
    return "\n".join([summary_of(anomalies), *(f"{a.kind}: {a.message}" for a in anomalies)])


def _property(anomaly: Anomaly) -> str:
    return f"{anomaly.severity} {anomaly.kind}: {anomaly.message}"


def told(anomaly: Anomaly) -> str:
    """Return an anomaly as text for people."""
    times = f" ({anomaly.count} times)" if anomaly.count > 1 else ""
    lines = [f"{anomaly.severity}: {anomaly.kind} in database {anomaly.database!r}{times}"]
    lines.append(f"  {anomaly.message}")
    if anomaly.sql:
        lines.append(f"  sql: {anomaly.sql}")
    lines += [f"  at {frame}" for frame in anomaly.stack]
    lines += [f"  {line}" for line in anomaly.evidence]
    lines.append(f"  {anomaly.remedy}")
    return "\n".join(lines)


def _policy_of(item: pytest.Item) -> ResetPolicy | None:
    try:
        return read_marks(item).reset
    except MarkError:
        return None


def _marks_of(request: pytest.FixtureRequest) -> FarmMark:
    node = request.node
    return read_marks(node) if isinstance(node, pytest.Item) else FarmMark()


def _made(request: pytest.FixtureRequest, make: Callable[[Ring], _T], ring: Ring) -> _T:
    try:
        return make(ring)
    except RingError as error:
        pytest.fail(f"fixture {request.fixturename}: {error}", pytrace=False)


def _boundary(item: pytest.Item, nextitem: pytest.Item | None) -> Boundary:
    if nextitem is None:
        return "session"
    same = item.nodeid.partition("::")[0] == nextitem.nodeid.partition("::")[0]
    return "test" if same else "module"
