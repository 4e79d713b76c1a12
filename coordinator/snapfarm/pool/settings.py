"""What a pool is made with, checked as it is given."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import msgspec

from snapfarm.config import StartMethod
from snapfarm.config_golden import RingKind
from snapfarm.config_values import checked
from snapfarm.errors import ConfigError

__all__ = ["Isolation", "PoolSettings", "settings_of", "task_names"]

Isolation = Literal["worker", "thread", "task"]
_Positive = Annotated[int, msgspec.Meta(ge=1)]
_NotNegative = Annotated[int, msgspec.Meta(ge=0)]
_Seconds = Annotated[float, msgspec.Meta(ge=0)]
_PositiveSeconds = Annotated[float, msgspec.Meta(gt=0)]


class PoolSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a pool. Times in seconds, sizes in bytes; see `WorkerPool`."""

    workers: _Positive
    threads: _Positive
    isolation: Isolation
    ring: RingKind
    retries: _NotNegative
    task_timeout: _Seconds
    max_result_size: _Positive
    sensors: bool
    start_method: StartMethod
    start_timeout: _PositiveSeconds
    heartbeat_timeout: _PositiveSeconds
    stop_timeout: _PositiveSeconds = 10.0
    chunk_size: _Positive = 512 * 1024


def settings_of(values: Mapping[str, object]) -> PoolSettings:
    """Return checked settings. Raises ConfigError, which names the parameter."""
    found = dict(values)
    if found["workers"] is None:
        found["workers"] = len(os.sched_getaffinity(0))
    types = {field.name: field.type for field in msgspec.structs.fields(PoolSettings)}
    for name, value in found.items():
        checked(f"WorkerPool: {name}", value, types[name])
    return PoolSettings(**found)  # type: ignore[arg-type]  # they were checked


def task_names(tasks: Mapping[str, str] | Iterable[str] | None) -> dict[str, str] | None:
    """Return import paths of tasks by their name. Raises ConfigError."""
    if tasks is None:
        return None
    if isinstance(tasks, str) or not isinstance(tasks, Iterable):
        raise ConfigError(
            f"WorkerPool: tasks: expected import paths in a list or a mapping, got {tasks!r}"
        )
    named = dict(tasks) if isinstance(tasks, Mapping) else {path: path for path in tasks}
    for name, path in named.items():
        module, _, function = str(path).partition(":")
        if not (isinstance(name, str) and isinstance(path, str) and module and function):
            raise ConfigError(
                f"WorkerPool: tasks: expected import paths as 'module:function', got {path!r}"
            )
    return named
