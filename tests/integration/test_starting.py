"""Starting workers costs no process of multiprocess's own, and takes none from tests in need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.pytest_runs import Runs
from support.suite import clean_environment

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


_STANDARD = """
import os, subprocess, sys
import pytest

@pytest.mark.parametrize("turn", range(4))
def test_standard_descriptors(turn, capfd):
    assert os.fstat(0).st_rdev == os.stat(os.devnull).st_rdev
    program = "import sys; print(sys.stdin.read(), 'read')"
    subprocess.run([sys.executable, "-S", "-c", program], check=True)
    assert capfd.readouterr().out == " read\\n"
"""


@pytest.mark.parametrize("command", [("snapfarm.cli", "run"), ("pytest", "--farm=2")])
def test_where_standard_input_is_closed(command: tuple[str, ...], tmp_path: Path) -> None:
    # 1. A socket of the farm would get its number. 2. pytest, which captures, puts a file there.
    (tmp_path / "test_it.py").write_text(_STANDARD)
    line = [sys.executable, "-m", *command, "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *line],
        cwd=tmp_path,
        env={**clean_environment(), "FARM_START_METHOD": "forkserver", "FARM_WORKERS": "2"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
    assert "died" not in done.stdout, done.stdout
    assert not done.stderr


def test_tests_in_this_process_have_no_child_that_they_did_not_start(tmp_path: Path) -> None:
    body = "import os\ndef test_it():\n    try: os.wait()\n    except ChildProcessError: pass\n"
    runs = Runs(tmp_path / "suite", {"test_it.py": body + "    else: assert False\n"})
    options = ("--farm=0", "-o", "faulthandler_timeout=20", "-o", "faulthandler_exit_on_timeout=1")
    run = runs.run(*options, way="command")
    assert run.counts == "1 passed", run.text
