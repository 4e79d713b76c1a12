"""Small parts around the session: counting workers, the names of xdist, notes for JUnit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Literal, cast

import pytest
from _pytest.junitxml import LogXML, xml_key

from snapfarm import hookspecs, xdist_names
from snapfarm.roles import declare_hooks, has_xdist
from snapfarm.workers import cores, processors, worker_count
from snapfarm_worker import junit


@pytest.fixture
def manager() -> pytest.PytestPluginManager:
    return pytest.PytestPluginManager()


@pytest.fixture
def config(manager: pytest.PytestPluginManager) -> pytest.Config:
    manager.add_hookspecs(hookspecs)
    option = SimpleNamespace(xmlpath="x.xml", dist="load")
    found = SimpleNamespace(
        hook=manager.hook,
        pluginmanager=manager,
        option=option,
        stash=pytest.Stash(),
        getini=lambda _name: "legacy",
    )
    return cast("pytest.Config", found)


def test_a_number_of_workers_is_taken_as_it_is(config: pytest.Config) -> None:
    assert worker_count(config, 7) == 7


def test_auto_is_asked_of_hooks_then_of_the_environment(
    config: pytest.Config, manager: pytest.PytestPluginManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_XDIST_AUTO_NUM_WORKERS", raising=False)
    assert worker_count(config, "auto") == cores()
    assert worker_count(config, "logical") == processors() >= cores() >= 1
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", "no number")
    assert worker_count(config, "auto") == cores()
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", "5")
    assert worker_count(config, "auto") == 5

    class Xdist:
        """Its own answer would hide that nobody else has one."""

        def pytest_xdist_auto_num_workers(self) -> int:
            return 99

    class Conftest:
        def pytest_xdist_auto_num_workers(self) -> int:
            return 3

    manager.register(Xdist(), "xdist")
    assert worker_count(config, "auto") == 5
    manager.register(Conftest())
    assert worker_count(config, "auto") == 3


def test_the_name_of_xdist_is_taken_only_for_a_farm_without_it(
    manager: pytest.PytestPluginManager,
) -> None:
    declare_hooks(manager, distributed=False)
    assert not manager.hasplugin("xdist")

    blocked = pytest.PytestPluginManager()
    blocked.set_blocked("xdist")
    declare_hooks(blocked, distributed=True)
    assert blocked.get_plugin("xdist") is xdist_names
    assert not has_xdist(blocked)

    installed = pytest.PytestPluginManager()
    real = object()
    installed.register(real, "xdist")
    declare_hooks(installed, distributed=True)
    assert installed.get_plugin("xdist") is real
    assert has_xdist(installed)


def test_who_is_asked_for_xdist_answers(config: pytest.Config) -> None:
    coordinator = cast("pytest.Session", SimpleNamespace(config=config))
    assert xdist_names.is_xdist_controller(coordinator)
    assert xdist_names.get_xdist_worker_id(coordinator) == "master"
    vars(config)["workerinput"] = {"workerid": "gw3"}
    assert xdist_names.is_xdist_worker(coordinator)
    assert not xdist_names.is_xdist_master(coordinator)
    assert xdist_names.get_xdist_worker_id(coordinator) == "gw3"


def _report(nodeid: str, when: str) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid, ("a.py", 1, "a"), {}, "passed", None, cast("Literal['call']", when)
    )


def test_notes_for_junit_reach_the_writer(config: pytest.Config) -> None:
    notes = junit.take_notes(config)
    assert notes is not None
    assert config.stash[xml_key] is cast("LogXML", notes)
    assert notes.family == "xunit1"
    notes.add_global_property("arch", 5)
    with pytest.raises(TypeError, match="needs to be a string, but int given"):
        notes.add_global_property(cast("str", 5), "x")
    notes.node_reporter("a.py::test_a").add_attribute("speed", 9)
    setup, teardown = _report("a.py::test_a", "setup"), _report("a.py::test_a", "teardown")
    for report in (setup, teardown):
        notes.attach(report)
    assert junit.XML_ATTRIBUTES not in vars(setup)

    writer = LogXML("x.xml", None)
    config.stash[xml_key] = writer
    junit.hand_over_attributes(config, teardown)
    assert writer.node_reporter(teardown).attrs["speed"] == "9"
    output: dict[str, object] = {junit.SUITE_PROPERTIES: notes.suite_properties, "mine": 1}
    junit.hand_over_properties(config, output)
    assert writer.global_properties == [("arch", "5")]
    assert output == {"mine": 1}


def test_without_a_junit_file_nobody_takes_notes(config: pytest.Config) -> None:
    config.option.xmlpath = None
    assert junit.take_notes(config) is None
    report = _report("a.py::test_a", "teardown")
    junit.hand_over_attributes(config, report)
    junit.hand_over_properties(config, {})
