"""The pytest plugin `snapfarm`: it finds out which part a pytest process plays, and does no more.

coordinator   `pytest --farm N`, `farm run`: hands the tests to N workers
worker        a process that a coordinator has started
plain         any other pytest run: the same fixtures, on rings of this process
"""

from __future__ import annotations

import importlib
import sys
import uuid
from collections.abc import Generator
from typing import TYPE_CHECKING, cast

import pytest

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

    from snapfarm.config import FarmConfig
    from snapfarm.recorder import RunRecorder

#: Options of pytest that only look: with them the suite is not run, so no farm is started.
_ONLY_LOOK = ("collectonly", "showfixtures", "show_fixtures_per_test", "markers", "setuponly",
              "setupplan", "cacheshow", "help", "version")  # fmt: skip

#: pytest options of ours that override a key of the configuration.
_OVERRIDES = {
    "farm_workers": "workers",
    "farm_dist": "dist",
    "farm_report": "report",
    "farm_test_timeout": "test_timeout",
    "farm_max_worker_restart": "max_worker_restart",
    "farm_start_method": "start_method",
    "farm_ring": "ring",
    "farm_reset": "reset",
    "farm_sensors": "sensors",
    "farm_reruns": "reruns",
    "farm_flaky": "flaky",
    "farm_history": "history",
    "farm_verdicts": "verdicts",
    "farm_anomalies": "anomalies",
}

_config_key: pytest.StashKey[FarmConfig | None] = pytest.StashKey()
_workers_key: pytest.StashKey[int] = pytest.StashKey()
#: Flags of addopts that are not for a farm.
_left_out_key: pytest.StashKey[tuple[str, ...]] = pytest.StashKey()
_recorder_key: pytest.StashKey[RunRecorder] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the farm; `farm run` has the same without the prefix."""
    group = parser.getgroup("farm", "test farm with a pristine database for every test (snapfarm)")
    group.addoption(
        "--farm", dest="farm_workers", metavar="N",
        help="run the tests on N worker processes; 'auto' and 'logical' count processors",
    )  # fmt: skip
    group.addoption(
        "--farm-dist", metavar="MODE",
        help="what stays together on a worker: load (nothing), loadscope (class or module), "
        "loadfile, loadgroup (xdist_group marks), worksteal (as load)",
    )  # fmt: skip
    group.addoption("--farm-config", metavar="FILE", help="read the farm's configuration here")
    group.addoption("--farm-report", metavar="FILE", help="write a JSON report of the run")
    group.addoption(
        "--farm-test-timeout", metavar="SECONDS",
        help="end a test that takes longer, with the stacks of all its threads",
    )  # fmt: skip
    group.addoption(
        "--farm-max-worker-restart", metavar="N", help="replace at most N workers that died"
    )
    group.addoption("--farm-start-method", metavar="METHOD", help="spawn, forkserver or fork")
    group.addoption("--farm-ring", metavar="KIND", help="shared-cache, memdb or private")
    group.addoption(
        "--farm-reset", metavar="POLICY",
        help="when databases go back to the golden state: test, module, session or never",
    )  # fmt: skip
    group.addoption("--farm-sensors", metavar="full|light|off", help="watch databases")
    group.addoption("--farm-reruns", metavar="N", help="run a test that fails up to N more times")
    group.addoption(
        "--farm-flaky", metavar="POLICY",
        help="what a test that failed and then passed means for the run: pass, fail, or quarantine "
        "(it fails the run unless it is in quarantine.toml)",
    )  # fmt: skip
    group.addoption(
        "--farm-verdicts", metavar="on|off",
        help="find out why tests failed: run each again in other ways, and name who broke it",
    )  # fmt: skip
    group.addoption("--farm-history", metavar="on|off", help="keep attempts in .farm")
    group.addoption(
        "--farm-anomalies", metavar="report|fail",
        help="whether a test fails of which an anomaly was observed that is an error",
    )  # fmt: skip
    group.addoption(
        "--rebuild-golden", action="store_true", help="build golden databases anew, not from cache"
    )


def pytest_plugin_registered(plugin: object) -> None:
    """Keep pyzmq where pytester is used, which drops what its runs have imported.

    Imported twice in one process, it raises errors of classes that nobody catches any more.
    """
    if getattr(plugin, "__name__", "") == "_pytest.pytester":
        importlib.import_module("zmq")


def farm_config_of(config: pytest.Config) -> FarmConfig | None:
    """Return the farm's configuration of a session; None where it has none."""
    return config.stash.get(_config_key, None)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    """Name the databases in the environment before any conftest is imported.

    A wrapper comes before all others, so that plugins which look for xdist here find it.
    """
    # By plugins alone: what the coordinator imports from here on, no worker may need.
    loaded = dict(sys.modules)
    from snapfarm import roles

    known, worker = early_config.known_args_namespace, roles.is_worker_session(early_config)
    farm = roles.workers_wanted(known.farm_workers) and not roles.only_looks(known, _ONLY_LOOK)
    roles.declare_hooks(early_config.pluginmanager, distributed=farm or worker)
    if not worker:
        early_config.stash[roles.sys_path_key] = tuple(sys.path)
        overrides = _overrides(early_config)
        if farm:
            overrides = roles.xdist_overrides(known) | overrides
        config = roles.find_config(early_config, overrides)
        early_config.stash[_config_key] = config
        if farm:
            # pytest-cov and others decide here whether a run is distributed, by xdist's option.
            known.numprocesses = known.farm_workers
            if config is not None:
                roles.prepare_launch(early_config, config.start_method, loaded)
        else:
            roles.drop_launch()
        if config is not None and config.golden:
            roles.prepare_local_databases(early_config, config)
    return (yield)


def _overrides(config: pytest.Config) -> dict[str, str]:
    """Return the keys that the command line sets."""
    options = vars(config.known_args_namespace)
    return {
        key: options[option]
        for option, key in _OVERRIDES.items()
        if options.get(option) is not None
    }


def pytest_cmdline_main(config: pytest.Config) -> None:
    """Refuse what can't be distributed; settle how many workers there will be."""
    from snapfarm import roles

    if roles.is_worker_session(config):
        roles.keep_xdist_out(config)
        return
    farm_config = farm_config_of(config)
    if farm_config is None or not _is_coordinator(config):
        return
    if config.getoption("usepdb", False) or config.getoption("trace", False):
        raise pytest.UsageError(
            "--pdb and --trace need the test in this process: leave out --farm, the fixtures are "
            "the same"
        )
    config.stash[_left_out_key] = roles.keep_xdist_out(config)
    config.stash[_workers_key] = roles.plan_workers(config, farm_config)


def _is_coordinator(config: pytest.Config) -> bool:
    from snapfarm import roles

    return (
        roles.workers_wanted(config.option.farm_workers)
        and not roles.is_worker_session(config)
        and not roles.only_looks(config.option, _ONLY_LOOK)
    )


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Become the coordinator, or provide databases here."""
    from snapfarm import roles

    config.addinivalue_line(
        "markers", "xdist_group(name): with --farm-dist loadgroup, tests of a group stay together"
    )
    if roles.is_worker_session(config):
        return
    farm_config, workers = farm_config_of(config), config.stash.get(_workers_key, 0)
    if farm_config is not None and workers:
        config.stash[_recorder_key] = roles.become_coordinator(config, farm_config, workers)
    else:
        looks = roles.only_looks(config.option, _ONLY_LOOK)
        config.stash[_recorder_key] = roles.serve_plain_run(config, farm_config, runs=not looks)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """Tell what was seen of the databases."""
    recorder = config.stash.get(_recorder_key, None)
    if recorder is not None:
        from snapfarm import roles

        roles.summarize(terminalreporter, recorder, config)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, None, None]:
    """Write the report once everybody had a say about the exit status."""
    yield
    recorder = session.config.stash.get(_recorder_key, None)
    if recorder is not None:
        from snapfarm import roles

        roles.write_report(recorder, int(session.exitstatus), session.config)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Name the configuration in pytest's header."""
    lines = [
        f"snapfarm: {flag} of addopts is for pytest-xdist, and left out beside a farm"
        for flag in config.stash.get(_left_out_key, ())
    ]
    farm_config = farm_config_of(config)
    if farm_config is None or farm_config.source is None:
        stray = config.invocation_params.dir / "farm.toml"
        if stray.parent != config.rootpath and stray.is_file():
            lines.append(
                f"snapfarm: {stray} is not read, as pytest's rootdir is {config.rootpath}: name it "
                "with --farm-config (farm run: --config), or give its folder a pytest.ini"
            )
        return lines
    source = farm_config.source
    if source.is_relative_to(config.rootpath):
        source = source.relative_to(config.rootpath)
    return [f"snapfarm: {source}", *lines]


@pytest.fixture(scope="session")
def worker_id(request: pytest.FixtureRequest) -> str:
    """The id of this worker, `gw0` and so on; `master` where tests are not distributed."""
    given = cast("dict[str, str]", getattr(request.config, "workerinput", {}))
    return given.get("workerid", "master")


@pytest.fixture(scope="session")
def testrun_uid(request: pytest.FixtureRequest) -> str:
    """An id that all workers of a run share, and no other run has."""
    given = cast("dict[str, str]", getattr(request.config, "workerinput", {}))
    return given.get("testrunuid") or uuid.uuid4().hex
