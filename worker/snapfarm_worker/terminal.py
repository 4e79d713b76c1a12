"""The terminal of a worker's session: there is none, and plugins that ask for one get this."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from _pytest.logging import _LiveLoggingStreamHandler
from _pytest.terminal import TerminalReporter


class SilentReporter(TerminalReporter):  # type: ignore[misc]  # final, but plugins want the class
    """A terminal reporter for plugins that ask for one; of tests it prints nothing."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config, Path(os.devnull).open("w"))  # noqa: SIM115  # open for life
        self._settings = config

    def pytest_runtest_logstart(self, *args: object, **kwargs: object) -> None:
        """Print nothing."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Print nothing, but ask for the status: plugins change the report when they are asked."""
        self._settings.hook.pytest_report_teststatus(report=report, config=self._settings)

    def pytest_runtest_logfinish(self, *args: object, **kwargs: object) -> None:
        """Print nothing."""


def silence(config: pytest.Config) -> None:
    """Put a silent reporter into the place of the terminal's."""
    manager = config.pluginmanager
    if (reporter := manager.get_plugin("terminalreporter")) is not None:
        manager.unregister(reporter)
        manager.register(SilentReporter(config), "terminalreporter")


def silence_at_once(config: pytest.Config) -> None:
    """Silence the reporter also in the midst of a hook that it will be called by."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not isinstance(reporter, SilentReporter):
        reporter._tw = SilentReporter(config)._tw  # noqa: SLF001  # there is no public way


def release_live_logs(config: pytest.Config) -> None:
    """Let live logs, which pytest writes past its capture, reach the coordinator."""
    logging = config.pluginmanager.get_plugin("logging-plugin")
    live = getattr(logging, "log_cli_handler", None)
    if isinstance(live, _LiveLoggingStreamHandler):
        # Its stream is a reporter: it writes section lines too.
        reporter = TerminalReporter(config, sys.__stdout__)
        live.setStream(reporter)  # type: ignore[arg-type]  # as pytest has it
