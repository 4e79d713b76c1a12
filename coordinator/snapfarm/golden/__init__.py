"""Golden databases: obtain them from the cache, or build them.

from snapfarm.golden import obtain
for result in obtain(load_config(Path.cwd())):
    print(result.name, result.snapshot.manifest.digest)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from snapfarm.golden.wording import counted, sized
from snapfarm_worker.snapshot import BASE, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from snapfarm.config import FarmConfig, GoldenConfig
    from snapfarm.golden.cache import Entry
    from snapfarm.golden.fingerprint import Fingerprint
    from snapfarm.golden.order import Below, Caller

__all__ = ["GoldenResult", "describe", "obtain", "obtain_one"]

#: So many changed inputs are named in a note.
_NAMED_CHANGES = 5


class GoldenResult(msgspec.Struct, frozen=True):
    """A golden database that is ready to be broadcast."""

    name: str
    snapshot: Snapshot
    #: Digest of the inputs that it was built from.
    fingerprint: str
    #: Whether it came from the cache.
    cached: bool
    #: Wall time of the build, also where that was in an earlier run.
    build_seconds: float
    #: What the user should know: of the builders, of the checks, of the cache.
    notes: tuple[str, ...]


def obtain(
    config: FarmConfig,
    *,
    rebuild: bool = False,
    on_start: Callable[[GoldenConfig], None] | None = None,
    scratch: Path | None = None,
) -> tuple[GoldenResult, ...]:
    """Return the golden databases of a configuration in declared order, from the cache or built.

    With `rebuild` the cache is not read, but written. `on_start` is told of each build before it
    starts. Builders work in a folder of their own inside `scratch`, or in the temporary directory.
    Raises ConfigError and GoldenError.
    """
    return tuple(
        obtain_one(config, golden, rebuild=rebuild, on_start=on_start, scratch=scratch)
        for golden in config.golden
    )


def obtain_one(
    config: FarmConfig,
    golden: GoldenConfig,
    *,
    rebuild: bool = False,
    on_start: Callable[[GoldenConfig], None] | None = None,
    scratch: Path | None = None,
    caller: Caller | None = None,
    below: tuple[Below, Snapshot] | None = None,
) -> GoldenResult:
    """Return one golden database; like `obtain`. `caller` is the Python code that asked for it.

    With what is `below`, it is a layer that the seeds of `golden` make on top of that.
    """
    # Whoever only names a golden database has no need of builders and processes.
    from snapfarm.golden.build import build
    from snapfarm.golden.cache import Entry, GoldenCache, name_of_layer
    from snapfarm.golden.fingerprint import fingerprint

    ground = below[0] if below is not None else None
    name = ground.layer if ground is not None else golden.name
    identity = fingerprint(config, golden, caller, ground)
    kept_as = name_of_layer(golden.name, ground.layer) if ground is not None else golden.name
    cache = GoldenCache(config.cache_path, kept_as)
    hit = None if rebuild else cache.read(identity.digest)
    notes = [
        f"{part.removeprefix('inputs ')} matches no file (key inputs)"
        for part in identity.parts
        if part.startswith("inputs ")
    ]
    if hit is not None:
        return GoldenResult(
            name,
            hit.snapshot,
            identity.digest,
            cached=True,
            build_seconds=hit.entry.build_seconds,
            notes=(*hit.entry.notes, *notes, *cache.notes),
        )
    before = cache.latest()
    if before is not None and before.parts != identity.parts:
        notes.append(_why(before, identity))
    if on_start is not None:
        on_start(golden)
    built = build(config, golden, scratch, caller, below)
    entry = Entry(
        manifest=built.snapshot.manifest,
        parts=identity.parts,
        build_seconds=built.seconds,
        notes=built.notes,
    )
    # Inputs may change while they are built from: the result would be of neither state.
    if fingerprint(config, golden, caller, ground).digest == identity.digest:
        cache.write(identity.digest, entry, built.snapshot.data, replace=rebuild)
    else:
        notes.append("not kept in the cache: its inputs changed while it was built")
    return GoldenResult(
        name,
        built.snapshot,
        identity.digest,
        cached=False,
        build_seconds=built.seconds,
        notes=(*built.notes, *notes, *cache.notes),
    )


def describe(result: GoldenResult) -> str:
    """Return the line that tells of a golden database: size, tables, where it came from."""
    manifest = result.snapshot.manifest
    tables = sum(table.kind != "view" for table in manifest.tables)
    source = f"built {result.build_seconds:.1f} s"
    if result.cached:
        source += f" (cached: {result.fingerprint[:6]})"
    kind = "golden" if manifest.layer == BASE else "layer "
    return (
        f"{kind}  {result.name}   {sized(manifest.size)}   "
        f"{counted(tables, 'table', 'tables')}   {source}"
    )


def _why(before: Entry, identity: Fingerprint) -> str:
    from snapfarm.golden.fingerprint import changes

    differences = changes(before.parts, identity.parts)
    said = ", ".join(differences[:_NAMED_CHANGES])
    if len(differences) > _NAMED_CHANGES:
        said += f" and {len(differences) - _NAMED_CHANGES} more"
    return f"built again, because {said}"
