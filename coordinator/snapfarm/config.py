"""The configuration of a farm: where it is looked for, what it may say, and how it is checked.

A value comes from the first of these that has it:

    flag of the command  >  FARM_<KEY> variable  >  configuration file  >  default

The file is the one that was named (`--config`, else the variable FARM_CONFIG), else `farm.toml`
of the root, else the table `[tool.farm]` of the root's pyproject.toml, else none.
In farm.toml the keys stand at top level. A root with both is refused: one of the two would be
ignored in silence.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, cast, get_type_hints

import msgspec

from snapfarm.config_django import DjangoConfig, django_config
from snapfarm.config_golden import (
    GOLDEN_KEYS,
    LAYER_KEYS,
    GoldenConfig,
    LayerConfig,
    ResetPolicy,
    RingKind,
    check_name,
    golden_config,
    layer_config,
    uri_variable,
)
from snapfarm.config_reports import ReportsConfig, reports_config
from snapfarm.config_values import (
    NotEmpty,
    Seconds,
    absolute,
    checked,
    did_you_mean,
    from_text,
    key_path,
)
from snapfarm.errors import ConfigError
from snapfarm_worker.anomaly import Action, AnomalyKind, AnomalyPolicy

Dist = Literal["load", "loadscope", "loadfile", "loadgroup", "worksteal"]
FlakyPolicy = Literal["pass", "fail", "quarantine"]
StartMethod = Literal["spawn", "forkserver", "fork"]

AnomalyAction = Literal["ignore", "report", "fail"]

PositiveSeconds = Annotated[float, msgspec.Meta(gt=0)]
AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[int, msgspec.Meta(ge=0)]
ChunkSize = Annotated[int, msgspec.Meta(ge=4096, le=64 * 1024 * 1024)]


class FarmConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The configuration of one farm; every path in it that came from a file is absolute."""

    #: The project's folder: working directory of builders, first entry of their import path.
    root: Path
    #: The file that this was read from; None when there was none.
    source: Path | None = None
    #: Number of worker processes; "auto" counts physical cores, "logical" all.
    workers: AtLeastOne | Literal["auto", "logical"] = "auto"
    #: How items stay together when they are handed out.
    dist: Dist = "load"
    #: Kind of the rings; a golden database may name its own.
    ring: RingKind = "shared-cache"
    #: When rings go back to the golden state; a golden database may name its own.
    reset: ResetPolicy = "test"
    #: How worker processes are started.
    start_method: StartMethod = "forkserver"
    #: Seconds that one test may take; 0 means no limit.
    test_timeout: Seconds = 0.0
    #: Dead workers that are replaced in one run; None takes the run's own rule.
    max_worker_restart: NotNegative | None = None
    #: Seconds of silence after which a worker counts as lost.
    heartbeat_timeout: PositiveSeconds = 10.0
    #: Seconds that a worker may take from its start until it is ready.
    start_timeout: PositiveSeconds = 120.0
    #: Seconds that a worker may take to end before it is killed.
    stop_timeout: PositiveSeconds = 10.0
    #: Bytes of one chunk of a snapshot broadcast.
    chunk_size: ChunkSize = 512 * 1024
    #: Folder of everything that a farm keeps between runs, relative to the root.
    cache_dir: NotEmpty = ".farm"
    #: File for the JSON report; None writes none.
    report: NotEmpty | None = None
    #: Reports that are written at the end of a run.
    reports: ReportsConfig = ReportsConfig()
    #: Runs whose report is kept in the cache folder; 0 keeps none.
    keep_runs: NotNegative = 20
    #: Megabytes of databases that are kept of failed tests, the oldest removed first; 0 keeps none.
    keep_failures: NotNegative = 200
    #: Columns, as table.column, whose values are blanked in kept databases and in reports.
    redact: tuple[NotEmpty, ...] = ()
    #: Whether a run on GitHub Actions adds to the job's summary, and annotates failures.
    github: Literal["auto", "off"] = "auto"
    #: How closely database connections are watched for anomalies.
    sensors: Literal["full", "light", "off"] = "full"
    #: How often a test that fails runs again; how it ends last is what counts.
    reruns: NotNegative = 0
    #: Whether a test that has failed and then passed fails the run: never, always, or unless it is
    #: in the quarantine file.
    flaky: FlakyPolicy = "pass"
    #: The file with tests that may fail for now; relative to the root.
    quarantine: NotEmpty = "quarantine.toml"
    #: Whether a run ends with a verdict on why tests failed, for which they run again.
    verdicts: Literal["on", "off"] = "off"
    #: Whether attempts are kept in the history of the cache folder.
    history: Literal["on", "off"] = "on"
    #: Whether a test fails of which an anomaly was observed that is an error.
    anomalies: Literal["report", "fail"] = "report"
    #: What becomes of anomalies of some kinds, whatever `anomalies` says.
    anomaly_kinds: dict[AnomalyKind, AnomalyAction] = {}
    #: Whether the databases of a Django project are golden ones, and how.
    django: DjangoConfig = DjangoConfig()
    #: The golden databases, in the order in which the file declares them.
    golden: tuple[GoldenConfig, ...] = ()
    #: Layers on top of them, as the file declares them; `declared_layers` adds those of modules.
    layers: tuple[LayerConfig, ...] = ()
    #: Modules in which functions with `@snapfarm.layer` are looked for.
    layer_modules: tuple[NotEmpty, ...] = ()

    @property
    def anomaly_policy(self) -> AnomalyPolicy:
        """What becomes of anomalies."""
        kinds = {kind: Action(action) for kind, action in self.anomaly_kinds.items()}
        return AnomalyPolicy(Action(self.anomalies), kinds)

    @property
    def cache_path(self) -> Path:
        """The folder of `cache_dir`."""
        return self.root / self.cache_dir

    @property
    def takes_django(self) -> bool:
        """Whether databases of Django are golden ones, where there is a Django project."""
        use = self.django.use
        return use == "on" or (use == "auto" and not self.golden)

    @property
    def redacted(self) -> tuple[str, ...]:
        """The columns of `redact` in lower case, as they are compared."""
        return tuple(name.lower() for name in self.redact)

    @property
    def history_path(self) -> Path:
        """The file of the history."""
        return self.cache_path / "history.sqlite"


#: Keys whose values are tables, or lists of a file alone.
_TABLES = ("django", "reports", "golden", "layers", "layer_modules", "anomaly_kinds")
#: Keys of the farm that a file, a variable or a flag may set.
FARM_KEYS = tuple(
    name for name in FarmConfig.__struct_fields__ if name not in {"root", "source", *_TABLES}
)
_PATH_KEYS = frozenset({"cache_dir", "report", "quarantine"})
_FARM_TYPES = get_type_hints(FarmConfig, include_extras=True)


def load_config(
    root: Path,
    *,
    explicit: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> FarmConfig:
    """Return the configuration of the project in `root`.

    `explicit` is the file of `--config`; `overrides` are flags by key, None meaning "not given".
    Paths in a file are relative to its folder, those of variables and flags to the working
    directory. Raises ConfigError.
    """
    environ = os.environ if environ is None else environ
    root = Path(absolute("root", str(root), Path.cwd()))
    source, table, prefix = _table(root, explicit, environ)
    values: dict[str, object] = {}
    if source is not None:
        values = _read_table(source, table, prefix)
    values |= _read_variables(environ)
    if environ.get("FARM_DJANGO"):
        asked = django_config("variable FARM_DJANGO", environ["FARM_DJANGO"], Path.cwd())
        found = values.get("django", DjangoConfig())
        values["django"] = msgspec.structs.replace(cast("DjangoConfig", found), use=asked.use)
    values |= _read_overrides(overrides or {})
    fields = {"root": root, "source": source, **values}
    return FarmConfig(**fields)  # type: ignore[arg-type]  # `checked` saw each value


def _table(
    root: Path, explicit: Path | None, environ: Mapping[str, str]
) -> tuple[Path | None, Mapping[str, object], str]:
    """Return the file, its farm table, and what stands before a key of it in messages."""
    if explicit is not None or environ.get("FARM_CONFIG"):
        named_by = "--config" if explicit is not None else "the variable FARM_CONFIG"
        path = Path(absolute(named_by, str(explicit or environ["FARM_CONFIG"]), Path.cwd()))
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise ConfigError(f"{path}: {what}; {named_by} expects a TOML file")
        if path.name != "pyproject.toml":
            return path, _own_table(path), ""
        table = _tool_table(path, _parse(path))
        if table is None:
            raise ConfigError(f"{path}: has no table [tool.farm], yet {named_by} names it")
        return path, table, "tool.farm"
    own, shared = root / "farm.toml", root / "pyproject.toml"
    if own.is_file():
        if shared.is_file() and _declares_farm(shared):
            raise ConfigError(
                f"{own} and the table [tool.farm] of {shared} both configure the farm: keep one of "
                f"them, or name the one to use with --config"
            )
        return own, _own_table(own), ""
    if shared.is_file():
        table = _tool_table(shared, _parse(shared))
        if table is not None:
            return shared, table, "tool.farm"
    return None, {}, ""


def _parse(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 at byte {error.start}; TOML has to be") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is no valid TOML: {_lowered(str(error))}") from error


def _own_table(path: Path) -> Mapping[str, object]:
    table = _parse(path)
    tool = table.get("tool")
    if isinstance(tool, dict) and "farm" in tool:
        raise ConfigError(
            f"{path}: [tool.farm] is for pyproject.toml; in this file the keys stand at top level: "
            f"write [golden.<name>] instead of [tool.farm.golden.<name>]"
        )
    return table


def _tool_table(path: Path, document: Mapping[str, object]) -> Mapping[str, object] | None:
    tool = document.get("tool")
    farm = tool.get("farm") if isinstance(tool, dict) else None
    if farm is None:
        return None
    if not isinstance(farm, dict):
        raise ConfigError(f"{path}: tool.farm: expected a table, got {farm!r}")
    return farm


def _declares_farm(pyproject: Path) -> bool:
    try:
        return _tool_table(pyproject, _parse(pyproject)) is not None
    except ConfigError:
        # A broken pyproject.toml is not ours to report while farm.toml says everything.
        return False


def _read_table(source: Path, table: Mapping[str, object], prefix: str) -> dict[str, object]:
    known = (*FARM_KEYS, *_TABLES)
    values: dict[str, object] = {}
    for key, value in table.items():
        if key not in known:
            raise ConfigError(
                f"{source}: {key_path(prefix, key)}: unknown key{did_you_mean(key, known)}"
            )
        where = f"{source}: {key_path(prefix, key)}"
        if key == "django":
            values[key] = django_config(where, value, source.parent)
        elif key == "reports":
            values[key] = reports_config(where, value, source.parent)
        elif key not in {"golden", "layers", "anomaly_kinds"}:
            value = checked(where, value, _FARM_TYPES[key])
            values[key] = _located(where, key, value, source.parent)
    golden, where = _tables(source, table, key_path(prefix, "golden"))
    values["golden"] = tuple(_read_golden(source, golden, where))
    kinds, where = _tables(source, table, key_path(prefix, "anomaly_kinds"))
    values["anomaly_kinds"] = dict(_anomaly_kinds(f"{source}: {where}", kinds))
    layers, where = _tables(source, table, key_path(prefix, "layers"))
    values["layers"] = tuple(
        layer_config(f"{source}: {key_path(where, name)}", name, one, source.parent)
        for name, one in _only_tables(source, layers, where, LAYER_KEYS)
    )
    return values


def _anomaly_kinds(where: str, table: Mapping[str, object]) -> Iterator[tuple[AnomalyKind, object]]:
    known = [str(kind) for kind in AnomalyKind]
    for name, action in table.items():
        if name not in known:
            hint = did_you_mean(name, known)
            raise ConfigError(f"{where}: {name!r} is no kind of anomaly{hint}")
        at = key_path(where, name)
        yield AnomalyKind(name), checked(at, action, AnomalyAction)


def _tables(
    source: Path, table: Mapping[str, object], where: str
) -> tuple[Mapping[str, object], str]:
    """Return what stands in the tables below a key, and the key."""
    declared = table.get(where.rpartition(".")[2], {})
    if not isinstance(declared, dict):
        raise ConfigError(f"{source}: {where}: expected tables [{where}.<name>], got {declared!r}")
    return declared, where


def _only_tables(
    source: Path, declared: Mapping[str, object], prefix: str, keys: Iterable[str]
) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the tables below a key; `keys` are what may have been meant to stand in one."""
    for name, table in declared.items():
        if not isinstance(table, dict):
            hint = f"; settings belong into a table [{prefix}.<name>]" if name in keys else ""
            at = f"{source}: {key_path(prefix, name)}"
            raise ConfigError(f"{at}: expected a table, got {table!r}{hint}")
        yield name, table


def _read_golden(
    source: Path, declared: Mapping[str, object], prefix: str
) -> Iterator[GoldenConfig]:
    variables: dict[str, str] = {}
    for name, table in _only_tables(source, declared, prefix, GOLDEN_KEYS):
        at = f"{source}: {key_path(prefix, name)}"
        check_name(at, name)
        other = variables.setdefault(uri_variable(name), name)
        if other != name:
            raise ConfigError(
                f"{at}: two databases of one name: {other!r} and {name!r} would share the variable "
                f"{uri_variable(name)}; rename one of them"
            )
        yield golden_config(f"{at}.", name, table, source.parent)


def _read_variables(environ: Mapping[str, str]) -> dict[str, object]:
    values: dict[str, object] = {}
    for key in FARM_KEYS:
        variable = f"FARM_{key.upper()}"
        text = environ.get(variable, "")
        # CI systems can't unset a variable, they leave it empty.
        if text:
            wanted = _FARM_TYPES[key]
            where = f"variable {variable}"
            value = checked(where, from_text(text, wanted), wanted)
            values[key] = _located(where, key, value, Path.cwd())
    return values


def _read_overrides(overrides: Mapping[str, object]) -> dict[str, object]:
    values: dict[str, object] = {}
    for key, given in overrides.items():
        if given is None:
            continue
        flag = "--" + key.replace("_", "-")
        if key not in FARM_KEYS:
            raise ConfigError(f"flag {flag}: unknown key{did_you_mean(key, FARM_KEYS)}")
        wanted = _FARM_TYPES[key]
        value = from_text(given, wanted) if isinstance(given, str) else given
        where = f"flag {flag}"
        values[key] = _located(where, key, checked(where, value, wanted), Path.cwd())
    return values


def _located(where: str, key: str, value: object, base: Path) -> object:
    if key == "redact":
        for entry in cast("tuple[str, ...]", value):
            if not all(entry.partition(".")):
                raise ConfigError(f"{where}: expected table.column, got {entry!r}")
    if key in _PATH_KEYS and isinstance(value, str):
        return absolute(where, value, base)
    return value


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]
