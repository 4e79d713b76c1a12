"""Golden databases: obtain them from the cache, or build them.

from snapfarm.golden import obtain
for result in obtain(load_config(Path.cwd())):
    print(result.name, result.snapshot.manifest.digest)
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import msgspec

from snapfarm.golden.wording import counted, sized
from snapfarm_worker.snapshot import BASE, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from snapfarm.config import FarmConfig
    from snapfarm.config_golden import GoldenConfig
    from snapfarm.golden.build import BuiltGolden
    from snapfarm.golden.cache import Entry
    from snapfarm.golden.fingerprint import Fingerprint
    from snapfarm.golden.order import Below, Caller

__all__ = [
    "GoldenResult", "describe", "family_of", "obtain", "obtain_one", "obtain_together",
]  # fmt: skip

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
    found: dict[str, GoldenResult] = {}
    for golden in config.golden:
        if golden.name not in found:
            results = obtain_together(
                config, family_of(config, golden), rebuild=rebuild, on_start=on_start,
                scratch=scratch,
            )  # fmt: skip
            found |= {result.name: result for result in results}
    return tuple(found[golden.name] for golden in config.golden)


def family_of(config: FarmConfig, golden: GoldenConfig) -> tuple[GoldenConfig, ...]:
    """Return the golden databases that are built together with one: of Django all, else itself."""
    if golden.django is None:
        return (golden,)
    return tuple(other for other in config.golden if other.django is not None)


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
    return obtain_together(
        config,
        (golden,),
        rebuild=rebuild,
        on_start=on_start,
        scratch=scratch,
        caller=caller,
        below=below,
    )[0]


def obtain_together(
    config: FarmConfig,
    goldens: Sequence[GoldenConfig],
    *,
    rebuild: bool = False,
    on_start: Callable[[GoldenConfig], None] | None = None,
    scratch: Path | None = None,
    caller: Caller | None = None,
    below: tuple[Below, Snapshot] | None = None,
) -> tuple[GoldenResult, ...]:
    """Return golden databases that are built in one go where one of them is not cached.

    With what is `below` there is one, a layer. Raises as `obtain`.
    """
    # Whoever only names a golden database has no need of builders and processes.
    from snapfarm.golden.build import build_together

    ground = below[0] if below is not None else None
    searches = [_Search(config, golden, caller, ground, rebuild) for golden in goldens]
    if all(search.hit is not None for search in searches):
        return tuple(search.cached() for search in searches)
    for search in searches:
        search.explain()
        if on_start is not None:
            on_start(search.golden)
    built = build_together(config, goldens, scratch, caller, below)
    return tuple(search.keep(one) for search, one in zip(searches, built, strict=True))


class _Search:
    """A golden database, looked for in the cache; and kept there once it was built."""

    def __init__(
        self,
        config: FarmConfig,
        golden: GoldenConfig,
        caller: Caller | None,
        ground: Below | None,
        rebuild: bool,
    ) -> None:
        from snapfarm.golden.cache import GoldenCache, name_of_layer
        from snapfarm.golden.fingerprint import fingerprint

        self.golden = golden
        self._name = ground.layer if ground is not None else golden.name
        self._fingerprint = functools.partial(fingerprint, config, golden, caller, ground)
        self._rebuild = rebuild
        self._identity = self._fingerprint()
        kept_as = name_of_layer(golden.name, ground.layer) if ground is not None else golden.name
        self._cache = GoldenCache(config.cache_path, kept_as)
        self.hit = None if rebuild else self._cache.read(self._identity.digest)
        self._notes = [
            f"{name.removeprefix('inputs ')} matches no file (key inputs)"
            for name in self._identity.parts
            if name.startswith("inputs ")
        ]

    def cached(self) -> GoldenResult:
        """Return what the cache has."""
        assert self.hit is not None
        return GoldenResult(
            self._name,
            self.hit.snapshot,
            self._identity.digest,
            cached=True,
            build_seconds=self.hit.entry.build_seconds,
            notes=(*self.hit.entry.notes, *self._notes, *self._cache.notes),
        )

    def explain(self) -> None:
        """Note why it is not the one that was used last."""
        before = self._cache.latest()
        if before is not None and before.parts != self._identity.parts:
            self._notes.append(_why(before, self._identity))

    def keep(self, built: BuiltGolden) -> GoldenResult:
        """Write what was built into the cache, and return it."""
        from snapfarm.golden.cache import Entry

        entry = Entry(
            manifest=built.snapshot.manifest,
            parts=self._identity.parts,
            build_seconds=built.seconds,
            notes=built.notes,
        )
        # Inputs may change while they are built from: the result would be of neither state.
        if self._fingerprint().digest == self._identity.digest:
            data = built.snapshot.data
            # Of a family that is built together, some may be there already, and differ.
            replace = self._rebuild or self.hit is not None
            self._cache.write(self._identity.digest, entry, data, replace=replace)
        else:
            self._notes.append("not kept in the cache: its inputs changed while it was built")
        return GoldenResult(
            self._name,
            built.snapshot,
            self._identity.digest,
            cached=False,
            build_seconds=built.seconds,
            notes=(*built.notes, *self._notes, *self._cache.notes),
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
