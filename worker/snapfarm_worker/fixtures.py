"""The pytest plugin that gives tests their databases: fixtures, the marker `farm`, resets.

The same plugin runs in a farm's workers and under plain pytest. It surrounds the setup and the
teardown of each attempt at an item, outside of all other plugins, so that it sees the database
after the last finalizer.
"""

from __future__ import annotations

import functools
import sqlite3
import sys
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, TypeVar

import msgspec
import pytest

from snapfarm_worker.anomaly import Anomaly
from snapfarm_worker.databases import Boundary, Databases
from snapfarm_worker.engines import async_engine, sqlalchemy_url, sync_engine
from snapfarm_worker.errors import RingError
from snapfarm_worker.ring import ResetOutcome, ResetPolicy, Ring, RingKind
from snapfarm_worker.snapshot import Manifest
from snapfarm_worker.threads import DEFAULT_THREADS, DEFAULT_TIMEOUT, run_threads
from snapfarm_worker.warning import warn
from snapfarm_worker.widefixtures import WideFixture
from snapfarm_worker.wire import RingReset

if TYPE_CHECKING:
    import sqlalchemy as sa
    import sqlalchemy.orm
    from _pytest.fixtures import SubRequest
    from sqlalchemy.ext.asyncio import AsyncEngine

_T = TypeVar("_T")

_MARKER = (
    "farm(database=None, reset=None, threads=4, layer=None): choose the golden database of the "
    "farm's fixtures, when it is reset ('test', 'module', 'session', 'never'), the threads of "
    "farm_threads, and a declared layer (or several, of several databases) to begin with"
)
SECTION = "farm anomalies"

_databases_key: pytest.StashKey[Databases] = pytest.StashKey()


# No method: pytest wants fixtures of wider scope to be none.
@pytest.fixture(scope="session")
def farm_databases(pytestconfig: pytest.Config) -> Databases:
    """All rings; `farm_databases.get(name)` returns one. For fixtures of wider scope.

    What such a fixture commits is there for every test that it is there for.
    """
    return pytestconfig.stash[_databases_key]


class FarmMark(msgspec.Struct, frozen=True):
    """What the `farm` markers of one item say; the closest one wins, key by key."""

    database: str | None = None
    reset: ResetPolicy | None = None
    threads: int = DEFAULT_THREADS
    layers: tuple[str, ...] = ()


class MarkError(ValueError):
    """A `farm` marker can't be understood; the message tells which part of it."""


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

    def __init__(self, databases: Databases) -> None:
        self.databases = databases
        #: Everything that was observed in this session.
        self.anomalies: list[Anomaly] = []
        self._of_item: dict[str, list[Anomaly]] = {}
        self._resets: dict[str, list[RingReset]] = {}

    def take(self, nodeid: str) -> tuple[tuple[Anomaly, ...], tuple[RingReset, ...]]:
        """Return, and forget, the anomalies and resets of one item, all its attempts together."""
        return self.take_anomalies(nodeid), tuple(self._resets.pop(nodeid, ()))

    def take_anomalies(self, nodeid: str) -> tuple[Anomaly, ...]:
        """Return, and forget, the anomalies of one item."""
        return tuple(self._of_item.pop(nodeid, ()))

    # ------------------------------------------------------------ hooks

    def pytest_configure(self, config: pytest.Config) -> None:
        """Make the marker known, and the fixture that is no method."""
        config.addinivalue_line("markers", _MARKER)
        config.stash[_databases_key] = self.databases
        config.pluginmanager.register(sys.modules[__name__], "farm-session-fixtures")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        """Begin an attempt at an item."""
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
            return (yield)
        finally:
            self._end(item, policy, boundary)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add what was observed to the reports that people read."""
        report = yield
        if report.failed:
            self.databases.test_failed()
        if report.when == "teardown":
            found = tuple(self._of_item.get(item.nodeid, ()))
        else:
            found = self.databases.anomalies() if report.failed else ()
        if found:
            report.sections.append((SECTION, "\n".join(told(each) for each in found)))
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

    def _end(self, item: pytest.Item, policy: ResetPolicy | None, boundary: Boundary) -> None:
        ended = self.databases.end_test(item.nodeid, policy, boundary)
        for note in ended.notes:
            warn(note)
        self.anomalies.extend(ended.anomalies)
        if ended.anomalies:
            self._of_item.setdefault(item.nodeid, []).extend(ended.anomalies)
        if ended.resets:
            self._resets.setdefault(item.nodeid, []).extend(
                RingReset(name, outcome.tier, outcome.seconds)
                for name, outcome in ended.resets.items()
            )

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


def read_marks(item: pytest.Item) -> FarmMark:
    """Return what the `farm` markers of an item say together. Raises MarkError."""
    values: dict[str, object] = {}
    for mark in item.iter_markers("farm"):
        if mark.args:
            raise MarkError(f"{mark.args!r} has no keyword: write farm(database=…, reset=…)")
        for key, value in mark.kwargs.items():
            if key not in ("database", "reset", "threads", "layer"):
                raise MarkError(
                    f"unknown keyword {key!r}: expected database, reset, threads or layer"
                )
            values.setdefault(key, value)
    database, reset, threads = values.get("database"), values.get("reset"), values.get("threads")
    if database is not None and not isinstance(database, str):
        raise MarkError(f"database is {database!r}: expected the name of a golden database")
    if threads is None:
        threads = DEFAULT_THREADS
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise MarkError(f"threads is {threads!r}: expected a number from 1 on")
    try:
        policy = None if reset is None else ResetPolicy(str(reset))
    except ValueError:
        known = ", ".join(repr(str(each)) for each in ResetPolicy)
        raise MarkError(f"reset is {reset!r}: expected one of {known}") from None
    return FarmMark(database, policy, threads, _layers(values.get("layer")))


def layer_key(item: pytest.Item) -> str:
    """Return the names of the declared layers that an item asks for, joined; "" for a wrong mark.

    Items of one key begin with the same databases.
    """
    if next(item.iter_markers("farm"), None) is None:
        return ""
    try:
        return ",".join(sorted(read_marks(item).layers))
    except MarkError:
        return ""


def _layers(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    names = (value,) if isinstance(value, str) else value
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
        return tuple(dict.fromkeys(names))
    raise MarkError(f"layer is {value!r}: expected the name of a declared layer, or a list of such")


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
