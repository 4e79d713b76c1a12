"""Golden databases on disk, kept from run to run under the fingerprint of their inputs.

    <cache folder>/golden/<name>/<fingerprint>/image.sqlite    the snapshot's bytes
                                               manifest.json   its manifest, and how it was built
                                               complete        the digests of the other two

An entry is written into a temporary folder beside its place and renamed, so it is there as a whole
or not at all; `complete` is written last. Each read checks both digests. Farms that run at the same
time need no lock: whoever renames second finds the place taken and drops its own copy.
A cache that can't be used costs time, never a run: each failure here is a note.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec

from snapfarm_worker.snapshot import Manifest, Snapshot, digest_of

#: So many entries of one golden database are kept; switching between branches is common.
KEPT_ENTRIES = 5

#: Seconds after which what a dead or damaged build left behind is swept away.
_SWEPT_AFTER = 3600.0

#: Looks at an entry that other farms replace all the time, before it counts as missing.
_READS = 3

_TEMPORARY = ".tmp-"
_DAMAGED = ".damaged-"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What manifest.json holds: the snapshot's manifest, and how it came about."""

    manifest: Manifest
    #: Parts of the fingerprint, to tell later what changed.
    parts: dict[str, str]
    #: Wall time of the build.
    build_seconds: float
    #: Notes of the builders.
    notes: tuple[str, ...]


class Hit(msgspec.Struct, frozen=True):
    """An entry that was read and verified."""

    entry: Entry
    snapshot: Snapshot


def name_of_layer(database: str, layer: str) -> str:
    """Return the name under which the cache has a layer; no golden database has an @ in its."""
    return f"{database}@{layer}"


def caches_of(cache_path: Path, database: str) -> list[GoldenCache]:
    """Return the caches of a golden database, and of all layers on top of it that were built."""
    layers = sorted((cache_path / "golden").glob(name_of_layer(database, "*")))
    return [GoldenCache(cache_path, name) for name in (database, *(one.name for one in layers))]


class GoldenCache:
    """The entries of one golden database; `notes` collects what went wrong on the way."""

    def __init__(self, cache_path: Path, name: str) -> None:
        self.base = cache_path
        self.folder = cache_path / "golden" / name
        self.notes: list[str] = []

    def read(self, fingerprint: str) -> Hit | None:
        """Return the entry of a fingerprint, or None if there is none that can be trusted.

        An entry that is unfinished or damaged is moved aside, so that a new one can take its place.
        """
        place = self.folder / fingerprint
        for _ in range(_READS):
            try:
                folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
            except OSError as error:
                if place.is_symlink() or place.is_file():
                    self._set_aside(place, "is damaged: it is no folder")
                elif not isinstance(error, FileNotFoundError):
                    self._tell_unread(place, error)
                return None
            try:
                hit = _verified(folder)
            except _DamagedError as error:
                if _is_at(folder, place):
                    self._set_aside(place, str(error))
                    return None
                # Another farm replaced or cleared the entry while it was read: look again.
            except OSError as error:
                self._tell_unread(place, error)
                return None
            else:
                with contextlib.suppress(OSError):
                    os.utime("complete", dir_fd=folder)  # the time of its last use, for `_prune`
                return hit
            finally:
                os.close(folder)
        return None

    def peek(self, fingerprint: str) -> Entry | None:
        """Return what an entry says of itself, without reading or trusting its image."""
        place = self.folder / fingerprint
        if not (place / "complete").is_file():
            return None
        try:
            return msgspec.json.decode((place / "manifest.json").read_bytes(), type=Entry)
        except (OSError, msgspec.DecodeError):
            return None

    def latest(self) -> Entry | None:
        """Return the entry that was used last, to compare a new build with."""
        for place in self._places():
            entry = self.peek(place.name)
            if entry is not None:
                return entry
        return None

    def write(
        self, fingerprint: str, entry: Entry, data: bytes | bytearray, *, replace: bool
    ) -> None:
        """Keep a freshly built database; with `replace` also where there is an entry already."""
        temporary = self.folder / f"{_TEMPORARY}{uuid.uuid4().hex}"
        place = self.folder / fingerprint
        try:
            self._prepare(temporary)
            manifest = msgspec.json.format(msgspec.json.encode(entry), indent=2)
            (temporary / "image.sqlite").write_bytes(data)
            (temporary / "manifest.json").write_bytes(manifest)
            seal = f"{entry.manifest.digest} {digest_of(manifest)}\n"
            (temporary / "complete").write_text(seal, "ascii")
            if replace:
                with contextlib.suppress(FileNotFoundError):
                    self._drop(place)
            temporary.rename(place)
        except OSError as error:
            # Taken: another farm published the same inputs first, and its entry is as good.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                self.notes.append(
                    f"not kept in the cache {self.folder}: {error.strerror or error}; the next "
                    f"run builds it again"
                )
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._prune()

    def clear(self) -> int:
        """Remove all entries and return how many there were. Raises OSError."""
        count = len(self._places())
        if self.folder.exists():
            shutil.rmtree(self.folder)
        return count

    def _tell_unread(self, place: Path, error: OSError) -> None:
        self.notes.append(f"cache entry {place} can't be read: {error.strerror or error}")

    def _set_aside(self, place: Path, why: str) -> None:
        aside = self.folder / f"{_DAMAGED}{place.name[:12]}-{uuid.uuid4().hex[:8]}"
        try:
            place.rename(aside)
            os.utime(
                aside, follow_symlinks=False
            )  # kept for a while from now on, for whoever wants to look
        except FileNotFoundError:
            return  # another farm was faster
        except OSError as error:
            self.notes.append(f"cache entry {place} {why}; it can't be moved aside: {error}")
            return
        self.notes.append(f"cache entry {place} {why}; it was moved to {aside.name}")

    def _prepare(self, temporary: Path) -> None:
        temporary.mkdir(parents=True)
        ignore = self.base / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", "ascii")

    def _drop(self, place: Path) -> None:
        # Renamed first: whoever reads it meanwhile sees all of it or nothing.
        aside = self.folder / f"{_TEMPORARY}{uuid.uuid4().hex}"
        place.rename(aside)
        if aside.is_symlink() or not aside.is_dir():
            aside.unlink()
        else:
            shutil.rmtree(aside, ignore_errors=True)

    def _places(self) -> list[Path]:
        """Return the folders of entries, last used first."""
        used: list[tuple[float, Path]] = []
        for place in self._children():
            if not place.name.startswith("."):
                with contextlib.suppress(OSError):
                    used.append(((place / "complete").stat().st_mtime, place))
        return [place for _, place in sorted(used, reverse=True)]

    def _children(self) -> Iterator[Path]:
        try:
            yield from list(self.folder.iterdir())
        except OSError:
            return

    def _prune(self) -> None:
        """Drop the entries that were not used for longest, and old leftovers."""
        stale = self._places()[KEPT_ENTRIES:]
        for place in self._children():
            if place.name.startswith((_TEMPORARY, _DAMAGED)):
                with contextlib.suppress(OSError):
                    if time.time() - place.lstat().st_mtime > _SWEPT_AFTER:
                        stale.append(place)
        for place in stale:
            with contextlib.suppress(OSError):
                self._drop(place)


def _verified(folder: int) -> Hit:
    """Return the entry in an open folder. Raises _DamagedError and OSError.

    All files are opened in that folder, not by path: an entry that replaces it meanwhile can't
    lend a file to a mixture of both.
    """
    seal = _content(folder, "complete").split()
    manifest = _content(folder, "manifest.json")
    data = _content(folder, "image.sqlite")
    if len(seal) != 2 or digest_of(manifest) != seal[1].decode("ascii", "replace"):
        raise _DamagedError("is damaged: its manifest.json differs from its digest")
    if digest_of(data) != seal[0].decode("ascii", "replace"):
        raise _DamagedError("is damaged: its image.sqlite differs from its digest")
    try:
        entry = msgspec.json.decode(manifest, type=Entry)
    except msgspec.DecodeError as error:
        raise _DamagedError(f"can't be read by this version: {error}") from None
    if entry.manifest.digest != seal[0].decode("ascii") or entry.manifest.size != len(data):
        raise _DamagedError("is damaged: its manifest is of another image")
    return Hit(entry, Snapshot(entry.manifest, data))


def _content(folder: int, name: str) -> bytes:
    try:
        file = os.open(name, os.O_RDONLY, dir_fd=folder)
    except FileNotFoundError:
        raise _DamagedError(f"is unfinished: it has no {name}") from None
    try:
        opened = os.fdopen(file, "rb")
    except IsADirectoryError:
        os.close(file)
        raise _DamagedError(f"is damaged: its {name} is a folder") from None
    with opened:
        return opened.read()


def _is_at(folder: int, place: Path) -> bool:
    """Tell whether an open folder is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(folder), place.stat())
    except FileNotFoundError:
        return False


class _DamagedError(Exception):
    """An entry whose files do not fit together; the message goes on after its path."""
