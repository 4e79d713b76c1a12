"""Which golden databases a pytest session has: those of its configuration, and Django's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snapfarm.errors import ConfigError, GoldenError
from snapfarm_worker.wire import DjangoOrder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from snapfarm.config import FarmConfig
    from snapfarm.config_django import DjangoGolden
    from snapfarm.serving import Served

#: The names of pytest-django as a plugin: of its entry point and, with `-p`, of its modules.
_PYTEST_DJANGO = ("django", "pytest_django", "pytest_django.plugin")


def served(
    config: pytest.Config, settings: FarmConfig, *, scratch: Path | None, say: Callable[[str], None]
) -> Served | None:
    """Return the golden databases of a session, ready to be sent; None where it has none.

    Those of a Django project that did not ask for them are left to Django where they can't be had.
    Raises UserError.
    """
    rebuild = bool(config.getoption("rebuild_golden", None))
    with_django = with_django_databases(config, settings, say)
    if not with_django.golden:
        return None
    from snapfarm import serving  # a farm without databases does without it

    rebuild = rebuild or (with_django is not settings and bool(config.getoption("create_db", None)))
    try:
        return serving.serve(with_django, rebuild=rebuild, scratch=scratch, say=say)
    except GoldenError as error:
        if settings.golden or settings.django.use == "on":
            raise
        say(f"golden  of Django: none, its workers migrate as ever, since {error}")
        return None


def with_django_databases(
    config: pytest.Config, settings: FarmConfig, say: Callable[[str], None]
) -> FarmConfig:
    """Return the settings with golden databases for those of a Django project, if it has any.

    By itself that is so where pytest-django is on and no golden database was declared. Raises
    UserError where it was asked for and can't be.
    """
    if not settings.takes_django:
        return settings
    use = settings.django.use
    if not any(map(config.pluginmanager.has_plugin, _PYTEST_DJANGO)):
        if use == "on":
            raise ConfigError(
                f"{settings.source or settings.root}: django: pytest-django is not installed, or "
                f"switched off: python -m pip install pytest-django"
            )
        return settings
    from snapfarm.golden.django_project import NotGolden, with_django

    try:
        return with_django(settings, migrations=not config.getoption("nomigrations", False))
    except NotGolden as why:
        if use == "on":
            reason = str(why) or "there are no settings with a SQLite database in this session"
            raise ConfigError(
                f"{settings.source or settings.root}: django: its databases can't be golden ones: "
                f"{reason}"
            ) from None
        if str(why):
            say(f"golden  of Django: none, its workers migrate as ever, since {why}")
        return settings


def django_order(golden: DjangoGolden) -> DjangoOrder:
    """Return what a process that runs tests has to know of a database of Django's."""
    return DjangoOrder(golden.alias, golden.project.shape, golden.restore)
