"""What suites and plugins know of pytest-xdist holds on a farm too.

One suite asserts all of it in its own conftest and tests. It is run with xdist itself as well, to
prove that it asks for nothing but what xdist gives.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from support.pytest_runs import Runs

CONFTEST = """
import os
import pytest

SENT = {"text": "ü", "tuple": (1, ("a", None)), "set": {1, 2}, "frozen": frozenset({"x"}),
        "none": None, "dict": {1: [True, 2.5, b"\\x00"]}}
SEEN = []

def note(*what):
    with open(os.environ["TRACE"], "a") as out:
        print(*what, file=out)

def pytest_xdist_setupnodes(config, specs):
    SEEN.append("setupnodes")

@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    assert SEEN and SEEN[0] == "setupnodes"
    SEEN.append("configure " + node.gateway.id)
    assert node.workerinput["workerid"] == node.gateway.id
    assert node.config.option.numprocesses == 2
    node.workerinput.update(SENT)
    node.workerinput["for"] = node.gateway.id

def pytest_testnodeready(node):
    assert node.workerinfo["executable"] and node.workerinfo["id"] == node.gateway.id
    note("ready", node.gateway.id)

def pytest_xdist_node_collection_finished(node, ids):
    note("collected", node.gateway.id, len(ids), ids[0])

def pytest_testnodedown(node, error):
    output = getattr(node, "workeroutput", None)
    if output is None:
        note("down", node.gateway.id, "error" if error else "no error")
    else:
        assert output["left"] == {"a": (1, 2)} and output["by"] == node.gateway.id
        note("down", node.gateway.id, "with output", error)

def pytest_configure(config):
    given = getattr(config, "workerinput", None)
    if given is None:
        assert "PYTEST_XDIST_WORKER" not in os.environ
        assert config.option.numprocesses == 2
        return
    assert {key: given[key] for key in SENT} == SENT
    assert [type(given[key]) for key in SENT] == [type(value) for value in SENT.values()]
    assert given["for"] == given["workerid"] == os.environ["PYTEST_XDIST_WORKER"]
    assert given["workercount"] == 2 and os.environ["PYTEST_XDIST_WORKER_COUNT"] == "2"
    assert given["testrunuid"] == os.environ["PYTEST_XDIST_TESTRUNUID"]
    assert "--the-argument" in given["mainargv"]
    assert config.option.numprocesses is None and config.option.dist == "no"

def pytest_addoption(parser):
    parser.addoption("--the-argument", action="store_true")

def pytest_sessionfinish(session):
    if hasattr(session.config, "workerinput"):
        session.config.workeroutput["left"] = {"a": (1, 2)}
        session.config.workeroutput["by"] = session.config.workerinput["workerid"]

def pytest_runtest_logreport(report):
    if os.environ.get("PYTEST_XDIST_WORKER"):
        return
    if report.nodeid.endswith("test_dies") and report.failed:
        return
    assert report.node.gateway.id == report.worker_id
    assert report.node.workerinput["testrunuid"] == report.testrun_uid
    assert isinstance(report.item_index, int)
    if report.when == "call":
        note("report", report.worker_id, report.nodeid, report.item_index)

def pytest_handlecrashitem(crashitem, report, sched):
    note("crash", report.nodeid == crashitem)
"""

TESTS = """
import os, time
import pytest

def test_ids(worker_id, testrun_uid, request, tmp_path_factory):
    given = request.config.workerinput
    assert worker_id == given["workerid"] == os.environ["PYTEST_XDIST_WORKER"]
    assert testrun_uid == given["testrunuid"] == os.environ["PYTEST_XDIST_TESTRUNUID"]
    assert tmp_path_factory.getbasetemp().name == "popen-" + worker_id
    assert tmp_path_factory.getbasetemp().parent.name == "the-base"

def test_role(request):
    plugin = request.config.pluginmanager.get_plugin("xdist")
    assert request.config.pluginmanager.hasplugin("xdist")
    assert plugin.is_xdist_worker(request)
    assert not plugin.is_xdist_controller(request) and not plugin.is_xdist_master(request)
    assert plugin.get_xdist_worker_id(request) == request.config.workerinput["workerid"]

@pytest.mark.parametrize("n", range(8))
def test_many(n, testrun_uid): pass

def test_dies():
    os.kill(os.getpid(), 9)

@pytest.mark.parametrize("n", range(6))
def test_after(n, worker_id, request):
    deadline = time.monotonic() + 60
    while "collected gw2" not in open(os.environ["TRACE"]).read():
        assert time.monotonic() < deadline, "nobody came in the place of the dead worker"
        time.sleep(0.01)
    assert request.config.workerinput["for"] == worker_id
    assert request.config.workerinput["set"] == {1, 2}
"""


@pytest.mark.parametrize("way", ["xdist", "farm", "farm beside xdist", "command"])
def test_everything_that_suites_know_of_xdist(way: str, tmp_path: Path) -> None:
    runs = Runs(tmp_path / "suite", {"conftest.py": CONFTEST, "test_it.py": TESTS})
    run = runs.run("--the-argument", f"--basetemp={tmp_path / 'the-base'}", "-rf", way=way)

    assert run.exit_code == 1, run.text
    assert run.counts == "1 failed, 16 passed"
    assert [case.name for case in run.cases if case.results] == ["test_it::test_dies"]
    lines = [line.split() for line in run.trace]
    # Two workers of the start, and one in the place of the dead one.
    for event in ("ready", "collected"):
        assert sorted(line[1] for line in lines if line[0] == event) == ["gw0", "gw1", "gw2"]
    assert {(line[2], line[3]) for line in lines if line[0] == "collected"} == {
        ("17", "test_it.py::test_ids")
    }
    reports = [line for line in lines if line[0] == "report"]
    assert sorted(int(line[3]) for line in reports if line[2] != "test_it.py::test_dies") == [
        index for index in range(17) if index != 10
    ]
    down = {line[1]: line[2:] for line in lines if line[0] == "down"}
    assert sorted(down.values()) == [
        ["error"],
        ["with", "output", "None"],
        ["with", "output", "None"],
    ]
    assert ["crash", "True"] in lines


@pytest.mark.parametrize("workers", ["0", "1"])
def test_xdist_may_be_loaded_by_the_name_of_its_module(workers: str, tmp_path: Path) -> None:
    # As it is where PYTEST_DISABLE_PLUGIN_AUTOLOAD is set, often from `addopts`.
    body = "def test_it(worker_id): assert worker_id == ('master' if {} == 0 else 'gw0')\n"
    files = {
        "pytest.ini": "[pytest]\naddopts = -p xdist.plugin -p snapfarm -n 1\n",
        "test_it.py": body.format(workers),
    }
    options = ("-n0",) if workers == "0" else ("--farm=1",)
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    run = Runs(tmp_path / "suite", files).run(*options, way="plain", env=alone)
    assert run.counts == "1 passed", run.text


def test_a_plain_run_has_the_fixtures_and_none_of_the_rest(tmp_path: Path) -> None:
    body = """
        import os

        def test_ids(worker_id, testrun_uid, request):
            assert worker_id == "master" and len(testrun_uid) == 32
            assert not hasattr(request.config, "workerinput")
            assert not [name for name in os.environ if name.startswith("PYTEST_XDIST")]
            assert not request.config.pluginmanager.hasplugin("xdist")
    """
    runs = Runs(tmp_path / "suite", {"test_it.py": textwrap.dedent(body)})
    assert runs.run(way="plain").counts == "1 passed"
    assert runs.run("-n", "0", way="command").counts == "1 passed"
