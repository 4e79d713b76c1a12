"""`farm golden`: build, look at, export and clear golden databases."""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Concatenate, NoReturn, ParamSpec

import click
import msgspec

from snapfarm.config import FarmConfig, load_config
from snapfarm.config_golden import GoldenConfig
from snapfarm.config_values import did_you_mean
from snapfarm.django_goldens import with_those_of_django
from snapfarm.errors import EXIT_USAGE, ConfigError, UserError
from snapfarm.golden import GoldenResult, describe, family_of, obtain_together
from snapfarm.golden.cache import Entry, GoldenCache, caches_of
from snapfarm.golden.fingerprint import fingerprint
from snapfarm.golden.layers import declared_layers, obtain_layers
from snapfarm.golden.wording import counted, sized
from snapfarm_worker.snapshot import Manifest, TableInfo

_P = ParamSpec("_P")


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What `farm golden show --json` prints of one golden database."""

    name: str
    fingerprint: str
    cached: bool
    #: What the fingerprint is made of: name of an input -> hash of its content, or version.
    parts: dict[str, str]
    #: Of the cached build; None when there is none.
    build_seconds: float | None
    notes: tuple[str, ...]
    manifest: Manifest | None


@click.group()
def golden() -> None:
    """Build, look at, export and clear golden databases."""


def _configured(
    command: Callable[Concatenate[FarmConfig, _P], None],
) -> Callable[_P, None]:
    """Give a command `--config` and `--root`, hand it the configuration, and print user errors."""

    @click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Configuration file, instead of farm.toml or pyproject.toml of the root.",
    )
    @click.option(
        "--root",
        type=click.Path(path_type=Path, file_okay=False, exists=True),
        metavar="DIR",
        default=None,
        help="The project's folder; the working directory if not given.",
    )
    @functools.wraps(command)
    def wrapped(
        config_file: Path | None, root: Path | None, *args: _P.args, **kwargs: _P.kwargs
    ) -> None:
        try:
            config = load_config(root or Path.cwd(), explicit=config_file)
            command(with_those_of_django(config, _note), *args, **kwargs)
        except UserError as error:
            _fail(error)

    return wrapped  # type: ignore[return-value]  # click passes the two options by name


@golden.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--rebuild", is_flag=True, help="Build even if the cache has it.")
@_configured
def build(config: FarmConfig, names: Sequence[str], rebuild: bool) -> None:
    """Build the golden databases that the cache lacks, and their layers (all, or those named)."""
    layers = declared_layers(config)
    found: dict[str, GoldenResult] = {}
    for one in _chosen(config, names):
        if one.name not in found:
            found |= _obtained(config, one, rebuild=rebuild)
        _tell(found[one.name])
        own = [layer for layer in layers if layer.database == one.name]
        for layer in obtain_layers(config, own, found, rebuild=rebuild):
            _tell(layer)


@golden.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_configured
def show(config: FarmConfig, name: str | None, as_json: bool) -> None:
    """Show what golden databases hold and what they are made of; builds nothing."""
    chosen = _chosen(config, () if name is None else (name,))
    shown = [_shown(config, one) for one in chosen]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())
        return
    for index, one in enumerate(shown):
        if index:
            click.echo()
        _print(one)


@golden.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@_configured
def export(config: FarmConfig, name: str, file: Path, force: bool) -> None:
    """Write the golden database NAME to FILE as a SQLite database, building it if need be."""
    (one,) = _chosen(config, (name,))
    if file.exists() and not force:
        raise UserError(f"{file} exists: give --force to overwrite it")
    result = _obtained(config, one, rebuild=False)[name]
    _tell(result)
    try:
        _write(file, result.snapshot.data)
    except OSError as error:
        raise UserError(f"{file} can't be written: {error.strerror or error}") from error
    click.echo(f"golden  {name}   written to {file}")


@golden.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@_configured
def clear(config: FarmConfig, names: Sequence[str]) -> None:
    """Remove golden databases and their layers from the cache (all of them, or those named)."""
    for one in _chosen(config, names):
        count = 0
        for cache in caches_of(config.cache_path, one.name):
            try:
                count += cache.clear()
            except OSError as error:
                raise UserError(f"{cache.folder} can't be removed: {error.strerror}") from error
        click.echo(f"golden  {one.name}   {counted(count, 'cache entry', 'cache entries')} removed")


def _obtained(config: FarmConfig, one: GoldenConfig, *, rebuild: bool) -> dict[str, GoldenResult]:
    """Return a golden database, with those that are built in one go with it, by name."""
    results = obtain_together(config, family_of(config, one), rebuild=rebuild)
    return {result.name: result for result in results}


def _chosen(config: FarmConfig, names: Sequence[str]) -> list[GoldenConfig]:
    known = {one.name: one for one in config.golden}
    if not known:
        raise ConfigError(
            f"{config.source or config.root}: declares no golden database; write a table "
            f"[golden.<name>] into farm.toml, or [tool.farm.golden.<name>] into pyproject.toml "
            f"(those of a Django project, if SQLite's, are found where pytest-django finds "
            f"its settings)"
        )
    for name in names:
        if name not in known:
            raise ConfigError(f"there is no golden database {name!r}{did_you_mean(name, known)}")
    return [known[name] for name in dict.fromkeys(names)] if names else list(known.values())


def _note(line: str) -> None:
    click.echo(line, err=True)


def _tell(result: GoldenResult) -> None:
    click.echo(describe(result))
    for note in result.notes:
        click.echo(f"farm: note: {result.name}: {note}", err=True)


def _shown(config: FarmConfig, one: GoldenConfig) -> Shown:
    identity = fingerprint(config, one)
    entry: Entry | None = GoldenCache(config.cache_path, one.name).peek(identity.digest)
    return Shown(
        name=one.name,
        fingerprint=identity.digest,
        cached=entry is not None,
        parts=identity.parts,
        build_seconds=entry.build_seconds if entry else None,
        notes=entry.notes if entry else (),
        manifest=entry.manifest if entry else None,
    )


def _print(one: Shown) -> None:
    click.echo(f"golden {one.name}")
    if one.manifest is None:
        click.echo(f"  not in the cache; build it with: farm golden build {one.name}")
    else:
        click.echo(f"  size         {sized(one.manifest.size)} ({one.manifest.size} bytes)")
        click.echo(f"  digest       {one.manifest.digest}")
        click.echo(f"  built in     {one.build_seconds:.1f} s")
        _print_tables(one.manifest.tables)
    for note in one.notes:
        click.echo(f"  note         {note}")
    click.echo(f"  fingerprint  {one.fingerprint}")
    width = max(len(name) for name in one.parts)
    for name, value in one.parts.items():
        # Hashes are cut: twelve digits are enough to see by eye that one differs.
        click.echo(f"    {name:{width}}  {value[:12] if len(value) == 64 else value}")


def _print_tables(tables: Sequence[TableInfo]) -> None:
    views = sum(table.kind == "view" for table in tables)
    click.echo(f"  tables       {len(tables) - views}, and {counted(views, 'view', 'views')}")
    width = max((len(table.name) for table in tables), default=0)
    for table in tables:
        rows = "unreadable" if table.rows is None else counted(table.rows, "row", "rows")
        kind = "" if table.kind == "table" else f"  ({table.kind})"
        click.echo(f"    {table.name:{width}}  {rows}{kind}")


def _write(file: Path, data: bytes | bytearray) -> None:
    """Write a file so that it is there as a whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(file)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _fail(error: UserError) -> NoReturn:
    click.echo(f"farm: {error}", err=True)
    sys.exit(EXIT_USAGE)
