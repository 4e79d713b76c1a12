"""A pytest plugin that writes down what became of every test, phase by phase.

It is loaded with `-p real_outcomes --real-outcomes=FILE` into the run of a foreign suite, plain or
distributed: in a distributed run only the process that replays the reports writes. It writes what
`farm compare` writes, and sets nothing else.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from snapfarm.compare.plugin import Recorder


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names the file."""
    parser.addoption("--real-outcomes", metavar="FILE", help="write the outcomes of all tests here")


def pytest_configure(config: pytest.Config) -> None:
    """Begin to write, unless this session is a worker's."""
    path = config.getoption("--real-outcomes")
    if path is None or hasattr(config, "workerinput"):
        return
    # pytest closes the file when the session is unconfigured; what was written then is whole.
    file = Path(path).open("wb")  # noqa: SIM115  # open as long as the session
    config.add_cleanup(file.close)
    config.pluginmanager.register(Recorder(config, file), "real-outcomes")
