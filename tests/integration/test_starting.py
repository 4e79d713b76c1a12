"""Starting workers costs no process of multiprocess's own, and takes none from tests in need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_SUITE = """
import os
import time
from pathlib import Path
import multiprocess
from multiprocess import shared_memory

def children(pid):
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

def command(pid):
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\\0", " ")

def test_the_coordinator_has_no_tracker():
    assert not any("resource_tracker" in command(pid) for pid in children(os.getppid()))

def test_multiprocess_works_in_a_worker():
    memory = shared_memory.SharedMemory(create=True, size=16)
    memory.close()
    memory.unlink()
    lock = multiprocess.get_context("spawn").Lock()
    deadline = time.monotonic() + 30
    # The tracker has been forked; until it has become another program, it has this one's name.
    while not any("resource_tracker" in command(pid) for pid in children(os.getpid())):
        assert time.monotonic() < deadline
    with lock:
        pass
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes through /proc")
def test_no_resource_tracker_unless_a_test_needs_one(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(_SUITE)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--farm", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
