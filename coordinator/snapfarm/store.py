"""Snapshots in memory, in a D-MemFS file system.

    /golden/<database>/<layer>/<digest>.sqlite    the image
                               <digest>.json      its manifest

The layer `latest-state` holds at most one image of a database: what a persistent ring kept last.
Names are percent-encoded. A path is written once and never again: a new state of a database has a
new digest. Reading an image back from D-MemFS copies it, so the very `bytes` object that was put
is kept for sending; D-MemFS holds the same object, which costs the memory once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from urllib.parse import quote

import dmemfs
import msgspec

from snapfarm.errors import SnapshotUnknown, StoreFull
from snapfarm_worker.errors import SnapshotCorrupt
from snapfarm_worker.snapshot import Manifest, Snapshot

#: Room for manifests and for D-MemFS's own accounting.
_BASE_ROOM = 16 * 1024 * 1024

#: Every database may get this many further layers about as large as itself.
_LAYERS_ROOM = 3

#: Where `keep` puts the state of a database.
KEPT_LAYER = "latest-state"


class StoreUsage(msgspec.Struct, frozen=True):
    """How full a store is, in bytes, and how many snapshots it holds."""

    used: int
    free: int
    quota: int
    snapshots: int


class SnapshotStore:
    """Holds snapshots by digest; all methods may be called from any thread."""

    def __init__(self, quota: int) -> None:
        self._files = dmemfs.MemoryFileSystem(max_quota=quota)
        self._files.mkdir("/golden")
        # Guards the pairs of image and manifest: nobody may see one without the other.
        self._lock = threading.RLock()
        #: Digest -> the image to send; one object for the life of its snapshot.
        self._hot: dict[str, bytes] = {}

    @classmethod
    def sized_for(cls, sizes: Iterable[int]) -> SnapshotStore:
        """Return a store with room for images of these sizes and for layers on top of them.

        The quota is a limit: no memory is taken before there is data.
        """
        return cls(sum(sizes) * (1 + _LAYERS_ROOM) + _BASE_ROOM)

    def put(self, snapshot: Snapshot) -> None:
        """Keep a snapshot; putting the same one again changes nothing. Raises StoreFull."""
        manifest = snapshot.manifest
        folder = _folder(manifest.database, manifest.layer)
        image, description = _paths(folder, manifest.digest)
        with self._lock:
            if self._files.exists(description):
                return
            data = self._hot.get(manifest.digest)
            if data is None:
                data = bytes(snapshot.data)
            encoded = msgspec.json.encode(manifest)
            self._files.mkdir(folder, exist_ok=True)
            try:
                self._write(image, data)
                self._write(description, encoded)
            except dmemfs.MFSQuotaExceededError:
                for path in (image, description):
                    if self._files.exists(path):
                        self._files.remove(path)
                usage = self.usage()
                needed = len(data) + len(encoded)
                raise StoreFull(manifest.database, needed, usage.free, usage.quota) from None
            self._hot[manifest.digest] = data

    def get(self, database: str, digest: str) -> Snapshot:
        """Return a snapshot as the file system holds it, verified.

        Raises SnapshotUnknown, and SnapshotCorrupt where image and manifest differ.
        """
        with self._lock:
            for folder in self._folders(database):
                image, description = _paths(folder, digest)
                if self._files.exists(description):
                    where = f"in the store ({image})"
                    try:
                        manifest = msgspec.json.decode(self._read(description), type=Manifest)
                    except msgspec.DecodeError:
                        raise SnapshotCorrupt(database, digest, "unreadable", where) from None
                    snapshot = Snapshot(manifest, self._read(image))
                    if manifest.digest != digest:
                        raise SnapshotCorrupt(database, digest, manifest.digest, where)
                    snapshot.verify(where)
                    return snapshot
        raise SnapshotUnknown(digest, database)

    def keep(self, snapshot: Snapshot) -> None:
        """Keep a state of a database, whatever its layer, as the latest; drop the one before.

        For a moment there has to be room for both. Raises StoreFull, with the one before in place.
        """
        manifest = msgspec.structs.replace(snapshot.manifest, layer=KEPT_LAYER)
        folder = _folder(manifest.database, KEPT_LAYER)
        with self._lock:
            before = self._digests(folder)
            self.put(Snapshot(manifest, snapshot.data))
            for digest in before:
                if digest != manifest.digest:
                    self._drop(folder, digest)

    def latest(self, database: str) -> Snapshot | None:
        """Return the state that was kept last, None if there is none.

        Its bytes are the object that was put, not read back, so their digest still holds.
        """
        folder = _folder(database, KEPT_LAYER)
        with self._lock:
            for digest in self._digests(folder):
                description = self._read(_paths(folder, digest)[1])
                manifest = msgspec.json.decode(description, type=Manifest)
                return Snapshot(manifest, self._hot[digest])
        return None

    def image(self, digest: str) -> bytes:
        """Return the bytes to send: the very same object on each call. Raises SnapshotUnknown."""
        with self._lock:
            try:
                return self._hot[digest]
            except KeyError:
                raise SnapshotUnknown(digest) from None

    def snapshots(self) -> tuple[Manifest, ...]:
        """Return the manifests of all snapshots, by database, layer and digest."""
        with self._lock:
            manifests = [
                msgspec.json.decode(self._read(path), type=Manifest)
                for path in self._files.glob("/golden/*/*/*.json")
            ]
        return tuple(sorted(manifests, key=lambda m: (m.database, m.layer, m.digest)))

    def remove(self, database: str, digest: str) -> None:
        """Drop a snapshot of a database from all its layers. Raises SnapshotUnknown."""
        with self._lock:
            found = False
            for folder in self._folders(database):
                if self._files.exists(_paths(folder, digest)[1]):
                    self._drop(folder, digest)
                    found = True
            if not found:
                raise SnapshotUnknown(digest, database)

    def usage(self) -> StoreUsage:
        """Return how full the store is."""
        with self._lock:
            stats = self._files.stats()
            count = len(self._files.glob("/golden/*/*/*.json"))
        return StoreUsage(stats["used_bytes"], stats["free_bytes"], stats["quota_bytes"], count)

    def _folders(self, database: str) -> list[str]:
        base = f"/golden/{_encoded(database)}"
        if not self._files.is_dir(base):
            return []
        return [f"{base}/{layer}" for layer in sorted(self._files.listdir(base))]

    def _digests(self, folder: str) -> list[str]:
        if not self._files.is_dir(folder):
            return []
        names = sorted(self._files.listdir(folder))
        return [name.removesuffix(".json") for name in names if name.endswith(".json")]

    def _drop(self, folder: str, digest: str) -> None:
        image, description = _paths(folder, digest)
        self._files.remove(description)
        self._files.remove(image)
        if not self._files.glob(f"/golden/*/*/{digest}.json"):
            # The same image may also belong to another database or layer.
            del self._hot[digest]

    def _write(self, path: str, data: bytes) -> None:
        with self._files.open(path, "xb") as file:
            file.write(data)

    def _read(self, path: str) -> bytes:
        with self._files.open(path, "rb") as file:
            return file.read()


def _folder(database: str, layer: str) -> str:
    return f"/golden/{_encoded(database)}/{_encoded(layer)}"


def _paths(folder: str, digest: str) -> tuple[str, str]:
    return f"{folder}/{digest}.sqlite", f"{folder}/{digest}.json"


def _encoded(name: str) -> str:
    # quote() leaves dots alone, and "." and ".." would be steps in a path.
    return quote(name, safe="").replace(".", "%2E")
