"""The fixtures and the marker, in pytest runs of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from snapfarm_worker.anomaly import AnomalyKind
from support.fixture_run import FixtureRun


@pytest.fixture
def run(tmp_path: Path) -> Iterator[FixtureRun]:
    with FixtureRun(tmp_path) as run:
        yield run


PRISTINE = """
    def rows(uri, table="orders"):
        with contextlib.closing(sqlite3.connect(uri)) as conn:
            return conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0]

    def delete(uri):
        with contextlib.closing(sqlite3.connect(uri)) as conn, conn:
            conn.execute("DELETE FROM orders")
"""


def test_every_test_begins_with_golden_rows(run: FixtureRun) -> None:
    run(
        PRISTINE
        + """
    @pytest.mark.parametrize("turn", range(3))
    def test_commits(farm_uri, turn):
        assert rows(farm_uri) == 200
        delete(farm_uri)
        assert rows(farm_uri) == 0

    def test_the_fixtures(farm_db, farm_ring, farm_uri, farm_threads, farm_databases):
        assert farm_db.execute("SELECT count(*) FROM orders").fetchone() == (200,)
        assert farm_ring.uri == farm_uri
        assert farm_ring.database == "default"
        assert farm_ring.kind == "shared-cache"
        assert farm_ring.manifest.rows["orders"] == 200
        assert farm_databases.get().uri == farm_uri
        assert farm_threads(lambda conn, index: index) == [0, 1, 2, 3]
        with contextlib.closing(farm_ring.connect(isolation_level=None)) as conn:
            conn.execute("DELETE FROM orders")
        assert farm_ring.reset().tier == "in-place"
        assert rows(farm_uri) == 200

    def test_uncommitted(farm_db):
        farm_db.execute("DELETE FROM orders")

    def test_after(farm_db):
        assert farm_db.execute("SELECT count(*) FROM orders").fetchone() == (200,)
    """
    )
    assert run.failed == []
    assert run.found == []
    _, resets = run.plugin.take(next(iter(run.plugin._resets)))
    assert [each.tier for each in resets] == ["in-place"]


def test_threads_and_their_failures(run: FixtureRun) -> None:
    run(
        PRISTINE
        + """
    @pytest.mark.farm(threads=8)
    def test_eight(farm_threads, farm_uri):
        def insert(conn):
            with conn:
                conn.execute("INSERT INTO empty VALUES (1)")
            return threading.get_ident()
        assert len(set(farm_threads(insert))) == 8
        assert len(farm_threads(insert, threads=3)) == 3
        assert rows(farm_uri, "empty") == 11

    def test_all_errors_at_once(farm_threads):
        def fail(conn, index):
            raise LookupError(f"thread {index}")
        with pytest.raises(ExceptionGroup) as caught:
            farm_threads(fail, threads=2)
        assert len(caught.value.exceptions) == 2

    def test_fails(farm_threads):
        farm_threads(lambda conn: conn.execute("SELECT * FROM orders") and 1 / 0)

    def test_after(farm_uri):
        assert rows(farm_uri) == 200
    """
    )
    assert run.failed == ["test_fails"]
    assert run.found == []


def test_policies_by_marker(run: FixtureRun) -> None:
    run(
        PRISTINE
        + """
    pytestmark = pytest.mark.farm(reset="never")

    def test_deletes(farm_uri):
        delete(farm_uri)

    def test_sees_it(farm_uri):
        assert rows(farm_uri) == 0

    @pytest.mark.farm(reset="test")
    def test_is_reset_after(farm_uri):
        assert rows(farm_uri) == 0

    def test_is_pristine(farm_uri):
        assert rows(farm_uri) == 200
    """
    )
    assert run.failed == []


def test_module_and_session_boundaries(run: FixtureRun) -> None:
    (run.folder / "test_a.py").write_text(
        "import pytest\n"
        "@pytest.mark.farm(reset='module')\n"
        "@pytest.mark.parametrize('n', [0, 1])\n"
        "def test_module(farm_db, n):\n"
        "    assert farm_db.execute('SELECT count(*) FROM empty').fetchone() == (n,)\n"
        "    with farm_db: farm_db.execute('INSERT INTO empty VALUES (1)')\n",
        encoding="utf-8",
    )
    run(
        """
    @pytest.mark.farm(reset="session")
    @pytest.mark.parametrize("n", [0, 1])
    def test_session(farm_db, n):
        assert farm_db.execute("SELECT count(*) FROM empty").fetchone() == (n,)
        with farm_db:
            farm_db.execute("INSERT INTO empty VALUES (1)")
    """
    )
    assert run.failed == []
    assert list(run.plugin._resets) == ["test_a.py::test_module[1]", "test_it.py::test_session[1]"]


def test_a_marker_chooses_the_database(run: FixtureRun) -> None:
    run(
        """
    pytestmark = pytest.mark.farm(database="second")

    @pytest.mark.farm(reset="test")
    def test_second(farm_ring, farm_db, farm_uri):
        assert farm_ring.database == "second"
        assert farm_ring.uri == farm_uri

    @pytest.mark.farm(database="default")
    def test_default(farm_ring):
        assert farm_ring.database == "default"
    """,
        databases=("default", "second"),
    )
    assert run.failed == []


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        (
            "databse='x'",
            "unknown keyword 'databse': expected database, reset, threads, layer or allow",
        ),
        ("layer=1", "layer is 1: expected the name of a declared layer, or a list of such"),
        ("layer='x'", "there is no layer 'x': none is declared in [tool.farm.layers], or by"),
        ("database='x'", "there is no database 'x': choose one of 'default'"),
        ("database=1", "database is 1: expected the name of a golden database"),
        ("reset='daily'", "reset is 'daily': expected one of 'test', 'module'"),
        ("threads=0", "threads is 0: expected a number from 1 on"),
        ("'x'", "('x',) has no keyword"),
    ],
)
def test_a_wrong_marker_is_that_tests_error(run: FixtureRun, marker: str, message: str) -> None:
    run(
        f"""
    @pytest.mark.farm({marker})
    def test_wrong():
        raise AssertionError("must not run")

    def test_right(farm_db):
        pass
    """
    )
    assert run.outcomes == {"test_wrong": "error", "test_right": "passed"}
    assert message in run.text("test_wrong")
    assert [r.when for r in run.reports if r.failed] == ["setup"]


def test_without_a_golden_database_fixtures_tell_how_to_declare_one(run: FixtureRun) -> None:
    run(
        """
    @pytest.mark.parametrize("name", ["farm_db", "farm_ring", "farm_uri", "farm_threads"])
    def test_uses(request, name):
        request.getfixturevalue(name)

    def test_uses_none():
        pass
    """,
        databases=(),
    )
    assert run.outcomes.pop("test_uses_none") == "passed"
    assert len(run.failed) == 4
    for name in run.failed:
        assert "[tool.farm.golden.default]" in run.text(name)


def test_leaks_are_named_and_the_next_test_is_pristine(run: FixtureRun) -> None:
    check = (
        "    def test_after_{}(farm_uri):\n"
        "        assert rows(farm_uri) == 200\n"
        "        delete(farm_uri)\n"
    )
    source = PRISTINE + "\n    kept = []\n"
    leaks = {
        "transaction": "kept.append(sqlite3.connect(farm_uri)); "
        "kept[-1].execute('DELETE FROM log')",
        "cursor": "kept.append(sqlite3.connect(farm_uri).execute('SELECT * FROM orders'))",
        "zombie": "conn = sqlite3.connect(farm_uri); "
        "kept.append(conn.execute('SELECT * FROM orders')); conn.close()",
        "connection": "sqlite3.connect(farm_uri).execute('SELECT * FROM orders').fetchall()",
        "farm_db": "farm_db.execute('BEGIN')",
        "farm_cursor": "kept.append(farm_db.execute('SELECT * FROM orders'))",
    }
    for name, code in leaks.items():
        source += f"    def test_{name}(farm_uri, farm_db):\n        {code}\n"
        source += check.format(name)
    run(source)
    assert run.failed == []
    assert run.found == [
        ("test_transaction", AnomalyKind.LEAKED_TRANSACTION),
        ("test_cursor", AnomalyKind.LEAKED_CURSOR),
        ("test_zombie", AnomalyKind.LEAKED_CURSOR),
        ("test_connection", AnomalyKind.LEAKED_CONNECTION),
        ("test_farm_db", AnomalyKind.LEAKED_TRANSACTION),
        ("test_farm_cursor", AnomalyKind.LEAKED_CURSOR),
    ]


def test_failing_tests_leave_no_false_alarm(run: FixtureRun) -> None:
    """A failure keeps the frames of its test alive, with its cursors and connections."""
    run(
        PRISTINE
        + """
    def test_fails_while_reading(farm_db, farm_uri):
        other = sqlite3.connect(farm_uri)
        with contextlib.closing(other):
            for row in other.execute("SELECT * FROM orders"):
                for one in farm_db.execute("SELECT * FROM orders"):
                    assert one is None

    def test_fails_while_writing(farm_db):
        farm_db.execute("DELETE FROM orders")
        raise LookupError

    def test_fails_after_commit(farm_uri, farm_db):
        cursor = farm_db.execute("SELECT * FROM customers")
        delete(farm_uri)
        raise LookupError

    def test_after(farm_uri):
        assert rows(farm_uri) == 200
    """
    )
    assert run.failed == [
        "test_fails_while_reading",
        "test_fails_while_writing",
        "test_fails_after_commit",
    ]
    assert run.found == []


def test_wider_fixtures_keep_their_transactions(run: FixtureRun) -> None:
    run(
        PRISTINE
        + """
    @pytest.fixture(scope="module")
    def outer(farm_databases):
        conn = farm_databases.get().connect()
        conn.execute("INSERT INTO empty VALUES (1)")
        yield conn
        assert conn.in_transaction
        conn.close()

    @pytest.mark.parametrize("n", range(3))
    def test_in_a_savepoint(outer, n):
        outer.execute("SAVEPOINT s")
        outer.execute("INSERT INTO empty VALUES (2)")
        outer.execute("ROLLBACK TO s")
        outer.execute("RELEASE s")
        assert outer.execute("SELECT count(*) FROM empty").fetchone() == (1,)

    class TestUnittestStyle:
        @classmethod
        def setup_class(cls):
            cls.uri = None

        def test_reads(self, outer, farm_uri):
            assert rows(farm_uri) == 200
    """
    )
    assert run.failed == []
    assert run.found == []


def test_reports_show_what_was_observed(run: FixtureRun) -> None:
    run(
        """
    def test_leaves(farm_ring):
        with contextlib.closing(farm_ring.connect()) as conn:
            with contextlib.closing(sqlite3.connect(":memory:")) as other:
                other.execute("CREATE TABLE t(x)")
                conn.deserialize(other.serialize())
            conn.execute("SELECT * FROM orders")
    """
    )
    assert run.outcomes == {"test_leaves": "failed"}
    assert [kind for _, kind in run.found] == [AnomalyKind.LEFT_RING, AnomalyKind.MISSING_TABLE]
    shown = run.text("test_leaves")
    assert "farm anomalies" in shown
    assert "error: left-ring in database 'default'" in shown
    assert "sql: SELECT * FROM orders" in shown
    anomalies, resets = run.plugin.take("test_it.py::test_leaves")
    assert len(anomalies) == 2
    assert len(resets) == 1
    assert run.plugin.take("test_it.py::test_leaves") == ((), ())


def test_sqlalchemy_sees_golden_rows_in_each_test(run: FixtureRun) -> None:
    pytest.importorskip("sqlalchemy")
    run(
        """
    import sqlalchemy

    @pytest.fixture(scope="session")
    def engine(farm_databases):
        engine = sqlalchemy.create_engine(
            "sqlite://",
            creator=farm_databases.get().connect,
            poolclass=sqlalchemy.pool.QueuePool,
        )
        yield engine
        engine.dispose()

    @pytest.mark.parametrize("n", range(4))
    def test_commits(engine, n):
        with engine.begin() as connection:
            count = connection.execute(sqlalchemy.text("SELECT count(*) FROM orders"))
            assert count.scalar() == 200
            connection.execute(sqlalchemy.text("DELETE FROM orders"))
    """
    )
    assert run.failed == []
    assert run.found == []


def test_every_attempt_is_a_test_of_its_own(run: FixtureRun) -> None:
    """As plugins that rerun do it, the whole protocol runs again for one item."""
    (run.folder / "conftest.py").write_text(
        "from _pytest.runner import runtestprotocol\n"
        "def pytest_runtest_protocol(item, nextitem):\n"
        "    for _ in range(3):\n"
        "        item._initrequest()\n"
        "        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)\n"
        "        runtestprotocol(item, nextitem=nextitem, log=True)\n"
        "    return True\n",
        encoding="utf-8",
    )
    run(
        PRISTINE
        + """
    def test_deletes(farm_uri):
        assert rows(farm_uri) == 200
        delete(farm_uri)
    """
    )
    assert run.failed == []
    _, resets = run.plugin.take("test_it.py::test_deletes")
    assert [each.tier for each in resets] == ["in-place"] * 3


def test_the_fixtures_of_sqlalchemy(run: FixtureRun) -> None:
    run(
        """
    import asyncio
    import sqlalchemy as sa

    COUNT = sa.text("SELECT count(*) FROM orders")

    @pytest.mark.parametrize("turn", range(2))
    def test_the_engine(farm_engine, farm_db, farm_sqlalchemy_url, turn):
        with farm_engine.begin() as conn:
            assert conn.scalar(COUNT) == 200
            conn.execute(sa.text("DELETE FROM orders"))
        assert farm_db.execute("SELECT count(*) FROM orders").fetchone() == (0,)
        engine = sa.create_engine(farm_sqlalchemy_url)
        assert isinstance(engine.pool, type(farm_engine.pool))
        with engine.connect() as conn:
            assert conn.scalar(COUNT) == 0

    def test_the_session(farm_session):
        assert farm_session.scalar(COUNT) == 200
        farm_session.execute(sa.text("DELETE FROM orders"))
        farm_session.commit()
        farm_session.execute(sa.text("INSERT INTO empty VALUES (1)"))

    @pytest.mark.parametrize("turn", range(2))
    def test_the_asynchronous_engine(farm_async_engine, turn):
        async def delete():
            async with farm_async_engine.begin() as conn:
                assert await conn.scalar(COUNT) == 200
                await conn.execute(sa.text("DELETE FROM orders"))
            async with farm_async_engine.connect() as conn:
                assert await conn.scalar(COUNT) == 0
        asyncio.run(delete())

    def test_without_sqlalchemy(monkeypatch, request):
        import sys
        monkeypatch.setitem(sys.modules, "sqlalchemy", None)
        with pytest.raises(pytest.fail.Exception) as caught:
            request.getfixturevalue("farm_session")
        assert "fixture farm_engine: this needs sqlalchemy, which" in str(caught.value)
    """
    )
    assert run.failed == []
    assert run.found == []
