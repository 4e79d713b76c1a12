"""The cache of golden databases on disk."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path

import pytest

from snapfarm.golden import cache as cache_module
from snapfarm.golden.cache import KEPT_ENTRIES, Entry, GoldenCache
from snapfarm_worker.snapshot import Manifest, Snapshot, digest_of

FINGERPRINT = "f" * 64


def made(data: bytes = b"image" * 1000) -> Snapshot:
    manifest = Manifest(
        database="a",
        digest=digest_of(data),
        size=len(data),
        page_size=4096,
        tables=(),
        schema_digest="",
        user_version=0,
        application_id=0,
        encoding="UTF-8",
        sqlite_version="3",
    )
    return Snapshot(manifest, data)


def write(
    cache: GoldenCache, fingerprint: str, snapshot: Snapshot, *, replace: bool = False
) -> None:
    entry = Entry(
        manifest=snapshot.manifest, parts={"in": fingerprint}, build_seconds=1.5, notes=("n",)
    )
    cache.write(fingerprint, entry, snapshot.data, replace=replace)


@pytest.fixture
def cache(tmp_path: Path) -> GoldenCache:
    return GoldenCache(tmp_path / "cache", "a")


@pytest.fixture
def place(cache: GoldenCache) -> Path:
    """The folder of an entry that is whole."""
    write(cache, FINGERPRINT, made())
    return cache.folder / FINGERPRINT


def test_an_entry_comes_back_as_it_was_written(cache: GoldenCache, place: Path) -> None:
    hit = cache.read(FINGERPRINT)
    assert hit is not None
    assert hit.snapshot == made()
    assert (hit.entry.build_seconds, hit.entry.notes) == (1.5, ("n",))
    assert sorted(path.name for path in place.iterdir()) == [
        "complete",
        "image.sqlite",
        "manifest.json",
    ]
    assert (place / "image.sqlite").read_bytes() == made().data
    assert (cache.base / ".gitignore").read_text() == "*\n"
    assert cache.notes == []


def test_what_was_never_written_is_a_plain_miss(cache: GoldenCache) -> None:
    assert cache.read(FINGERPRINT) is None
    assert cache.peek(FINGERPRINT) is None
    assert cache.latest() is None
    assert cache.notes == []


@pytest.mark.parametrize("name", ["image.sqlite", "manifest.json", "complete"])
@pytest.mark.parametrize("damage", ["flipped bit", "truncated", "empty", "missing", "a folder"])
def test_a_damaged_entry_is_set_aside_and_replaced(
    cache: GoldenCache, place: Path, name: str, damage: str
) -> None:
    file = place / name
    data = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "a folder":
        file.unlink()
        file.mkdir()
    elif damage == "flipped bit":
        data[len(data) // 3] ^= 0x10
        file.write_bytes(data)
    else:
        file.write_bytes(data[: len(data) // 2] if damage == "truncated" else b"")
    assert cache.read(FINGERPRINT) is None
    (note,) = cache.notes
    assert str(place) in note
    assert "moved to .damaged-" in note
    assert not place.exists()
    write(cache, FINGERPRINT, made())
    assert cache.read(FINGERPRINT) is not None
    assert len(cache.notes) == 1


def test_an_entry_of_another_version_is_set_aside(cache: GoldenCache, place: Path) -> None:
    manifest = b'{"parts": {}}'
    (place / "manifest.json").write_bytes(manifest)
    (place / "complete").write_text(f"{made().manifest.digest} {digest_of(manifest)}\n")
    assert cache.read(FINGERPRINT) is None
    assert "can't be read by this version" in cache.notes[0]


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_what_is_no_folder_is_set_aside_and_replaced(cache: GoldenCache, kind: str) -> None:
    cache.folder.mkdir(parents=True)
    place = cache.folder / FINGERPRINT
    if kind == "file":
        place.write_text("")
    else:
        place.symlink_to("nowhere")
    assert cache.read(FINGERPRINT) is None
    (note,) = cache.notes
    assert "is damaged: it is no folder; it was moved to .damaged-" in note
    write(cache, FINGERPRINT, made())
    assert cache.read(FINGERPRINT) is not None
    assert len(cache.notes) == 1
    assert cache.clear() == 1


def test_an_entry_that_can_not_be_read_costs_a_note(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = GoldenCache(tmp_path / "file", "a")
    assert cache.read(FINGERPRINT) is None
    assert "can't be read: Not a directory" in cache.notes[0]


def test_a_cache_that_can_not_be_written_costs_a_note(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = GoldenCache(tmp_path / "file" / "cache", "a")
    write(cache, FINGERPRINT, made())
    assert "not kept in the cache" in cache.notes[0]
    assert "Not a directory" in cache.notes[0]


def test_a_full_disk_costs_a_note_and_leaves_nothing(
    cache: GoldenCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        real(path, data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    write(cache, FINGERPRINT, made())
    assert "No space left on device; the next run builds it again" in cache.notes[0]
    assert list(cache.folder.iterdir()) == []
    assert cache.read(FINGERPRINT) is None


def test_whoever_publishes_second_keeps_the_first(cache: GoldenCache, place: Path) -> None:
    before = place.stat().st_ino
    write(cache, FINGERPRINT, made(b"other"))
    assert place.stat().st_ino == before
    hit = cache.read(FINGERPRINT)
    assert hit is not None
    assert hit.snapshot == made()
    assert cache.notes == []


def test_replacing_an_entry(cache: GoldenCache, place: Path) -> None:
    write(cache, FINGERPRINT, made(b"other"), replace=True)
    hit = cache.read(FINGERPRINT)
    assert hit is not None
    assert hit.snapshot.data == b"other"
    assert [path.name for path in cache.folder.iterdir()] == [place.name]


def test_many_farms_at_once_all_succeed(cache: GoldenCache) -> None:
    barrier = threading.Barrier(8)
    caches = [GoldenCache(cache.base, "a") for _ in range(8)]
    misses: list[tuple[int, int]] = []

    def use(index: int) -> None:
        barrier.wait()
        for turn in range(20):
            write(caches[index], FINGERPRINT, made(), replace=turn % 5 == index % 5)
            hit = caches[index].read(FINGERPRINT)
            if hit is None:
                misses.append((index, turn))
            else:
                assert hit.snapshot == made()

    threads = [threading.Thread(target=use, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A reader may come while another replaces the entry: a miss, never damage.
    assert [note for one in caches for note in one.notes] == []
    assert len(misses) < 160
    assert cache.read(FINGERPRINT) is not None
    assert [path.name for path in cache.folder.iterdir()] == [FINGERPRINT]


def test_the_entries_that_were_used_last_are_kept(cache: GoldenCache) -> None:
    names = [f"{n:064}" for n in range(KEPT_ENTRIES)]
    for age, name in enumerate(names):
        write(cache, name, made())
        os.utime(cache.folder / name / "complete", (1000 + age, 1000 + age))
    assert cache.read(names[0]) is not None  # used again: now the youngest
    latest = cache.latest()
    assert latest is not None
    assert latest.parts == {"in": names[0]}
    write(cache, FINGERPRINT, made())
    kept = {path.name for path in cache.folder.iterdir()}
    assert kept == {names[0], *names[2:], FINGERPRINT}


def test_old_leftovers_that_are_no_folders_are_swept_too(cache: GoldenCache, place: Path) -> None:
    leftover = cache.folder / ".damaged-file"
    leftover.write_text("")
    os.utime(leftover, (0, 0))
    write(cache, FINGERPRINT, made())
    assert sorted(path.name for path in cache.folder.iterdir()) == [place.name]


def test_old_leftovers_are_swept_and_young_ones_are_not(cache: GoldenCache, place: Path) -> None:
    for name in (".tmp-old", ".tmp-young", ".damaged-old"):
        (cache.folder / name).mkdir()
        (cache.folder / name / "image.sqlite").write_text("")
    for name in (".tmp-old", ".damaged-old"):
        os.utime(cache.folder / name, (1, 1))
    write(cache, "e" * 64, made())
    assert {path.name for path in cache.folder.iterdir()} == {place.name, "e" * 64, ".tmp-young"}


def test_clearing(cache: GoldenCache, place: Path) -> None:
    assert cache.clear() == 1
    assert not cache.folder.exists()
    assert cache.clear() == 0


def test_an_entry_that_vanishes_while_it_is_read_is_a_plain_miss(
    cache: GoldenCache, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 1. this farm reads `complete`  2. another farm clears  3. this farm looks for the image
    real = cache_module._content

    def content(folder: int, name: str) -> bytes:
        data = real(folder, name)
        if name == "complete":
            shutil.rmtree(place)
        return data

    monkeypatch.setattr(cache_module, "_content", content)
    assert cache.read(FINGERPRINT) is None
    assert cache.notes == []


def test_an_entry_that_is_replaced_while_it_is_read_is_read_again(
    cache: GoldenCache, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 1. this farm reads `complete`  2. another farm replaces the entry  3. this farm goes on
    real = cache_module._content
    replaced: list[str] = []

    def content(folder: int, name: str) -> bytes:
        data = real(folder, name)
        if name == "complete" and not replaced:
            replaced.append(name)
            write(GoldenCache(cache.base, "a"), FINGERPRINT, made(b"other"), replace=True)
        return data

    monkeypatch.setattr(cache_module, "_content", content)
    hit = cache.read(FINGERPRINT)
    assert hit is not None
    assert hit.snapshot.data == b"other"
    assert cache.notes == []
