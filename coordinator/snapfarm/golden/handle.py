"""The golden database as Python code holds it: built, loaded, or taken from a connection.

golden = Golden.build(schema="schema.sql", seed=["seed.sql", load_users])
golden = Golden.load("app.sqlite")
golden = Golden.of(connection)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec

from snapfarm.errors import ConfigError
from snapfarm.golden.wording import counted, sized
from snapfarm_worker.snapshot import Manifest, Snapshot

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence

    from snapfarm.golden.arguments import Arguments

    #: An entry of `schema` or `seed`: an SQL script, `module:function`, or the function itself.
    Entry: TypeAlias = str | os.PathLike[str] | Callable[[sqlite3.Connection], object]


class Golden(msgspec.Struct, frozen=True, eq=False, weakref=True):
    """A golden database: a checked image that rings are restored from.

    It never changes, and any thread may use it. Equality is identity; images are the same where
    their `manifest.digest` is.
    """

    #: The image and its manifest.
    snapshot: Snapshot
    #: What the user should know: of the builders, of the checks, of the cache.
    notes: tuple[str, ...] = ()
    #: Digest of the inputs that it was built from; None where they are not all known.
    fingerprint: str | None = None
    #: Whether it came from the cache.
    cached: bool = False
    #: Wall time of the build, also where that was in an earlier run; 0 where nothing was built.
    build_seconds: float = 0.0

    def __post_init__(self) -> None:
        """Check the image against its manifest. Raises ConfigError and SnapshotCorrupt."""
        snapshot: object = self.snapshot
        if not isinstance(snapshot, Snapshot):
            raise ConfigError(
                f"Golden: snapshot: expected a Snapshot, got {type(snapshot).__qualname__}; "
                f"Golden.load takes a file, Golden.of a connection"
            )
        snapshot.verify("given to Golden")
        if not isinstance(snapshot.data, bytes):
            frozen = Snapshot(snapshot.manifest, bytes(snapshot.data))
            msgspec.structs.force_setattr(self, "snapshot", frozen)

    @classmethod
    def build(
        cls,
        *,
        schema: Entry | Sequence[Entry] = (),
        seed: Entry | Sequence[Entry] = (),
        file: str | os.PathLike[str] | None = None,
        alembic: str | os.PathLike[str] | Mapping[str, object] | None = None,
        metadata: str | type | None = None,
        name: str = "default",
        root: str | os.PathLike[str] | None = None,
        inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
        env: str | Sequence[str] = (),
        timeout: float = 600.0,
        cache: bool | str | os.PathLike[str] = True,
        rebuild: bool = False,
    ) -> Golden:
        """Build a golden database in a process of its own, or take it from the cache.

        The keywords are the keys of a configuration. Relative paths are relative to `root`, by
        default the current folder, which is also the builder's. `cache` is False for none, or its
        folder instead of `.farm`; with `rebuild` it is written, but not read. Callables that no
        other process can import travel as data, and what they make is not kept in the cache.
        Raises ConfigError, which names the parameter, and GoldenError.
        """
        # Naming a golden database costs no builders; making one does.
        from snapfarm.golden import obtain_one
        from snapfarm.golden.arguments import build_arguments

        if not isinstance(rebuild, bool):
            raise ConfigError(f"Golden.build: rebuild: expected True or False, got {rebuild!r}")
        given = build_arguments(
            schema=schema,
            seed=seed,
            file=file,
            alembic=alembic,
            metadata=metadata,
            name=name,
            root=root,
            inputs=inputs,
            env=env,
            timeout=timeout,
            cache=cache,
        )
        if given.hidden is not None or not given.keep:
            return cls._built(given)
        result = obtain_one(given.config, given.golden, rebuild=rebuild, caller=given.caller)
        return cls(
            result.snapshot,
            notes=result.notes,
            fingerprint=result.fingerprint,
            cached=result.cached,
            build_seconds=result.build_seconds,
        )

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, name: str = "default", timeout: float = 600.0
    ) -> Golden:
        """Return the content of a SQLite file, which is read by a process of its own.

        The file, its journals and its folder stay as they are. Raises ConfigError, and
        GoldenError where the file can't be used.
        """
        from snapfarm.golden.arguments import load_arguments

        return cls._built(load_arguments(path, name=name, timeout=timeout))

    @classmethod
    def of(cls, connection: sqlite3.Connection, *, name: str = "default") -> Golden:
        """Return what is committed in the `main` database of an open connection.

        The connection is left as it is. Raises ConfigError, and GoldenError while a transaction
        that writes is open.
        """
        from snapfarm.golden.arguments import checked_name
        from snapfarm.golden.committed import committed

        where = "Golden.of: connection"
        snapshot, notes = committed(connection, checked_name("Golden.of", name), where)
        return cls(snapshot, notes=notes)

    @classmethod
    def _built(cls, given: Arguments) -> Golden:
        """Build past the cache."""
        from snapfarm.golden.build import build
        from snapfarm.golden.fingerprint import fingerprint

        config, golden, caller = given.config, given.golden, given.caller
        identity = fingerprint(config, golden, caller).digest if given.hidden is None else None
        built = build(config, golden, caller=caller)
        notes = built.notes
        if given.hidden is not None and given.keep:
            notes += (f"not kept in the cache, nor taken from it: {given.hidden}",)
        return cls(built.snapshot, notes=notes, fingerprint=identity, build_seconds=built.seconds)

    @property
    def name(self) -> str:
        """The name of the database."""
        return self.snapshot.manifest.database

    @property
    def manifest(self) -> Manifest:
        """What is known of the image: digest, size, tables with their row counts."""
        return self.snapshot.manifest

    def __repr__(self) -> str:
        """Return name, size, tables, rows and digest: an image in full helps nobody."""
        manifest = self.manifest
        tables = sum(table.kind != "view" for table in manifest.tables)
        source = ", cached" if self.cached else ""
        return (
            f"<Golden {self.name!r}: {sized(manifest.size)}, {counted(tables, 'table', 'tables')}, "
            f"{counted(sum(manifest.rows.values()), 'row', 'rows')}{source}, "
            f"digest {manifest.digest[:12]}>"
        )
