"""The run folder is private, fits into a socket's path, and only abandoned ones are swept."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapfarm.launch import janitor
from snapfarm.launch.folder import RunFolder, sweep
from support.suite import wait_for


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short temporary directory."""
    folder = Path(tempfile.mkdtemp(prefix="st-", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder)


def test_it_is_private_and_gone_with_its_janitor(base: Path) -> None:
    folder = RunFolder()
    assert folder.path.parent == base
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    pid = folder._janitor.pid
    folder.remove()
    assert list(base.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_living_run_is_not_swept(base: Path) -> None:
    first = RunFolder()
    try:
        second = RunFolder()
        second.remove()
        assert first.path.exists()
    finally:
        first.remove()


def test_a_janitor_at_work_keeps_the_folder(base: Path) -> None:
    folder = RunFolder()
    # As when the coordinator is killed: its lock is gone, its janitor's is not.
    folder._lock.close()
    sweep(base)
    assert folder.path.exists()
    folder._janitor.kill()
    folder._janitor.wait()
    sweep(base)
    assert not folder.path.exists()


def test_folders_of_others_are_left_alone(base: Path) -> None:
    for name in ("farm-animals", "farm-empty", "other"):
        (base / name).mkdir()
    (base / "farm-animals" / "lock").touch()
    (base / "farm-file").touch()
    sweep(base)
    assert sorted(path.name for path in base.iterdir()) == [
        "farm-animals", "farm-empty", "farm-file", "other",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["x" * 70, "\N{SNOWMAN}" * 25, os.fsdecode(b"\xff")])
def test_a_name_that_no_socket_can_have_is_avoided(
    base: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (base / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(base / name))
    folder = RunFolder()
    try:
        assert folder.path.parent == Path("/tmp")
    finally:
        folder.remove()


def test_a_session_is_killed_whatever_groups_it_has() -> None:
    code = (
        "import subprocess, time\n"
        "for group in (None, 0):\n"
        "    print(subprocess.Popen(['sleep', '300'], process_group=group).pid, flush=True)\n"
        "time.sleep(300)\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE) as leader:
        assert leader.stdout is not None
        pids = [int(leader.stdout.readline()) for _ in range(2)]
        assert set(janitor._members(leader.pid)) == {leader.pid, *pids}
        janitor.kill_session(leader.pid)
        leader.wait()

    def gone() -> bool:
        alive = set()
        for pid in pids:
            with contextlib.suppress(OSError):
                alive.add(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0])
        return alive <= {"Z"}

    wait_for("the end of the session", gone)
