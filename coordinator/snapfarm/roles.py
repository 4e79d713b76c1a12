"""The parts that a pytest process can play; imported only once pytest is running."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from snapfarm import hookspecs, xdist_names
from snapfarm.config import FarmConfig, load_config
from snapfarm.errors import UserError
from snapfarm.live import CI_VARIABLES
from snapfarm.recorder import PlainItems, RunRecorder
from snapfarm.report import model, terminal
from snapfarm.words import CONFIGURED
from snapfarm_worker.fixtures import DatabasePlugin
from snapfarm_worker.session import is_worker_session
from snapfarm_worker.texts import readable

__all__ = ["is_worker_session"]

if TYPE_CHECKING:
    import argparse

    from _pytest.terminal import TerminalReporter

    from snapfarm.launch.launcher import Launcher
    from snapfarm.local import LocalDatabases
    from snapfarm.report.model import RunReport

#: Under this name the plugin with the fixtures is registered, in workers too.
DATABASE_PLUGIN = "farm-databases"

#: Options of xdist by which it would distribute the tests itself, with their names.
NOT_BESIDE_A_FARM = (("-n", "numprocesses"), ("--tx", "tx"), ("--looponfail", "looponfail"))

#: How these stand among the words of `addopts`.
_FLAGS = {
    "-n": re.compile(r"-n|--numprocesses(?:=|$)"),
    "--tx": re.compile(r"--tx(?:=|$)"),
    "--looponfail": re.compile(r"-f$|--looponfail$"),
}

#: Failed tests that are shown at the end, and the width where there is no terminal.
_WORST = 5
_ENDLESS = 1_000

#: The plugin that makes a pytest process a laboratory of `snapfarm.flakes.experiment`.
LABORATORY = "snapfarm.flakes.lab"

_local_key: pytest.StashKey[LocalDatabases] = pytest.StashKey()
_launcher_key: pytest.StashKey[Launcher] = pytest.StashKey()
#: `sys.path` before conftests changed it.
sys_path_key: pytest.StashKey[tuple[str, ...]] = pytest.StashKey()


def declare_hooks(manager: pytest.PytestPluginManager, *, distributed: bool) -> None:
    """Declare xdist's node hooks, and be the plugin of that name, unless xdist is there."""
    if has_xdist(manager):
        return
    manager.add_hookspecs(hookspecs)
    if distributed:
        # After `-p no:xdist` too: that keeps xdist out, not those who work with it.
        manager.unblock("xdist")
        manager.register(xdist_names, "xdist")


def has_xdist(manager: pytest.PytestPluginManager) -> bool:
    """Whether pytest-xdist itself is there, and on: by its name, or as `-p xdist.plugin`."""
    named = manager.get_plugin("xdist") not in {None, xdist_names}
    return named or manager.has_plugin("xdist.plugin")


def workers_wanted(value: str | None) -> bool:
    """Whether `--farm` asks for workers; 0 asks for none."""
    return value is not None and value != "0"


def xdist_overrides(options: argparse.Namespace) -> dict[str, str]:
    """Return the keys of the configuration that options of xdist set beside a farm.

    They mean the same there, and stand in the `addopts` of suites that have used xdist.
    """
    found = {}
    if getattr(options, "distload", False):
        found["dist"] = "load"
    elif (dist := getattr(options, "dist", "no")) != "no":
        found["dist"] = dist
    if (restarts := getattr(options, "maxworkerrestart", None)) is not None:
        found["max_worker_restart"] = restarts
    return found


def keep_xdist_out(config: pytest.Config) -> tuple[str, ...]:
    """Let pytest-xdist distribute nothing beside a farm, or in one of its workers.

    What `addopts` say of it is meant for runs without a farm; returns these flags. Raises
    UsageError where it was asked for at the command line.
    """
    given = [(flag, name) for flag, name in NOT_BESIDE_A_FARM if config.getoption(name, None)]
    if not given:
        return ()
    words = [*config.getini("addopts"), *shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))]
    standing = tuple(flag for flag, _ in given if any(map(_FLAGS[flag].match, words)))
    for flag, name in given:
        # -n makes xdist set --tx too.
        if flag not in standing and (name != "tx" or "-n" not in standing):
            raise pytest.UsageError(f"--farm and {flag} (pytest-xdist) exclude each other: use one")
        setattr(config.option, name, [] if name == "tx" else None)
    return standing


def only_looks(options: argparse.Namespace, names: Iterable[str]) -> bool:
    """Whether the command line only asks what there is."""
    return any(getattr(options, name, False) for name in names)


def find_config(config: pytest.Config, overrides: Mapping[str, str]) -> FarmConfig | None:
    """Return the farm's configuration; None where a plain run has none. Raises UsageError."""
    explicit = config.known_args_namespace.farm_config
    if not overrides and not explicit and not _is_configured(config.rootpath):
        return None
    values = dict(overrides)
    if values.get("workers") in {"0", CONFIGURED}:
        del values["workers"]
    try:
        return load_config(
            config.rootpath, explicit=None if explicit is None else Path(explicit), overrides=values
        )
    except UserError as error:
        raise pytest.UsageError(_with_our_flags(str(error))) from error


def _with_our_flags(message: str) -> str:
    """Name a flag as both commands spell it: `--farm-dist`, in `farm run` `--dist`."""

    def both(found: re.Match[str]) -> str:
        flag = found[1]
        ours = "--farm" if flag == "--workers" else f"--farm-{flag.removeprefix('--')}"
        if flag == "--report":
            flag = ours
        return f"flag {ours} (farm run: {flag}):"

    return re.sub(r"^flag (--[a-z-]+):", both, message)


def _is_configured(root: Path) -> bool:
    """Whether a project says anything of a farm; quick, since every pytest run comes here."""
    if (
        any(os.environ.get(name) for name in ("FARM_CONFIG", "FARM_DJANGO"))
        or (root / "farm.toml").exists()
    ):
        return True
    try:
        text = (root / "pyproject.toml").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return re.search(r"^\s*\[\s*tool\s*\.\s*[\"']?farm\b", text, re.MULTILINE) is not None


def prepare_launch(
    config: pytest.Config, start_method: str, loaded: Mapping[str, ModuleType]
) -> None:
    """Have what workers are started from import while this process does, plugins' modules too."""
    from snapfarm.launch.launcher import OF_PYTEST, Launcher, was_imported_early
    from snapfarm.launch.preloading import preloads

    of_plugins = {name: each for name, each in loaded.items() if not was_imported_early(name)}
    more = preloads(of_plugins, django=_names_settings(config))
    launcher = config.stash[_launcher_key] = Launcher(start_method, OF_PYTEST, more)
    config.add_cleanup(launcher.close)
    launcher.prepare()


def drop_launch() -> None:
    """End what `farm run` has started early for workers, of which there will be none.

    Tests run in this process then, or none do: a child that nobody knows of would end the wait of
    whoever waits for all children, or never let it end.
    """
    launcher = sys.modules.get("snapfarm.launch.launcher")
    if launcher is not None:
        launcher.discard_early()


def _names_settings(config: pytest.Config) -> bool:
    """Tell whether pytest-django will load settings, and so Django, before any conftest."""
    name = "DJANGO_SETTINGS_MODULE"
    if getattr(config.known_args_namespace, "ds", None) or os.environ.get(name):
        return True
    try:
        return bool(config.getini(name))
    except (KeyError, ValueError):  # pytest-django is not there
        return False


def prepare_local_databases(config: pytest.Config, farm_config: FarmConfig) -> None:
    """Name the databases in the environment; they are built and restored on first use."""
    from snapfarm.local import LocalDatabases

    rebuild = bool(config.known_args_namespace.rebuild_golden)
    try:
        local = LocalDatabases(farm_config, rebuild=rebuild)
    except UserError as error:
        raise pytest.UsageError(str(error)) from error
    os.environ.update(local.environment())
    config.stash[_local_key] = local
    config.add_cleanup(local.close)


def plan_workers(config: pytest.Config, farm_config: FarmConfig) -> int:
    """Return the number of workers, and set what conftests and plugins ask to know of it."""
    from snapfarm.workers import worker_count

    count = worker_count(config, farm_config.workers)
    if most := config.getoption("maxprocesses", None):
        count = min(count, most)
    # pytest-xdist itself, where it is installed, only acts on its third option, `tx`.
    config.option.numprocesses = count
    config.option.dist = farm_config.dist
    return count


def become_coordinator(config: pytest.Config, farm_config: FarmConfig, workers: int) -> RunRecorder:
    """Distribute this session's tests."""
    from snapfarm.session import FarmSession

    _collect_no_garbage(config)
    launcher = config.stash[_launcher_key]
    session = FarmSession(config, farm_config, workers, config.stash[sys_path_key], launcher)
    config.pluginmanager.register(session, "farm-session")
    if config.option.farm_config:
        session.report.report.replay = ("--config", str(config.option.farm_config))
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        # Results of several files come interleaved: a file name before each dot would not do.
        reporter.showfspath = False
    return session.report


def _collect_no_garbage(config: pytest.Config) -> None:
    """Let pytest not look for errors in the finalizers of garbage when this session ends.

    It does so on account of tests, twice, with all that is imported; here none has run.
    """
    try:
        from _pytest.unraisableexception import gc_collect_iterations_key
    except ImportError:  # pytest before 8.4
        return
    config.stash[gc_collect_iterations_key] = 0


def serve_plain_run(
    config: pytest.Config, farm_config: FarmConfig | None, *, runs: bool = True
) -> RunRecorder:
    """Give the tests of a run without a farm the same fixtures, on rings of this process.

    `runs`: whether any test will be run; where pytest only looks, nothing is kept.
    """
    from snapfarm.local import LocalDatabases

    local = config.stash.get(_local_key, None)
    if local is None:
        local = LocalDatabases(farm_config or FarmConfig(root=config.rootpath))
    recorder = RunRecorder(0, "no", root=str(config.rootpath))
    evidence = None
    if runs and farm_config is not None and _is_farm_without_workers(config):
        from snapfarm.blueprint import evidence_order

        recorder.complete = True
        evidence = evidence_order(farm_config, recorder.report.run)
        local.told = recorder.golden
    redact = () if farm_config is None else farm_config.redacted
    databases = DatabasePlugin(local.databases, local.anomalies, evidence, redact)
    config.pluginmanager.register(databases, DATABASE_PLUGIN)
    config.pluginmanager.register(local, "farm-local")
    if recorder.complete or _report_path(config) is not None:
        items = PlainItems(recorder, databases if recorder.complete else None)
        config.pluginmanager.register(items, "farm-plain-items")
    return recorder


def _is_farm_without_workers(config: pytest.Config) -> bool:
    """Whether a run in this process is to be kept as a farm's: `farm run -n 0`, `--farm=0`.

    A plain pytest is not, nor a worker of pytest-xdist, nor a laboratory, which forks.
    """
    return (
        config.option.farm_workers == "0"
        and not hasattr(config, "workerinput")
        and not config.pluginmanager.has_plugin(LABORATORY)
    )


def summarize(reporter: TerminalReporter, recorder: RunRecorder, config: pytest.Config) -> None:
    """Print what the run's report has to say."""
    report = recorder.report
    plugin = config.pluginmanager.get_plugin(DATABASE_PLUGIN)
    if isinstance(plugin, DatabasePlugin):
        recorder.anomalies(plugin.anomalies)
    width = _width(reporter)
    if report.anomalies:
        reporter.section("database anomalies")
        for line in terminal.anomaly_lines(report.anomalies, width):
            reporter.write_line(line)
    if report.unrun:
        reporter.section("not run")
        for line in terminal.not_run_lines(report):
            reporter.write_line(line)
    deaths = [worker for worker in report.workers.values() if worker.death]
    if deaths:
        reporter.section("workers that died")
        for dead in deaths:
            reporter.write_line(f"{dead.worker}: {dead.death}")
    resets = terminal.reset_line(report.workers.values())
    if resets is not None and config.get_verbosity() > 0:
        reporter.write_line(resets)
    if recorder.complete and reporter.hasopt("f") and config.get_verbosity() > -2:
        _worst(reporter, report, width)


def _worst(reporter: TerminalReporter, report: RunReport, width: int | None) -> None:
    """Print what failed, the worst first, why as far as that is known, and what to run next."""
    from snapfarm.report.text import failed_lines

    lines = list(failed_lines(report, width or _ENDLESS, _WORST))
    if lines:
        reporter.section("worst first")
    for line in lines:
        command = line.startswith("    -> ")
        reporter.write_line(readable(line.removeprefix("  ")), bold=command)


def _width(reporter: TerminalReporter) -> int | None:
    """Return the width of the terminal; None where lines go into a file, or the log of a CI."""
    if not reporter.isatty() or any(os.environ.get(name) for name in CI_VARIABLES):
        return None
    return reporter._tw.fullwidth  # noqa: SLF001  # pytest asks for it in no other way


def write_report(recorder: RunRecorder, exit_status: int, config: pytest.Config) -> None:
    """Write the run's report where that was asked for; a failure ends no run.

    A worker of pytest-xdist leaves it to the process that distributes, which has all results.
    """
    if hasattr(config, "workerinput"):
        return
    path = _report_path(config)
    if path is not None or recorder.complete:
        recorder.close(exit_status)
    if path is not None:
        try:
            model.write_json(recorder.report, path)
        except OSError as error:
            _warn(f"the report could not be written: {error}")
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            _warn(f"the report could not be written: {readable(told)}")
    if recorder.complete:
        _publish(recorder.report, config)


def _publish(report: RunReport, config: pytest.Config) -> None:
    from snapfarm.plugin import farm_config_of
    from snapfarm.report.publish import publish

    farm_config = farm_config_of(config)
    if farm_config is None:
        return
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    report.seed = str(config.getoption("randomly_seed", "") or "")

    def say(line: str) -> None:
        if reporter is not None:
            reporter.write_line(readable(line))

    for warning in publish(report, farm_config, os.environ, say):
        _warn(warning)


def _warn(text: str) -> None:
    sys.stderr.write(f"snapfarm: {text}\n")


def _report_path(config: pytest.Config) -> Path | None:
    if config.option.farm_report:
        return Path(config.invocation_params.dir, config.option.farm_report)
    from snapfarm.plugin import farm_config_of

    farm_config = farm_config_of(config)
    if farm_config is None or farm_config.report is None:
        return None
    return Path(farm_config.report)
