"""However a run ends, its exit code is the one that plain pytest gives the same suite."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from support.pytest_runs import Runs, trace

ITEMS = """
import pytest
@pytest.mark.parametrize("n", range(4))
def test_before(n): pass
def test_it(): pass
def test_after(): pass
"""

#: Tears the session down visibly, in every worker.
RESOURCE = f"""
import os, pytest
in_worker = "PYTEST_XDIST_WORKER" in os.environ
@pytest.fixture(scope="session", autouse=True)
def resource():
    {trace('"up"')}
    yield
    {trace('"down"')}
"""


class End(msgspec.Struct, frozen=True, kw_only=True):
    """A suite, and how a run of it ends. `conftest` follows what `RESOURCE` has."""

    exit_code: int
    tests: str = ITEMS
    conftest: str = ""
    files: dict[str, str] = {}
    options: str = ""
    #: What plain pytest shows too.
    shows: str = ""
    #: What only a farm shows.
    shows_of_workers: str = ""
    #: Whether the counts are those of plain pytest too.
    same_counts: bool = True


def _conftest(hook: str, body: str) -> str:
    return f"def {hook}:\n    {body}\n"


ENDS = {
    "all passed": End(exit_code=0),
    "some failed": End(exit_code=1, tests="def test_it(): assert 0\n", shows="assert 0"),
    "no tests": End(exit_code=5, tests="", shows="no tests ran"),
    "pytest.exit": End(
        exit_code=7,
        tests=ITEMS.replace("def test_it(): pass", "def test_it(): pytest.exit('enough', 7)"),
        shows="enough",
        same_counts=False,
    ),
    "pytest.exit in a fixture": End(
        exit_code=2,
        tests="import pytest\n@pytest.fixture\ndef it(): pytest.exit('enough')\n"
        "def test_it(it): pass\n",
        shows="enough",
    ),
    "KeyboardInterrupt in a test": End(
        exit_code=2,
        tests=ITEMS.replace("def test_it(): pass", "def test_it(): raise KeyboardInterrupt"),
        shows="KeyboardInterrupt",
        shows_of_workers="test_it.py:5",
        same_counts=False,
    ),
    "KeyboardInterrupt in an import": End(
        exit_code=2, tests="raise KeyboardInterrupt\n", shows="KeyboardInterrupt"
    ),
    "sys.exit in a test": End(
        exit_code=1,
        tests=ITEMS.replace("def test_it(): pass", "def test_it(): raise SystemExit(5)"),
        shows="SystemExit: 5",
    ),
    "collection errors": End(
        exit_code=2,
        files={"test_bad.py": "import no_such_module_here\n", "test_worse.py": "def (\n"},
        shows="Interrupted: 2 errors during collection",
    ),
    "collection errors, go on": End(
        exit_code=1,
        files={"test_bad.py": "import no_such_module_here\n"},
        options="--continue-on-collection-errors",
        shows="ModuleNotFoundError",
    ),
    "collection errors, -x": End(
        exit_code=1,
        files={"test_bad.py": "import no_such_module_here\n"},
        options="-x",
        shows="stopping after 1 failures",
    ),
    "collection errors at the very end, -x": End(
        exit_code=2,
        files={"test_z.py": "import no_such_module_here\n"},
        options="-x",
        shows="Interrupted: 1 error during collection",
    ),
    "conftest can't be imported": End(
        exit_code=4, conftest="import no_such_module_here", shows="ImportError while loading"
    ),
    "shouldstop of a plugin": End(
        exit_code=2,
        conftest=_conftest(
            "pytest_runtest_teardown(item)",
            "if item.name == 'test_it': item.session.shouldstop = 'plugin stops'",
        ),
        shows="plugin stops",
        same_counts=False,
    ),
    "shouldfail of a plugin": End(
        exit_code=1,
        conftest=_conftest(
            "pytest_runtest_teardown(item)",
            "if item.name == 'test_it': item.session.shouldfail = 'plugin fails'",
        ),
        shows="plugin fails",
        same_counts=False,
    ),
    "internal error while running": End(
        exit_code=3,
        conftest=_conftest(
            "pytest_runtest_protocol(item)", "if item.name == 'test_it': raise ValueError('broken')"
        ),
        shows="ValueError: broken",
        shows_of_workers="INTERNALERROR> [gw",
        same_counts=False,
    ),
    "internal error while configuring workers": End(
        exit_code=3,
        conftest=_conftest("pytest_configure(config)", "if in_worker: raise ValueError('broken')"),
        shows_of_workers="ValueError: broken",
        same_counts=False,
    ),
    "internal error at the end of workers": End(
        exit_code=3,
        tests="def test_it(): assert 0, 'a failure of its own'\n",
        conftest=_conftest(
            "pytest_sessionfinish(session)", "if in_worker: raise ValueError('broken')"
        ),
        shows="test_it.py:1: AssertionError",
        shows_of_workers="INTERNALERROR> [gw",
        same_counts=False,
    ),
    "internal error while replaying": End(
        exit_code=3,
        conftest=_conftest(
            "pytest_runtest_logreport(report)",
            "if not in_worker and 'test_it' in report.nodeid: raise ValueError('broken')",
        ),
        shows="ValueError: broken",
        same_counts=False,
    ),
    "usage error while collecting": End(
        exit_code=4,
        conftest=_conftest(
            "pytest_collection_modifyitems(items)", "raise pytest.UsageError('bad items')"
        ),
        shows="ERROR: bad items",
    ),
    "usage error in workers alone": End(
        exit_code=4,
        conftest=_conftest(
            "pytest_configure(config)", "if in_worker: raise pytest.UsageError('bad worker')"
        ),
        shows_of_workers="ERROR: worker gw",
        same_counts=False,
    ),
    "exit status of a plugin": End(
        exit_code=11,
        conftest=_conftest("pytest_sessionfinish(session)", "session.exitstatus = 11"),
    ),
    "a report that belongs to no test": End(
        exit_code=1,
        tests="def test_it(): pass\n",
        conftest="@pytest.hookimpl(wrapper=True)\n"
        "def pytest_runtestloop(session):\n"
        "    result, config = (yield), session.config\n"
        "    if getattr(config, 'workerinput', {}).get('workerid') == 'gw0' or not (\n"
        "        in_worker or config.option.farm_workers\n"
        "    ):\n"
        "        report = pytest.TestReport(\n"
        "            'extra::check', ('extra', 0, 'check'), {}, 'failed', 'extra failed', 'call'\n"
        "        )\n"
        "        config.hook.pytest_runtest_logreport(report=report)\n"
        "    return result\n",
        shows="extra failed",
    ),
    "exception in teardown of a session fixture": End(
        exit_code=1,
        tests="import pytest\n@pytest.fixture(scope='session')\ndef it():\n    yield\n"
        "    assert 0, 'torn'\ndef test_it(it): pass\n",
        shows="torn",
    ),
}

#: Ends at which plain pytest does not end so, because there are no workers.
_OF_WORKERS = {
    "internal error while configuring workers",
    "internal error at the end of workers",
    "usage error in workers alone",
}


@pytest.mark.parametrize("name", ENDS)
def test_exit_code(name: str, tmp_path: Path) -> None:
    end = ENDS[name]
    files = {"conftest.py": RESOURCE + end.conftest, "test_it.py": end.tests, **end.files}
    runs = Runs(tmp_path / "suite", files)
    plain, farm = runs.compare("-rfE", *end.options.split())

    assert farm.exit_code == end.exit_code, farm.text
    assert end.shows in farm.text
    assert end.shows_of_workers in farm.text
    if name not in _OF_WORKERS:
        assert plain.exit_code == end.exit_code
        assert end.shows in plain.text
    if end.same_counts:
        assert farm.counts == plain.counts
        assert farm.cases == plain.cases
    # What ends a run is no crash, and whatever was set up is torn down.
    assert "crashed" not in farm.text
    assert sorted(line for line in farm.trace if "up" in line) == sorted(
        line.replace("down", "up") for line in farm.trace if "down" in line
    )
    if end.exit_code != pytest.ExitCode.USAGE_ERROR:
        assert farm.report is not None
        assert farm.report["exit_status"] == end.exit_code


def test_exitfirst_with_a_session_fixture_that_fails_in_its_teardown(tmp_path: Path) -> None:
    # 1. gw0 fails a test. 2. It tells so before it tears its fixtures down, which waits for gw1.
    # 3. gw1 learns of the end while it runs an item whose successor it knew. 4. It tears all its
    # fixtures down with that item.
    wait = "import pathlib, time\ndef wait_for(state):\n    end = time.monotonic() + 60\n"
    wait += "    while not state():\n        assert time.monotonic() < end\n"
    wait += "        time.sleep(0.01)\n"
    runs = Runs(
        tmp_path / "suite",
        {
            "farm.toml": "stop_timeout = 60\n",
            "waiting.py": wait,
            "pytest.ini": "[pytest]\npythonpath = .\n",
            "test_it.py": "import pathlib, pytest\nfrom waiting import wait_for\n"
            "@pytest.fixture(scope='session', autouse=True)\n"
            "def resource(worker_id):\n"
            "    yield\n"
            "    if worker_id == 'gw0': wait_for(pathlib.Path('down').exists)\n"
            "    pathlib.Path('down').touch()\n"
            "    raise ValueError(f'teardown in {worker_id}')\n"
            "@pytest.mark.parametrize('n', range(8))\n"
            "def test_it(n, request, worker_id):\n"
            "    if worker_id == 'gw0':\n"
            "        wait_for(pathlib.Path('begun').exists)\n"
            "        assert 0, 'the first failure'\n"
            "    pathlib.Path('begun').touch()\n"
            "    runner = request.config.pluginmanager.get_plugin('farm-items')\n"
            "    wait_for(lambda: runner._queue._dropped)\n",
        },
    )
    run = runs.run("-x")
    assert run.exit_code == 1, run.text
    assert run.counts == "1 failed, 1 passed, 2 errors"
    for text in ("the first failure", "teardown in gw0", "teardown in gw1"):
        assert text in run.stdout
    assert "INTERNALERROR" not in run.text
