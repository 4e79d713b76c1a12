"""A worker's pytest session: how it is configured, and told from others in its process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from _pytest.config import _prepareconfig

from snapfarm_worker.jobs import enter

if TYPE_CHECKING:
    import pytest

    from snapfarm_worker.blackbox import BlackBox
    from snapfarm_worker.items import ItemDatabases
    from snapfarm_worker.jobs import PytestJob
    from snapfarm_worker.link import Link

#: The plugin by which a worker's session can be told from others in its process.
RUNNER_PLUGIN = "farm-items"

_preparing = False


def apply_environment(job: PytestJob) -> None:
    """Set what suites and plugins expect in a worker's process before anything is imported."""
    enter(job)
    given = job.worker_input
    os.environ["PYTEST_XDIST_TESTRUNUID"] = str(given["testrunuid"])
    os.environ["PYTEST_XDIST_WORKER"] = str(given["workerid"])
    os.environ["PYTEST_XDIST_WORKER_COUNT"] = str(given["workercount"])


def run_session(
    job: PytestJob,
    link: Link,
    box: BlackBox,
    databases: ItemDatabases,
    plugins: Mapping[str, object],
) -> int:
    """Run a pytest session; return its exit status.

    `databases` and further plugins are registered before the session is configured. Raises what
    pytest raises while it is being configured (UsageError, ConftestImportFailure, SystemExit …).
    """
    # Plain pytest runs ask this module who they are; only workers need the rest.
    from snapfarm_worker.blackbox import Phase
    from snapfarm_worker.items import ItemRunner

    box.write(Phase.IMPORTING, "")
    with _configuring():
        config = _prepareconfig(list(job.args), list(job.plugins))
    _neutralize_options(config, job)
    config.workerinput = job.worker_input  # type: ignore[attr-defined]  # the xdist contract
    config.workeroutput = {}  # type: ignore[attr-defined]  # the xdist contract
    config.pluginmanager.register(databases, "farm-databases")
    for name, plugin in plugins.items():
        config.pluginmanager.register(plugin, name)
    config.pluginmanager.register(ItemRunner(config, link, box, databases), RUNNER_PLUGIN)
    status = config.hook.pytest_cmdline_main(config=config)
    return int(status)


@contextlib.contextmanager
def _configuring() -> Iterator[None]:
    global _preparing  # one session is prepared at a time, by the main thread
    _preparing = True
    try:
        yield
    finally:
        _preparing = False


def is_worker_session(config: pytest.Config) -> bool:
    """Whether a session is the worker's own, also while its first options are being parsed.

    Tests may call pytest in the worker's process too: those sessions are not.
    """
    return _preparing or config.pluginmanager.has_plugin(RUNNER_PLUGIN)


def _neutralize_options(config: pytest.Config, job: PytestJob) -> None:
    """Switch off what a worker's session must not do again: distribute, debug, share a basetemp."""
    # Those of xdist also where it is not installed: conftests ask for them in workers.
    vars(config.option).update(
        looponfail=False,
        usepdb=False,
        dist="no",
        distload=False,
        numprocesses=None,
        maxprocesses=None,
        tx=[],
        basetemp=job.base_temp,
    )
    if not job.counts_failures:
        config.option.maxfail = 0
    config._parser.prog = job.prog  # noqa: SLF001  # xdist does the same: it is in usage errors
