"""What a test of an experiment does to the databases, and what it finds changed in them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import msgspec

from snapfarm_worker.anomaly import AnomalyKind
from snapfarm_worker.fixtures import DatabasePlugin
from snapfarm_worker.keeping import baseline_image, present_image
from snapfarm_worker.rowdiff import attached, compare
from snapfarm_worker.snapshot import BASE

#: Seconds for the comparison of one database.
_COMPARISON = 2.0


class Touched(msgspec.Struct, frozen=True, kw_only=True):
    """What one test did, and met. Tables are named as database.table."""

    anomalies: frozenset[AnomalyKind] = frozenset()
    #: Databases that it has changed.
    written: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    #: Names of what it leaves changed for later tests.
    left: tuple[str, ...] = ()
    #: Digests of the databases, and of the declared layers on which they stand.
    golden: dict[str, str] = {}


class LabDatabases:
    """Looks at the databases of one experiment, before and after each test."""

    def __init__(self, plugin: DatabasePlugin) -> None:
        self._plugin = plugin
        self._databases = plugin.databases
        self._databases.note_reads()

    def reset(self) -> None:
        """Bring all databases to the golden state."""
        for name in self._databases.names:
            self._databases.get(name).reset()

    def differing(self) -> Iterator[str]:
        """Yield the tables that are not as in the state to which tests are reset."""
        for name in self._databases.names:
            ring = self._databases.get(name)
            # A lock may be in the way, or the database be gone.
            with contextlib.suppress(Exception):
                before, after = baseline_image(ring), present_image(ring)
                if before != after:
                    with attached(before, after) as conn:
                        found = compare(conn, rows=0, seconds=_COMPARISON)
                    yield from (f"{name}.{one.table.lower()}" for one in found.tables)
                    yield from (f"{name}.{one.name.lower()}" for one in found.schema)

    def ended(self, nodeid: str) -> Touched:
        """Return what a test that has just ended did."""
        plugin = self._plugin
        anomalies, resets = plugin.take(nodeid)
        reads, tables = plugin.tables_read(nodeid), plugin.take_written(nodeid)
        undone = {one.database for one in resets}
        dirty = [name for name in self._databases.names if self._is_dirty(name)]
        written = [*(one.database for one in resets if one.tier != "clean"), *dirty]
        return Touched(
            anomalies=frozenset(anomaly.kind for anomaly in anomalies),
            written=tuple(dict.fromkeys(written)),
            tables=tables,
            reads=reads,
            left=(
                *(f"database {name}" for name in dirty),
                *(f"table {one}" for one in tables if one.partition(".")[0] not in undone),
            ),
            golden=dict(self._golden()),
        )

    def _is_dirty(self, name: str) -> bool:
        with contextlib.suppress(Exception):
            return self._databases.get(name).is_dirty()
        return False

    def _golden(self) -> Iterator[tuple[str, str]]:
        for name in self._databases.names:
            ring = self._databases.get(name)
            if ring.is_open:
                yield name, ring.layers.golden.manifest.digest
                if (ground := ring.layers.ground) != BASE:
                    yield f"{name}/{ground}", next(iter(ring.layers)).manifest.digest
