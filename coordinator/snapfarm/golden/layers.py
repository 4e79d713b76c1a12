"""Declared layers: where they are found, what they are built on, and how they are had.

A layer is built as a golden database is: by builders in a process of their own, checked, and kept
in the cache under its fingerprint. What it is built on is its first builder.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from snapfarm.config import FarmConfig
from snapfarm.config_golden import GoldenConfig, LayerConfig, layer_config
from snapfarm.config_values import did_you_mean, key_path
from snapfarm.errors import ConfigError
from snapfarm.golden import GoldenResult, obtain_one
from snapfarm.golden.order import Below
from snapfarm.golden.sources import project_search, spec_of

#: The golden database of a layer that names none, where there are several.
_DEFAULT = "default"


def declared_layers(config: FarmConfig) -> tuple[LayerConfig, ...]:
    """Return all layers of a configuration, each behind the one that it is built on.

    Each has its database filled in. Those of the modules are found by reading their source.
    Raises ConfigError.
    """
    found: dict[str, LayerConfig] = {}
    for one in (*config.layers, *_decorated(config)):
        other = found.setdefault(one.name, one)
        if other is not one:
            raise ConfigError(
                f"{one.where}: the layer {one.name!r} is declared twice, also in {other.where}: "
                "rename one of them"
            )
    if found and not config.golden:
        first = next(iter(found.values()))
        raise ConfigError(
            f"{first.where}: there is no golden database that a layer could be built on; declare "
            "one in a table [golden.<name>]"
        )
    ordered: dict[str, LayerConfig] = {}
    for one in found.values():
        for each in reversed(_chain(one, found)):
            ordered.setdefault(each.name, _settled(each, config, ordered))
    return tuple(ordered.values())


def obtain_layers(
    config: FarmConfig,
    layers: Sequence[LayerConfig],
    goldens: Mapping[str, GoldenResult],
    *,
    rebuild: bool = False,
    on_start: Callable[[LayerConfig], None] | None = None,
    scratch: Path | None = None,
) -> tuple[GoldenResult, ...]:
    """Return layers, in the order of `declared_layers`, from the cache or built.

    `goldens` are the databases by name. Raises GoldenError.
    """
    had: dict[str, GoldenResult] = {}
    for one in layers:
        below = goldens[str(one.database)] if one.on is None else had[one.on]
        had[one.name] = obtain_layer(
            config, one, below, rebuild=rebuild, on_start=on_start, scratch=scratch
        )
    return tuple(had.values())


def obtain_layer(
    config: FarmConfig,
    layer: LayerConfig,
    below: GoldenResult,
    *,
    rebuild: bool = False,
    on_start: Callable[[LayerConfig], None] | None = None,
    scratch: Path | None = None,
) -> GoldenResult:
    """Return one layer of `declared_layers`, from the cache or built on what is `below`.

    Raises GoldenError.
    """

    def started(golden: GoldenConfig) -> None:
        if on_start is not None:
            on_start(layer)

    golden = GoldenConfig(
        name=str(layer.database),
        seed=layer.seed,
        inputs=layer.inputs,
        env=layer.env,
        timeout=layer.timeout,
    )
    title = f"golden database {layer.database!r}" if layer.on is None else f"layer {layer.on!r}"
    ground = Below(
        layer=layer.name,
        where=layer.where,
        title=title,
        digest=below.snapshot.manifest.digest,
    )
    return obtain_one(
        config,
        golden,
        rebuild=rebuild,
        on_start=started,
        scratch=scratch,
        below=(ground, below.snapshot),
    )


def _chain(one: LayerConfig, known: Mapping[str, LayerConfig]) -> list[LayerConfig]:
    """Return a layer and all that it is built on, down to the golden database."""
    chain = [one]
    while (on := chain[-1].on) is not None:
        if on not in known:
            raise ConfigError(
                f"{chain[-1].where}: on = {on!r} is no layer{did_you_mean(on, known)}; leave it "
                "out to build on the golden database"
            )
        if known[on] in chain:
            circle = " on ".join(repr(each.name) for each in [*chain, known[on]])
            raise ConfigError(f"{one.where}: the layers are built on each other: {circle}")
        chain.append(known[on])
    return chain


def _settled(one: LayerConfig, config: FarmConfig, below: Mapping[str, LayerConfig]) -> LayerConfig:
    """Return a layer with its database. Raises ConfigError for one that does not exist."""
    names = [golden.name for golden in config.golden]
    inherited = below[one.on].database if one.on is not None else None
    if inherited is not None and one.database not in {None, inherited}:
        raise ConfigError(
            f"{one.where}: database = {one.database!r}, but it is built on the layer {one.on!r} of "
            f"database {inherited!r}: leave out one of the two"
        )
    database = one.database or inherited or (names[0] if len(names) == 1 else _DEFAULT)
    if database not in names:
        raise ConfigError(
            f"{one.where}: there is no golden database {database!r}{did_you_mean(database, names)}"
        )
    if not one.seed:
        raise ConfigError(f"{one.where}: seed is missing: a layer adds something to what is below")
    return msgspec.structs.replace(one, database=database)


# ---------------------------------------------------------------- modules


def _decorated(config: FarmConfig) -> Iterator[LayerConfig]:
    """Yield the layers of functions in `layer_modules`, without importing anything."""
    prefix = "tool.farm" if config.source and config.source.name == "pyproject.toml" else ""
    key = f"{config.source}: {key_path(prefix, 'layer_modules')}"
    for module in config.layer_modules:
        spec = spec_of(module, project_search(config.root))
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            raise ConfigError(
                f"{key}: there is no module {module!r} with a source in {config.root} nor on "
                "sys.path"
            )
        path = Path(spec.origin)
        try:
            tree = ast.parse(path.read_bytes(), str(path))
        except OSError as error:
            raise ConfigError(f"{key}: {path} can't be read: {error.strerror or error}") from error
        except (SyntaxError, ValueError) as error:
            raise ConfigError(f"{key}: {path} is no valid Python: {error}") from error
        yield from _in_module(module, path, tree, config.root)


def _in_module(module: str, path: Path, tree: ast.Module, root: Path) -> Iterator[LayerConfig]:
    packages, names = _meanings(tree)
    shown = path.relative_to(root) if path.is_relative_to(root) else path
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for decorator in node.decorator_list:
            call = decorator.func if isinstance(decorator, ast.Call) else decorator
            if not _is_layer(call, packages, names):
                continue
            where = f"{shown}:{decorator.lineno}: layer"
            if node not in tree.body or isinstance(node, ast.ClassDef):
                raise ConfigError(
                    f"{where}: {node.name} is no function at the top level of its module, and the "
                    "process that builds the layer could not find it"
                )
            name, table = _arguments(decorator, where)
            yield layer_config(where, name, {**table, "seed": [f"{module}:{node.name}"]}, root)


def _meanings(tree: ast.Module) -> tuple[set[str], set[str]]:
    """Return the names that mean the package `snapfarm`, and those that mean its `layer`."""
    packages: set[str] = set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            packages |= {a.asname or a.name for a in node.names if a.name == "snapfarm"}
        elif isinstance(node, ast.ImportFrom) and node.module == "snapfarm" and not node.level:
            names |= {a.asname or a.name for a in node.names if a.name == "layer"}
    return packages, names


def _is_layer(node: ast.expr, packages: set[str], names: set[str]) -> bool:
    match node:
        case ast.Name(id=name):
            return name in names
        case ast.Attribute(value=ast.Name(id=package), attr="layer"):
            return package in packages
        case _:
            return False


def _arguments(decorator: ast.expr, where: str) -> tuple[str, dict[str, object]]:
    """Return the name of a layer and its table. Raises ConfigError."""
    if not isinstance(decorator, ast.Call):
        raise ConfigError(f'{where}: it has no name: write @snapfarm.layer("with_orders")')
    given: dict[str, object] = {}
    try:
        positional = [ast.literal_eval(each) for each in decorator.args]
        given = {str(each.arg): ast.literal_eval(each.value) for each in decorator.keywords}
    except ValueError:
        raise ConfigError(
            f"{where}: its arguments are read, not run, so they have to be literal"
        ) from None
    name = positional[0] if positional else given.pop("name", None)
    if len(positional) > 1 or not isinstance(name, str):
        raise ConfigError(f'{where}: expected one name: write @snapfarm.layer("with_orders")')
    if "seed" in given:
        raise ConfigError(f"{where}: seed is the function itself: leave it out")
    return name, {key: value for key, value in given.items() if value is not None}
