"""A pytest plugin that writes down each attempt as it begins and ends, whatever ends the process.

It has a folder of its own, which is all that the peers' interpreter gets of this project's tests.
"""

from __future__ import annotations

import os

import pytest

# Opened before any test: they change directories, and use up descriptors.
_RECORD = os.open(os.environ["FLAKES_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def _write(what: str, nodeid: str) -> None:
    os.write(_RECORD, f"{what}\t{nodeid}\n".encode())


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Write that an attempt begins."""
    _write("begins", item.nodeid)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write how a phase ended, and that the attempt is over."""
    if report.outcome != "passed":
        _write(report.outcome, report.nodeid)
    if report.when == "teardown":
        _write("over", report.nodeid)
