"""pytest stays pytest: a suite with every kind of outcome, run with and without a farm.

Exit code, counts, short summary, and every test case of the JUnit file must be equal, whatever
the options.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from support.pytest_runs import Runs, trace

MAIN = r"""
import logging, os, sys, unittest, warnings
from pathlib import Path
import pytest

class OwnWarning(DeprecationWarning): pass

@pytest.mark.slow
def test_pass(session_number): pass

def test_fail():
    print("to stdout")
    print("to stderr", file=sys.stderr)
    logging.getLogger().warning("to the log")
    assert [1, 2, 3] == [1, 2, 4]

@pytest.mark.skip(reason="not today")
def test_skip(): pass
def test_skip_inside(): pytest.skip("inside")
@pytest.mark.xfail(reason="known")
def test_xfail(): assert 0
@pytest.mark.xfail(reason="surprise")
def test_xpass(): pass
@pytest.mark.xfail(strict=True, reason="strict")
def test_xpass_strict(): pass

@pytest.fixture
def bad_setup(): raise ValueError("bad setup")
@pytest.fixture
def bad_teardown():
    yield
    raise ValueError("bad teardown")

def test_error_in_setup(bad_setup): pass
def test_error_in_teardown(bad_teardown): pass
def test_fail_and_error(bad_teardown): assert 0
def test_warns(): warnings.warn("one")
def test_warns_again(): warnings.warn("one")
def test_warns_of_its_own(): warnings.warn(OwnWarning("two"))

NAMES = ["a b", "ü", "a::b", "[x]", "x" * 300, "/", "\\", "\n", "\x00", "", "a@b"]

@pytest.mark.parametrize("name", NAMES)
def test_name(name, record_property): record_property("name", name)

@pytest.mark.parametrize("values", [(1, "a"), {2}, [None]], ids=["tuple", "set", "list"])
def test_properties(values, record_property, record_testsuite_property):
    record_property("values", values)
    record_property("path", Path("a/b"))
    record_property("type", object)
    record_testsuite_property("suite", "x")

def test_attribute(record_xml_attribute): record_xml_attribute("classname", "renamed")

def test_capsys(capsys):
    print("x")
    assert capsys.readouterr().out == "x\n"
def test_capfd(capfd):
    os.write(1, b"y\n")
    assert capfd.readouterr().out == "y\n"
def test_caplog(caplog):
    logging.getLogger("a").error("boo")
    assert "boo" in caplog.text
def test_stdin():
    with pytest.raises(OSError, match="reading from stdin"):
        input()

def test_subtests(subtests):
    for i in range(3):
        with subtests.test(msg="m", i=i):
            assert i != 1

class TestUnit(unittest.TestCase):
    @classmethod
    def setUpClass(cls): cls.value = 1
    def test_pass(self): self.assertEqual(self.value, 1)
    def test_fail(self): self.assertEqual(self.value, 2)
    @unittest.skip("unittest skips")
    def test_skip(self): pass
    @unittest.expectedFailure
    def test_expected(self): self.fail("x")
    @unittest.expectedFailure
    def test_unexpected(self): pass
"""

FILES = {
    "pytest.ini": "[pytest]\nmarkers =\n    slow: takes long\n",
    "conftest.py": """
import pytest
@pytest.fixture(scope="session")
def session_number(): return 1
""",
    "test_main.py": MAIN,
    "sub/conftest.py": "import pytest\n@pytest.fixture\ndef seven(): return 7\n",
    "sub/test_sub.py": "def test_sub(seven): assert seven == 7\n"
    "def test_sub_fails(seven, session_number): assert seven == 8\n",
    "test_skipped_module.py": 'import pytest\npytest.skip("all", allow_module_level=True)\n',
    "test_missing.py": 'import pytest\npytest.importorskip("no_such_module_here")\n',
}


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "suite", FILES)


@pytest.mark.parametrize(
    "options",
    [
        "-rA --tb=short -o xfail_strict=true",
        "-q -W error -o junit_family=xunit1 --durations=2",
        "-v -ra -W error::DeprecationWarning --deselect test_main.py::test_fail --ignore sub",
        "-rA --runxfail --import-mode=importlib --disable-warnings",
        "-k name -vv -p no:warnings -m slow -p no:logging",
        "test_main.py::TestUnit sub test_main.py::test_fail -q -s",
        "sub/test_sub.py sub/test_sub.py --keep-duplicates -rA --capture=sys",
        "-k test_attribute -o junit_family=xunit1 -o junit_logging=all -q",
    ],
)
def test_outcomes_are_those_of_plain_pytest(options: str, runs: Runs) -> None:
    plain, farm = runs.compare(*options.split())
    assert farm.shown == plain.shown
    assert plain.counts
    # What a worker printed is shown as its own; pytest itself has nothing to say there.
    assert "snapfarm" not in farm.stderr
    assert "Warning" not in farm.stderr


def test_all_ways_agree_and_sections_reach_the_report(runs: Runs) -> None:
    plain, beside, command = runs.compare(ways=("plain", "farm beside xdist", "command"))
    assert beside.shown == command.shown == plain.shown
    for section in ("stdout call", "stderr call", "log call"):
        assert f"- Captured {section} -" in command.stdout
    assert "to stderr" in command.stdout
    assert "DeprecationWarning: two" not in command.stdout
    assert "OwnWarning: two" in command.stdout
    assert command.outcomes == beside.outcomes == plain.outcomes
    assert plain.outcomes["test_main.py::test_fail_and_error"] == "failed"


@pytest.mark.parametrize(
    ("options", "exit_code"),
    [
        ("--collect-only -q", 0),
        ("--fixtures-per-test -q", 0),
        ("--setup-plan -q sub", 0),
        ("test_main.py::no_such_test", 4),
        ("no_such_file.py", 4),
        ("--no-such-option", 4),
        ("-p no_such_plugin", 4),
        ("-c no_such.ini", 4),
    ],
)
def test_what_runs_nothing_is_told_as_ever(options: str, exit_code: int, runs: Runs) -> None:
    plain, farm = runs.compare(*options.split())
    assert (farm.exit_code, plain.exit_code) == (exit_code, exit_code)
    assert farm.shown == plain.shown
    assert [line for line in plain.stderr.splitlines() if line not in farm.stderr] == []
    if exit_code == 0:
        # No farm is started only to look.
        assert "workers ready" not in farm.stdout


def test_stops_after_failures(tmp_path: Path) -> None:
    body = (
        "import pytest\n@pytest.mark.parametrize('n', range(200))\ndef test_it(n): assert n % 2\n"
    )
    runs = Runs(tmp_path / "suite", {"test_it.py": body})
    for option, least in (("-x", 1), ("--maxfail=5", 5)):
        run = runs.run(option, "-q")
        assert run.exit_code == 1
        failed = sum(outcome == "failed" for outcome in run.outcomes.values())
        # A worker that has not heard yet of the other's failures stops at that many of its own.
        assert least <= failed <= 2 * least
        assert f"stopping after {failed} failures" in run.stdout
        assert run.report is not None
        assert len(run.outcomes) + len(run.report["unrun"]) == 200  # type: ignore[arg-type]  # JSON


def test_where_and_how_pytest_is_called_does_not_matter(tmp_path: Path) -> None:
    """Another folder, another ini file, options from the file and the environment."""
    runs = Runs(
        tmp_path / "suite",
        {
            "other.ini": "[pytest]\naddopts = --farm 2 -q\ntestpaths = inner\npythonpath = lib\n",
            "lib/library.py": "VALUE = 5\n",
            "inner/test_it.py": "import os, library\ndef test_it(worker_id):\n"
            "    assert library.VALUE == 5 and worker_id.startswith('gw')\n",
            "outer/test_never.py": "assert 0\n",
        },
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    ini = str(runs.root / "other.ini")
    farm_by_file = runs.run("-c", ini, way="plain")
    assert (farm_by_file.counts, farm_by_file.exit_code) == ("1 passed", 0)
    by_environment = runs.run(
        way="plain", env={"PYTEST_ADDOPTS": f"-c {ini} --farm 2 -p snapfarm",
                          "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    )  # fmt: skip
    assert by_environment.counts == "1 passed"
    from_elsewhere = runs.run("-c", ini, "--rootdir", str(runs.root), "../suite/inner",
                              cwd=elsewhere)  # fmt: skip
    assert from_elsewhere.counts == "1 passed"
    assert set(from_elsewhere.outcomes) == {"inner/test_it.py::test_it"}


def test_pytest_main_may_be_called_twice_in_a_process(tmp_path: Path) -> None:
    caller = """
import os, sys
import pytest

class Mine:
    seen = 0
    def pytest_runtest_logreport(self, report):
        self.seen += report.when == "call"

os.chdir("suite")
mine = Mine()
# The server of the first run makes the workers of the second, with the environment of that.
farm = ["-q", "--farm", "2", "-p", "no:cacheprovider", "--farm-start-method", "forkserver"]
codes = []
for run in range(2):
    os.environ.pop(f"RUN_{run - 1}", None)
    os.environ.update({"RUN": str(run), f"RUN_{run}": ""})
    codes.append(pytest.main(farm, plugins=[mine, "a_plugin"]))
codes.append(pytest.main(["-q", "-p", "no:cacheprovider"], plugins=["a_plugin"]))
assert codes == [0, 0, 0], codes
assert mine.seen == 4
"""
    runs = Runs(
        tmp_path,
        {
            "caller.py": caller,
            "a_plugin.py": "import pytest\n@pytest.fixture\ndef from_plugin(): return 3\n",
            "suite/pytest.ini": "[pytest]\n",
            "suite/test_it.py": "import os\ndef test_a(from_plugin): pass\n"
            "def test_b():\n"
            "    runs = {name for name in os.environ if name.startswith('RUN_')}\n"
            "    assert runs == {'RUN_' + os.environ['RUN']}\n",
            "test_caller.py": "import subprocess, sys\n"
            "def test_it(): subprocess.run([sys.executable, 'caller.py'], check=True)\n",
        },
    )
    run = runs.run("test_caller.py", way="plain")
    assert run.counts == "1 passed", run.text


def test_fixtures_live_once_per_worker_and_items_keep_their_order(tmp_path: Path) -> None:
    body = f"""
import os, pytest

def setup_module(module): {trace('"module up", module.__name__')}
def teardown_module(module): {trace('"module down", module.__name__')}

@pytest.fixture(scope="module", params=["p", "q"])
def resource(request):
    {trace('"resource up", request.param, request.module.__name__')}
    yield request.param
    {trace('"resource down", request.param, request.module.__name__')}

@pytest.mark.parametrize("n", range(5))
def test_it(resource, n): {trace('"run", resource, n')}
"""
    conftest = f"""
import pytest

@pytest.fixture(scope="session", autouse=True)
def session():
    {trace('"session up"')}
    yield
    {trace('"session down"')}
"""
    files = {f"test_{name}.py": body for name in "abc"} | {"conftest.py": conftest}
    runs = Runs(tmp_path / "suite", files)
    run = runs.run("--farm-dist=loadfile")
    assert run.counts == "30 passed"
    by_worker: dict[str, list[str]] = {}
    for line in run.trace:
        worker, _, event = line.partition(" ")
        by_worker.setdefault(worker, []).append(event)
    assert set(by_worker) <= {"gw0", "gw1"}
    everything = [event for events in by_worker.values() for event in events]
    for name in ("test_a", "test_b", "test_c"):
        # A file stays on one worker: its fixtures are set up once, contiguously.
        for event in (f"module up {name}", f"module down {name}"):
            assert everything.count(event) == 1
        for parameter in "pq":
            assert everything.count(f"resource up {parameter} {name}") == 1
    for events in by_worker.values():
        assert events[0] == "session up"
        assert events[-1] == "session down"
        assert events.count("session up") == events.count("session down") == 1
        runs_of_p = [event for event in events if event.startswith("run p")]
        assert runs_of_p == [f"run p {n}" for n in range(5)] * (len(runs_of_p) // 5)
        up = [event for event in events if " up" in event]
        assert len(up) == len([event for event in events if " down" in event])

    one = runs.run("--farm=1", "-q")
    plain = runs.run(way="plain")
    assert [line.replace("gw0", "master") for line in one.trace] == list(plain.trace)
