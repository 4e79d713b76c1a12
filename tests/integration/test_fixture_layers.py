"""Fixtures of wider scope that commit: their rows are there for every test under them, and go."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from snapfarm_worker.anomaly import AnomalyKind
from snapfarm_worker.databases import Databases
from snapfarm_worker.fixtures import DatabasePlugin
from snapfarm_worker.ring import ResetPolicy, Ring, RingKind
from support.golden import golden

HEAD = """
import contextlib, sqlite3, threading, warnings
import pytest

def connect(databases, name=None):
    return contextlib.closing(databases.get(name).connect())

def add(databases, text, name=None):
    with connect(databases, name) as conn, conn:
        conn.execute("INSERT INTO empty VALUES (?)", (text,))

def remove(databases, text):
    with connect(databases) as conn, conn:
        conn.execute("DELETE FROM empty WHERE x = ?", (text,))

def rows(databases, name=None):
    with connect(databases, name) as conn:
        return "".join(x for (x,) in conn.execute("SELECT x FROM empty ORDER BY rowid"))
"""


class Run:
    """A pytest run of some files, in this process."""

    def __init__(self, folder: Path, kind: RingKind, policy: ResetPolicy) -> None:
        self.folder = folder
        self.databases = Databases(policy=policy, sensors=True)
        for name in ("default", "other"):
            self.databases.add(Ring.restore(golden(name), kind=kind))
        self.plugin = DatabasePlugin(self.databases)
        self.failures: dict[str, str] = {}
        self.passed = 0
        self.warnings: list[str] = []
        #: The tier of the reset of database "default" after each test.
        self.tiers: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what failed."""
        if report.failed:
            name = report.nodeid.rpartition("::")[2]
            self.failures[f"{name} {report.when}"] = report.longreprtext
        self.passed += report.when == "call" and report.passed
        if report.when == "teardown":
            _, resets = self.plugin.take(report.nodeid)
            self.tiers += [reset.tier for reset in resets if reset.database == "default"]

    def pytest_warning_recorded(self, warning_message: object) -> None:
        """Keep warnings."""
        self.warnings.append(str(getattr(warning_message, "message", "")))

    def __call__(self, *options: str, **files: str) -> Run:
        for name, source in files.items():
            (self.folder / f"{name}.py").write_text(HEAD + textwrap.dedent(source))
        (self.folder / "pytest.ini").write_text("[pytest]\n")
        arguments = [
            str(self.folder), "-q", "-p", "no:cacheprovider", "-p", "no:snapfarm", "-p",
            "no:randomly", "-c", str(self.folder / "pytest.ini"), "--import-mode=importlib",
            "-W", "default", *options,
        ]  # fmt: skip
        try:
            pytest.main(arguments, plugins=[self.plugin, self])
        finally:
            self.databases.close()
            for name, module in list(sys.modules.items()):
                if str(getattr(module, "__file__", "")).startswith(str(self.folder)):
                    del sys.modules[name]
        return self


@pytest.fixture
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """A run with shared-cache rings, reset after each test; indirect parameters change that."""
    kind, policy = getattr(request, "param", (RingKind.SHARED_CACHE, ResetPolicy.TEST))
    return Run(tmp_path, kind, policy)


EVERY_KIND = pytest.mark.parametrize(
    "run", [(kind, ResetPolicy.TEST) for kind in RingKind], indirect=True, ids=list(RingKind)
)

NESTED = {
    "conftest": """
    @pytest.fixture(scope="session")
    def s(farm_databases):
        add(farm_databases, "s")
        yield
        remove(farm_databases, "s")

    @pytest.fixture(scope="package")
    def p(s, farm_databases):
        add(farm_databases, "p")

    @pytest.fixture(scope="module")
    def m(p, farm_databases):
        assert rows(farm_databases) == "sp"
        add(farm_databases, "m")

    @pytest.fixture(scope="class")
    def c(m, farm_databases):
        assert rows(farm_databases) == "spm"
        add(farm_databases, "c")

    @pytest.fixture
    def f(farm_databases):
        add(farm_databases, "f")
        # A commit on a private connection is seen by nobody else, unless it becomes a layer.
        return "" if farm_databases.get().kind == "private" else "f"
    """,
    "test_1": """
    def test_bare(farm_databases):
        assert rows(farm_databases) == ""
        add(farm_databases, "t")

    def test_bare_again(farm_databases):
        assert rows(farm_databases) == ""

    @pytest.mark.parametrize("turn", range(2))
    def test_session(farm_databases, s, turn):
        assert rows(farm_databases) == "s"
        add(farm_databases, "t")

    @pytest.mark.parametrize("turn", range(2))
    def test_module(farm_databases, m, f, farm_ring, turn):
        assert rows(farm_databases) == "spm" + f
        remove(farm_databases, "s")
        farm_ring.reset()
        assert rows(farm_databases) == "spm"
        assert farm_ring.baseline.rows["empty"] == 3
        assert "empty" not in farm_ring.manifest.rows

    class TestC:
        def test_class(self, farm_databases, c, f):
            assert rows(farm_databases) == "spmc" + f
            remove(farm_databases, "c")

        def test_class_again(self, farm_databases):
            assert rows(farm_databases) == "spmc"

    class TestD:
        def test_other_class(self, farm_databases, c):
            assert rows(farm_databases) == "spmc"
            assert rows(farm_databases, "other") == ""

    def test_class_is_over(farm_databases):
        assert rows(farm_databases) == "spm"
    """,
    "test_2": """
    def test_module_is_over(farm_databases):
        assert rows(farm_databases) == "sp"

    def test_module(farm_databases, m):
        assert rows(farm_databases) == "spm"
    """,
}


@EVERY_KIND
def test_layers_nest_and_go(run: Run) -> None:
    run("-W", "error", **NESTED)
    assert run.failures == {}
    assert run.passed == 12


def test_a_layer_costs_a_test_nothing(run: Run) -> None:
    run(
        test_1="""
    @pytest.fixture(scope="module", autouse=True)
    def m(farm_databases):
        add(farm_databases, "m")

    @pytest.fixture(scope="class")
    def c(farm_databases):
        return rows(farm_databases)

    class TestC:
        @pytest.mark.parametrize("turn", range(3))
        def test_reads(self, c, turn, farm_databases):
            assert rows(farm_databases) == c == "m"
            assert len(list(farm_databases.get().layers)) == 2

        def test_writes(self, farm_databases):
            add(farm_databases, "t")

    def test_last(farm_databases):
        assert rows(farm_databases) == "m"
    """
    )
    assert run.failures == {}
    # The last one goes back to the golden state, since the module is over.
    assert run.tiers == ["clean", "clean", "clean", "in-place", "in-place"]


@EVERY_KIND
def test_parameters_and_fixtures_that_fail(run: Run) -> None:
    run(
        conftest="""
    @pytest.fixture(scope="session", params="xy")
    def x(request, farm_databases):
        assert rows(farm_databases) == ""
        add(farm_databases, request.param)
        yield request.param
        # Whether it cleans up or not: its layer goes.
        if request.param == "y":
            remove(farm_databases, "y")
    """,
        test_1="""
    def test_one(x, farm_databases):
        assert rows(farm_databases) == x
        add(farm_databases, "t")

    def test_two(x, farm_databases):
        assert rows(farm_databases) == x

    @pytest.fixture(scope="module")
    def broken(farm_databases):
        add(farm_databases, "b")
        raise ValueError("broken")

    def test_broken(broken):
        pass

    def test_after(farm_databases):
        assert rows(farm_databases) == "y"

    def test_broken_again(broken):
        pass

    def test_last(farm_databases):
        assert rows(farm_databases) == "y"
    """,
    )
    assert sorted(run.failures) == ["test_broken setup", "test_broken_again setup"]
    assert run.passed == 6


def test_a_fixture_that_comes_too_late_has_no_layer_and_that_is_told(run: Run) -> None:
    run(
        test_1="""
    @pytest.fixture(scope="module")
    def late(farm_databases):
        add(farm_databases, "m")

    @pytest.fixture(scope="class")
    def inner(request, farm_databases):
        add(farm_databases, "c")
        request.getfixturevalue("late")

    class TestC:
        def test_covered(self, inner, farm_databases):
            assert rows(farm_databases) == "cm"

        def test_covered_again(self, inner, farm_databases):
            assert rows(farm_databases) == "cm"

    def test_told_now(farm_databases):
        assert rows(farm_databases) == ""
    """,
        test_2="""
    @pytest.fixture(scope="module")
    def late(farm_databases):
        add(farm_databases, "m")

    def test_late(request, farm_databases):
        add(farm_databases, "t")
        request.getfixturevalue("late")
        assert rows(farm_databases) == "tm"

    def test_gone(late, farm_databases):
        assert rows(farm_databases) == ""
    """,
        test_3="""
    @pytest.fixture(scope="module")
    def late(farm_databases):
        add(farm_databases, "m")

    def test_the_only_one(request, farm_databases):
        add(farm_databases, "t")
        request.getfixturevalue("late")
    """,
        test_4="""
    @pytest.fixture(scope="module")
    def writing(farm_databases):
        conn = farm_databases.get().connect()
        conn.execute("INSERT INTO empty VALUES ('w')")
        yield conn
        conn.close()

    def test_never_committed(writing):
        assert writing.in_transaction

    def test_still_open(writing):
        assert writing.execute("SELECT x FROM empty").fetchall() == [("w",)]
    """,
    )
    assert run.failures == {}
    told = [text for text in run.warnings if "was taken back by a reset" in text]
    assert len(told) == 2
    assert all("module fixture 'late'" in text for text in told)
    assert all("something else had been committed before" in text for text in told)
    assert [each.kind for each in run.plugin.anomalies] == []


def test_a_fixture_under_another_one_that_lives_on(run: Run) -> None:
    """Its tear-down decides what stays; if that does nothing, its rows do, and that is told."""
    run(
        conftest="""
    @pytest.fixture(scope="session")
    def s(farm_databases):
        add(farm_databases, "s")

    @pytest.fixture(scope="session")
    def s2(farm_databases):
        add(farm_databases, "S")

    @pytest.fixture(scope="module")
    def tidy(farm_databases):
        add(farm_databases, "m")
        yield
        assert rows(farm_databases) == "ms"
        remove(farm_databases, "m")

    @pytest.fixture(scope="module")
    def untidy(farm_databases):
        add(farm_databases, "u")
    """,
        test_1="""
    def test_module(tidy):
        pass

    def test_session(tidy, s, farm_databases):
        assert rows(farm_databases) == "ms"
        add(farm_databases, "t")
    """,
        test_2="""
    def test_module_is_over(farm_databases):
        assert rows(farm_databases) == "s"

    def test_untidy(untidy):
        pass

    def test_session(s2, farm_databases):
        assert rows(farm_databases) == "suS"
    """,
        test_3="""
    def test_leaks(farm_databases):
        assert rows(farm_databases) == "suS"
    """,
    )
    assert run.failures == {}
    told = [text for text in run.warnings if "stays there as long as" in text]
    assert len(told) == 1
    assert "module fixture 'untidy'" in told[0]
    assert "session fixture 's2'" in told[0]


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ((RingKind.SHARED_CACHE, ResetPolicy.MODULE), ["m", "mt", "mt", "c", ""]),
        ((RingKind.SHARED_CACHE, ResetPolicy.SESSION), ["m", "mt", "mt", "mtc", "mtcuc"]),
        ((RingKind.SHARED_CACHE, ResetPolicy.NEVER), ["m", "mt", "mt", "mtc", "mtcuc"]),
    ],
    indirect=["run"],
    ids=["module", "session", "never"],
)
def test_other_policies(run: Run, expected: list[str]) -> None:
    """What a policy keeps is kept, fixtures' rows too; whoever resets goes back to the layer."""
    run(
        conftest="""
    seen = []

    @pytest.fixture(autouse=True)
    def see(farm_databases, request):
        seen.append(rows(farm_databases))
    """,
        test_1="""
    @pytest.fixture(scope="module", autouse=True)
    def m(farm_databases):
        add(farm_databases, "m")

    def test_writes(farm_databases):
        add(farm_databases, "t")

    def test_reads(farm_databases):
        assert rows(farm_databases) == "mt"

    def test_resets(farm_ring, farm_databases, request):
        farm_ring.reset()
        assert rows(farm_databases) == "m"
        add(farm_databases, "t")
    """,
        test_2="""
    class TestC:
        @pytest.fixture(scope="class", autouse=True)
        def c(self, farm_databases):
            add(farm_databases, "c")

        def test_class(self, farm_databases):
            add(farm_databases, "u")
            add(farm_databases, "c")
    """,
        test_3="""
    def test_last(farm_databases, request):
        pass

    def test_all(request):
        plugins = request.config.pluginmanager.get_plugins()
        seen = next(plugin.seen for plugin in plugins if hasattr(plugin, "seen"))
        assert seen[:5] == EXPECTED
    """.replace("EXPECTED", repr(expected)),
    )
    assert run.failures == {}


def test_threads_and_several_databases(run: Run) -> None:
    run(
        test_1="""
    @pytest.fixture(scope="class")
    def both(farm_databases):
        threads = [threading.Thread(target=add, args=(farm_databases, "x", n))
                   for n in ("default", "other")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    class TestC:
        @pytest.mark.parametrize("turn", range(2))
        @pytest.mark.farm(database="other")
        def test_both(self, both, farm_databases, farm_db, turn):
            assert rows(farm_databases) == rows(farm_databases, "other") == "x"
            farm_db.execute("DELETE FROM empty")
            farm_db.commit()

    def test_over(farm_databases):
        assert rows(farm_databases) == rows(farm_databases, "other") == ""

    class TestXunit:
        @classmethod
        def setup_class(cls):
            import os
            with contextlib.closing(sqlite3.connect(os.environ["URI"])) as conn, conn:
                conn.execute("INSERT INTO empty VALUES ('k')")

        @pytest.mark.parametrize("turn", range(2))
        def test_setup_class(self, farm_databases, turn):
            assert rows(farm_databases) == "k"
            add(farm_databases, "t")
    """,
        conftest="""
    @pytest.fixture(scope="session", autouse=True)
    def uri(farm_databases):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("URI", farm_databases.get().uri)
            yield
    """,
    )
    assert run.failures == {}
    assert AnomalyKind.LEAKED_TRANSACTION not in [each.kind for each in run.plugin.anomalies]
