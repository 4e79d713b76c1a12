"""The table `[reports]` of a configuration: which reports a run writes at its end, and where."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, cast, get_type_hints

import msgspec

from snapfarm.config_values import NotEmpty, absolute, checked, did_you_mean
from snapfarm.errors import ConfigError


class ReportsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files that are written at the end of each run, by format; None writes none."""

    html: NotEmpty | None = None
    junit: NotEmpty | None = None
    json: NotEmpty | None = None
    markdown: NotEmpty | None = None
    text: NotEmpty | None = None
    gitlab: NotEmpty | None = None
    #: Seconds that all reports together may take, after which the run ends without the rest.
    timeout: Annotated[float, msgspec.Meta(gt=0)] = 60.0

    @property
    def files(self) -> dict[str, str]:
        """The files by their format."""
        return {
            name: value
            for name in self.__struct_fields__
            if name != "timeout" and isinstance(value := getattr(self, name), str)
        }


_TYPES = get_type_hints(ReportsConfig, include_extras=True)


def reports_config(where: str, value: object, base: Path) -> ReportsConfig:
    """Return the table, its paths taken from `base`. Raises ConfigError."""
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected a table, such as html = 'farm.html', got {value!r}")
    fields: dict[str, object] = {}
    for key, given in cast("Mapping[str, object]", value).items():
        if key not in _TYPES:
            raise ConfigError(f"{where}.{key}: unknown key{did_you_mean(key, _TYPES)}")
        found = checked(f"{where}.{key}", given, _TYPES[key])
        fields[key] = absolute(f"{where}.{key}", found, base) if isinstance(found, str) else found
    return ReportsConfig(**fields)  # type: ignore[arg-type]  # `checked` saw each value
