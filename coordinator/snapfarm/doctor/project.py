"""Reads what a project wants of a farm; nothing of it is imported or run."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from snapfarm.config import FarmConfig
from snapfarm.doctor.facts import Golden, Plugin, Project
from snapfarm.golden.cache import GoldenCache
from snapfarm.init.survey import survey
from snapfarm.workers import cores, processors

#: pytest's own, and ours.
_OURS = {"pytest", "snapfarm"}


def read_project(config: FarmConfig) -> Project:
    """Return what the configuration and the files of its root say."""
    facts = survey(config.root.resolve())
    plugins = _plugins()
    with_django = config.takes_django and any(one.name == "pytest-django" for one in plugins)
    return Project(
        root=str(config.root),
        source=str(config.source or ""),
        workers=_count(config),
        start_method=config.start_method,
        golden=tuple(
            Golden(name=each.name, ring=each.ring or config.ring, size=_size(config, each.name))
            for each in config.golden
        ),
        plugins=plugins,
        engines=facts.engines,
        django=facts.django.settings if facts.django and with_django else "",
    )


def _count(config: FarmConfig) -> int:
    if isinstance(config.workers, int):
        return config.workers
    return processors() if config.workers == "logical" else cores()


def _size(config: FarmConfig, name: str) -> int | None:
    entry = GoldenCache(Path(config.cache_path), name).latest()
    return entry.manifest.size if entry is not None else None


def _plugins() -> tuple[Plugin, ...]:
    found = {
        point.dist.name: point.dist.version
        for point in importlib.metadata.entry_points(group="pytest11")
        if point.dist is not None
    }
    return tuple(
        Plugin(name.lower().replace("_", "-"), found[name])
        for name in sorted(found)
        if name not in _OURS
    )
