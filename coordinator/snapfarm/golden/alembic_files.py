"""Where a configuration of Alembic has its files, found without importing Alembic or any of them.

The rules are those of `alembic.script.ScriptDirectory.from_config`: alembic.ini comes first, then
the table `[tool.alembic]` of a pyproject.toml beside it.
"""

from __future__ import annotations

import configparser
import os
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from snapfarm.config_alembic import AlembicConfig
from snapfarm.errors import ConfigError
from snapfarm.golden.sources import spec_of

_SEPARATORS = {"space": " ", "newline": "\n", "os": os.pathsep, ":": ":", ";": ";"}
_LEGACY_LOCATIONS = re.compile(r", *|(?: +)")
_LEGACY_PATHS = re.compile(r", *|(?: +)|\:")


class AlembicFiles(msgspec.Struct, frozen=True):
    """What a configuration of Alembic leads to; all paths are absolute."""

    #: The configuration itself: alembic.ini, pyproject.toml, or both.
    configuration: tuple[Path, ...]
    #: The folder of env.py.
    script: Path
    #: The folders of version scripts.
    locations: tuple[Path, ...]
    #: What `prepend_sys_path` puts before the path of modules.
    prepended: tuple[str, ...]

    @property
    def env(self) -> Path:
        """The env.py."""
        return self.script / "env.py"

    def versions(self) -> list[Path]:
        """Return all files of the version locations, sorted: scripts, and what these may read."""
        return sorted({path for folder in self.locations for path in _files(folder)})


def alembic_files(
    where: str, alembic: AlembicConfig, root: Path, search: Sequence[str]
) -> AlembicFiles:
    """Return the files of a configuration; relative paths start in `root`, as for Alembic.

    Raises ConfigError, which starts with `where`, for files that do not exist.
    """
    options = _Options(where, Path(alembic.config), alembic.section)
    location = options.text("script_location")
    if not location:
        raise ConfigError(
            f"{where}: {alembic.config} has no key script_location; where Flask-Migrate sets it, "
            f"call flask_migrate.upgrade() in a callable of schema instead"
        )
    prepended = [
        os.path.normpath(root / path)
        for path in options.several("prepend_sys_path", _LEGACY_PATHS, "path_separator")
    ]
    search = (*prepended, *search)
    script = _folder(location, root, search)
    locations = options.several(
        "version_locations", _LEGACY_LOCATIONS, "path_separator", "version_path_separator"
    )
    folders = [_folder(each, root, search) for each in locations] or [script / "versions"]
    if not (script / "env.py").is_file():
        raise ConfigError(f"{where}: {script / 'env.py'} does not exist; {alembic.config} names it")
    return AlembicFiles(options.sources, script, tuple(folders), tuple(prepended))


def toml_beside(config: Path) -> Path | None:
    """Return the pyproject.toml that says something of Alembic beside an alembic.ini, if any."""
    path = config if config.suffix == ".toml" else config.with_name("pyproject.toml")
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    tool = document.get("tool")
    return path if isinstance(tool, dict) and "alembic" in tool else None


class _Options:
    """The options of alembic.ini and pyproject.toml."""

    def __init__(self, where: str, config: Path, section: str) -> None:
        self.where = where
        self.section = section
        self.here = config.parent.as_posix()
        self.ini = configparser.ConfigParser({"here": self.here.replace("%", "%%")})
        self.toml: dict[str, object] = {}
        if not config.is_file():
            what = "is a folder" if config.is_dir() else "does not exist"
            raise ConfigError(f"{where}: {config} {what}; expected the configuration of Alembic")
        sources = []
        toml = toml_beside(config)
        if config.suffix != ".toml":
            sources.append(config)
            try:
                self.ini.read(config, "utf-8")
            except (configparser.Error, ValueError) as error:
                raise ConfigError(f"{where}: {config} is no alembic.ini: {error}") from None
            if not self.ini.has_section(section) and toml is None:
                raise ConfigError(f"{where}: {config} has no section [{section}]")
        elif toml is None:
            raise ConfigError(f"{where}: {config} has no table [tool.alembic]")
        if toml is not None:
            sources.append(toml)
            self.toml = tomllib.loads(toml.read_text("utf-8"))["tool"]["alembic"]
        self.sources = tuple(sources)

    def text(self, name: str) -> str:
        """Return an option; empty where it is not set."""
        if self.ini.has_option(self.section, name):
            try:
                return self.ini.get(self.section, name)
            except configparser.Error as error:
                raise ConfigError(f"{self.where}: {name} of Alembic: {error}") from None
        return self._filled(self.toml.get(name, ""))

    def several(self, name: str, legacy: re.Pattern[str], *separators: str) -> list[str]:
        """Return an option that holds a list."""
        given = self.toml.get(name)
        if not self.ini.has_option(self.section, name) and isinstance(given, list):
            return [self._filled(each) for each in given]
        text = self.text(name)
        chosen = next(filter(None, map(self.text, separators)), "")
        parts = text.split(_SEPARATORS[chosen]) if chosen in _SEPARATORS else legacy.split(text)
        return [part.strip() for part in parts if part.strip()]

    def _filled(self, value: object) -> str:
        return str(value).replace("%(here)s", self.here)


def _folder(location: str, root: Path, search: Sequence[str]) -> Path:
    """Return a folder that is named by its path, or as `package:folder`."""
    if ":" not in location or os.path.isabs(location):  # noqa: PTH117  # as Alembic does
        return Path(os.path.normpath(root / location))
    package, *rest = location.split(":")
    spec = spec_of(package, search)
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(places[0], *rest) if places else root / location


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and "__pycache__" not in path.parts and path.is_file():
            yield path
