"""The golden databases of a Django project, for commands that run no tests.

Which settings a Django project has is pytest-django's to say. So pytest is asked as a run would ask
it: it reads its configuration, loads plugins and first conftests, and ends before it collects.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from snapfarm.databases import with_django_databases
from snapfarm.errors import ConfigError, UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from snapfarm.config import FarmConfig


def with_those_of_django(config: FarmConfig, say: Callable[[str], None]) -> FarmConfig:
    """Return a configuration with the golden databases that a run of its root would find.

    What conftests print goes to stderr; `say` is told why Django's databases are none. Raises
    UserError.
    """
    insists = config.django.use == "on"
    if not config.takes_django or not (insists or find_spec("pytest_django")):
        return config
    asks = _Asks(config, say)
    # Our plugin by its name, as `farm run` has it: pytest may have been told to load no others. All
    # options of pytest's own stay on, as they may stand in the project's `addopts`.
    arguments = ["-p", "snapfarm", "--farm=0", f"--rootdir={config.root}", "-s"]
    if config.source is not None:
        arguments.append(f"--farm-config={config.source}")
    with contextlib.chdir(config.root), contextlib.redirect_stdout(sys.stderr):
        ended = _end_of(arguments, asks)
    if asks.error is not None:
        raise asks.error
    if asks.found is None:
        raise ConfigError(
            f"{config.root}: pytest could not be configured ({ended}), so nobody can tell which "
            "databases Django has: see what it says above"
        )
    return asks.found


def _end_of(arguments: list[str], asks: _Asks) -> str:
    """Have pytest asked, and tell how that ended: a conftest, or settings, may end it anyhow."""
    try:
        return f"exit code {int(pytest.main(arguments, plugins=[asks]))}"
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"


class _Asks:
    """A plugin that looks for databases in the place of running tests."""

    def __init__(self, config: FarmConfig, say: Callable[[str], None]) -> None:
        self._config = config
        self._say = say
        self.found: FarmConfig | None = None
        self.error: UserError | None = None

    @pytest.hookimpl(wrapper=True)
    def pytest_load_initial_conftests(
        self, early_config: pytest.Config
    ) -> Generator[None, object, object]:
        """Let pytest-cov measure nothing: it would begin by removing what was measured before."""
        # That is decided here, by one option, which stands in the `addopts` of many a project.
        known = early_config.known_args_namespace
        if getattr(known, "cov_source", None):
            known.cov_source = []
        return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> int:
        """Look, and end."""
        try:
            self.found = with_django_databases(config, self._config, self._say)
        except UserError as error:
            self.error = error
        return 0
