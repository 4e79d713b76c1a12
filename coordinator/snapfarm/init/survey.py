"""Walks over a project's files and says what databases they are about; imports and runs nothing."""

from __future__ import annotations

import configparser
import itertools
import os
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from snapfarm.config_alembic import AlembicConfig
from snapfarm.errors import ConfigError
from snapfarm.golden.alembic_files import alembic_files
from snapfarm.golden.sources import file_parts, project_search, resolved, source_parts, spec_of
from snapfarm.init import syntax
from snapfarm.init.facts import (
    AlembicFact,
    DjangoFact,
    Facts,
    FileFact,
    Holder,
    MetadataFact,
    PytestFact,
    ScriptFact,
)
from snapfarm.init.syntax import Defined, Source

#: Folders that hold nothing of the project's own.
_SKIPPED = {"node_modules", "site-packages", "__pycache__", "build", "dist", "venv", "env"}
#: Files that are looked at: a project with more is a sign of a folder that should be skipped.
_MOST_FILES = 50_000
_MOST_BYTES = 2_000_000
#: Imports that are followed to where a name is defined.
_MOST_IMPORTS = 20
_DATABASES = {".sqlite", ".sqlite3", ".db", ".db3"}
_HEADER = b"SQLite format 3\0"
_CREATES = re.compile(r"(?i)\bCREATE\s+(?:VIRTUAL\s+)?TABLE\b")
_DEFINES = re.compile(
    r"(?i)\b(?:CREATE|ALTER|DROP)\s+(?:\w+\s+){0,2}?(?:TABLE|VIEW|TRIGGER|INDEX)\b"
)
_INSERTS = re.compile(r"(?i)\b(?:INSERT|REPLACE)\s+(?:OR\s+\w+\s+)?INTO\b")
_COMMENTS = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
#: Where pytest looks for settings, in its order; the section in files of the kind of setup.cfg.
_PYTEST = (
    ("pytest.toml", "pytest"), (".pytest.toml", "pytest"), ("pytest.ini", "pytest"),
    (".pytest.ini", "pytest"), ("pyproject.toml", "tool.pytest"), ("tox.ini", "pytest"),
    ("setup.cfg", "tool:pytest"),
)  # fmt: skip


class Survey:
    """The files of a project, and what was read of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.search = project_search(root)
        self.notes: list[str] = []
        #: Python files by their path relative to the root.
        self.sources: dict[str, Source] = {}
        self.scripts: list[ScriptFact] = []
        self.files: list[FileFact] = []
        self.ini_files: list[str] = []
        self._modules: dict[str, str] = {}

    def facts(self) -> Facts:
        """Return what there is."""
        self._read_all()
        pytest, options = _pytest_settings(self.root)
        alembic = tuple(self._alembic())
        return Facts(
            pytest=pytest,
            alembic=alembic,
            metadata=tuple(self._metadata()),
            scripts=tuple(self.scripts),
            files=tuple(self.files),
            fixtures=tuple(each for found in self.sources.values() for each in found.fixtures),
            engines=tuple(each for found in self.sources.values() for each in found.engines),
            django=self._django(options),
            modules=len(self.sources),
            notes=tuple(self.notes),
        )

    def _read_all(self) -> None:
        for count, path in enumerate(_walk(self.root)):
            if count >= _MOST_FILES:
                self.notes.append(f"looked at the first {_MOST_FILES} files only")
                return
            name = path.relative_to(self.root).as_posix()
            try:
                self._read(path, name)
            except OSError as error:
                self.notes.append(f"{name} can't be read: {error.strerror or error}")

    def _read(self, path: Path, name: str) -> None:
        suffix = path.suffix.lower()
        if suffix in _DATABASES:
            with path.open("rb") as file:
                if file.read(len(_HEADER)) == _HEADER:
                    self.files.append(FileFact(name, path.stat().st_size))
        elif path.name == "alembic.ini":
            self.ini_files.append(name)
        elif suffix in {".py", ".sql"} and path.stat().st_size <= _MOST_BYTES:
            text = path.read_text("utf-8-sig", errors="replace")
            if suffix == ".sql":
                bare = _COMMENTS.sub(" ", text)
                creates = len(_CREATES.findall(bare))
                inserts, defines = bool(_INSERTS.search(bare)), bool(_DEFINES.search(bare))
                self.scripts.append(ScriptFact(name, creates, inserts, defines))
                return
            try:
                self.sources[name] = syntax.read(text, name)
            except (SyntaxError, ValueError, RecursionError):
                self.notes.append(f"{name} is no Python that this interpreter can read")

    # ------------------------------------------------------------ Alembic

    def _alembic(self) -> Iterator[AlembicFact]:
        names = list(self.ini_files)
        if not any("/" not in name for name in names) and _table(
            self.root / "pyproject.toml", "tool", "alembic"
        ):
            names.append("pyproject.toml")
        for name in names:
            config = AlembicConfig(config=str(self.root / name))
            try:
                found = alembic_files(name, config, self.root, self.search)
                search = (*found.prepended, *self.search)
                imported = file_parts([found.env], self.root, search)
            except ConfigError as error:
                yield AlembicFact(path=name, revisions=0, env="", fault=str(error))
                continue
            env = os.path.relpath(found.env, self.root).replace(os.sep, "/")
            own = self.sources.get(env, Source())
            others = [
                self.sources[path]
                for path in (part.removeprefix("module ") for part in imported)
                if path in self.sources and path != env
            ]
            variables = own.variables or tuple(
                dict.fromkeys(name for each in others for name in (*each.variables, *each.fields))
            )
            yield AlembicFact(
                path=name,
                revisions=sum(path.suffix == ".py" for path in found.versions()),
                env=env,
                variables=variables,
                x_keys=own.x_keys,
                asynchronous=own.asynchronous,
            )

    # ------------------------------------------------------------ SQLAlchemy

    def _metadata(self) -> Iterator[MetadataFact]:
        """Yield the holders of tables, those with the most tables first."""
        found = [
            (path, each)
            for path, source in self.sources.items()
            for each in source.holders
            if not _is_test(path)
        ]
        models = [path for path, source in self.sources.items() if _sql_models(source)]
        if models:
            found.append((models[0], Defined("SQLModel", "SQLModel", 1)))
        facts = [self._holder(path, defined) for path, defined in found]
        yield from sorted(
            (fact for fact in facts if fact.tables), key=lambda fact: (-fact.tables, fact.path)
        )

    def _holder(self, path: str, defined: Defined) -> MetadataFact:
        """Say where the tables of a holder are, and which module brings them all."""
        tables = self._tables_of((path, defined.name), defined.kind)
        target, missing = self._target((path, defined.name), tables)
        return MetadataFact(
            path=path,
            line=defined.line,
            name=defined.name,
            kind=defined.kind,
            tables=sum(map(len, tables.values())),
            target=target,
            missing=missing,
        )

    def _tables_of(self, holder: tuple[str, str], kind: Holder) -> dict[str, set[str]]:
        """Return the tables of a holder by file.

        A class belongs to it directly, or by way of a class that does.
        """
        family = {holder}
        grown = True
        while grown:
            before = len(family)
            for path, source in self.sources.items():
                for name, base in source.bases:
                    of_models = kind == "SQLModel" and base == "SQLModel"
                    if of_models or self._origin(path, base) in family:
                        family.add((path, name))
            grown = len(family) > before
        tables: dict[str, set[str]] = {}
        for path, name in family:
            own = not _is_test(path) and not _is_revision(path)
            if own and name in self.sources[path].tables:
                tables.setdefault(path, set()).add(name)
        return tables

    def _origin(self, path: str, name: str) -> tuple[str, str] | None:
        """Return the file that defines what a file knows by a name, and its name there.

        Where that can't be followed: the only file of the project that has a holder of that name.
        """
        for _ in range(_MOST_IMPORTS):
            source = self.sources.get(path)
            if source is None or name not in source.imported:
                break
            module, name = source.imported[name]
            path = self._file(path, module)
        source = self.sources.get(path)
        if source is not None and name in source.names:
            return path, name
        found = [
            other
            for other, each in self.sources.items()
            if any(holder.name == name for holder in each.holders)
        ]
        return (found[0], name) if len(found) == 1 else None

    def _file(self, path: str, module: str) -> str:
        """Return the file of a module that a file imports; empty where it is not the project's."""
        package = self._module(path)
        if not path.endswith("__init__.py"):
            package = package.rpartition(".")[0]
        spec = spec_of(resolved(module, package) or module, self.search)
        origin = None if spec is None else spec.origin
        inside = origin is not None and Path(origin).is_relative_to(self.root)
        return Path(origin or "").relative_to(self.root).as_posix() if inside else ""

    def _target(
        self, holder: tuple[str, str], tables: Mapping[str, set[str]]
    ) -> tuple[str, tuple[str, ...]]:
        """Return the `module:attribute` whose import brings the most tables, and what it misses.

        Of those that bring as many: the file of the holder, else the one that imports the least.
        """
        best: tuple[tuple[int, bool, int], str, tuple[str, ...]] | None = None
        for other, source in self.sources.items():
            if _is_test(other) or _is_revision(other):
                continue
            known = holder[1] in source.names and (
                other == holder[0] or self._origin(other, holder[1]) == holder
            )
            attribute = holder[1] if known else min(tables.get(other, ()), default="")
            module = self._module(other) if attribute else ""
            if not module:
                continue
            brought = {
                part.removeprefix("module ")
                for part in source_parts(module, self.root, self.search)
            }
            missing = tuple(sorted(file for file in tables if file not in brought))
            count = sum(len(names) for file, names in tables.items() if file in brought)
            rank = (-count, other != holder[0], len(brought))
            if count and (best is None or rank < best[0]):
                best = rank, f"{module}:{attribute}", missing
        return ("", tuple(sorted(tables))) if best is None else best[1:]

    def _module(self, path: str) -> str:
        """Return the name under which a file is imported, from the root or as installed, or ""."""
        if path not in self._modules:
            self._modules[path] = self._module_name(path)
        return self._modules[path]

    def _module_name(self, path: str) -> str:
        parts = path.removesuffix(".py").removesuffix("/__init__").split("/")
        for start in range(len(parts)):
            name = ".".join(parts[start:])
            if not all(part.isidentifier() for part in parts[start:]):
                continue
            spec = spec_of(name, self.search)
            if spec is not None and spec.origin == str(self.root / path):
                return name
        return ""

    # ------------------------------------------------------------ Django

    def _django(self, options: Mapping[str, str]) -> DjangoFact | None:
        settings, path = options.get("DJANGO_SETTINGS_MODULE", ""), "pytest's settings"
        if not settings:
            for name, source in self.sources.items():
                if source.django_settings and name.rpartition("/")[2] == "manage.py":
                    settings, path = source.django_settings, name
                    break
        if not settings:
            return None
        spec = spec_of(settings, self.search)
        origin = None if spec is None else spec.origin
        text = ""
        if origin and Path(origin).is_file():
            text = Path(origin).read_text("utf-8", errors="replace")
        return DjangoFact(settings, path, "backends.sqlite3" in text)


def survey(root: Path) -> Facts:
    """Return what there is of databases and tests in a project's folder, which is absolute."""
    return Survey(root).facts()


def _sql_models(source: Source) -> bool:
    """Whether a file has tables of SQLModel."""
    return any(base == "SQLModel" and name in source.tables for name, base in source.bases)


def _walk(root: Path) -> Iterator[Path]:
    """Yield all files in the order of their names, without those of environments and tools."""
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and name not in _SKIPPED
            and not name.endswith(".egg-info")
            and not (here / name / "pyvenv.cfg").exists()
        )
        yield from (here / name for name in sorted(files) if not name.startswith("."))


def _is_test(path: str) -> bool:
    *folders, name = path.split("/")
    return (
        name.startswith("test_")
        or name in {"conftest.py", "tests.py"}
        or any(folder in {"test", "tests", "testing"} for folder in folders)
    )


def _is_revision(path: str) -> bool:
    return "/versions/" in f"/{path}" or path.endswith("/env.py")


def _table(path: Path, *keys: str) -> Mapping[str, object]:
    """Return a table of a TOML file; an empty one where there is none."""
    try:
        found: object = tomllib.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError):
        return {}
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


# ---------------------------------------------------------------- pytest


def _pytest_settings(root: Path) -> tuple[PytestFact | None, Mapping[str, str]]:
    """Return where pytest's settings are, and the settings as texts."""
    for name, section in _PYTEST:
        if not (root / name).is_file():
            continue
        options: Mapping[str, object]
        if name.endswith(".toml"):
            options = _table(root / name, *section.split("."))
            inner = options.get("ini_options")
            options = {**options, **inner} if isinstance(inner, dict) else options
        else:
            parser = configparser.ConfigParser(interpolation=None)
            parser.optionxform = str  # type: ignore[assignment,method-assign]  # as documented
            try:
                parser.read(root / name, "utf-8")
            except (configparser.Error, ValueError):
                continue
            options = dict(parser[section]) if parser.has_section(section) else {}
        if options or name.endswith("pytest.ini"):
            addopts = options.get("addopts", "")
            words = list(map(str, addopts)) if isinstance(addopts, list) else _split(str(addopts))
            texts = {key: str(value) for key, value in options.items()}
            return PytestFact(name, tuple(words), *_workers(words)), texts
    return None, {}


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return []


def _workers(words: Sequence[str]) -> tuple[str | None, str | None]:
    """Return what options of pytest-xdist say of workers and of distribution."""
    workers = dist = None
    for word, following in itertools.pairwise([*words, ""]):
        if word in {"-n", "--numprocesses"}:
            workers = following
        elif found := re.fullmatch(r"(?:-n|--numprocesses=)(\w+)", word):
            workers = found[1]
        elif word == "--dist":
            dist = following
        elif word.startswith("--dist="):
            dist = word.partition("=")[2]
    return workers, dist
