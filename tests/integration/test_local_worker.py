"""A local worker process: what is killed with it, and that nothing of others is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from snapfarm.launch.local import LocalWorker
from snapfarm.launch.output import OutputPipe
from snapfarm_worker import agent
from snapfarm_worker.anomaly import Level
from snapfarm_worker.jobs import PytestJob, WorkerFiles, WorkerSpec
from support.suite import wait_for


def _waits(spec: WorkerSpec) -> None:
    agent._separate(spec.files)
    Path(spec.files.folder, "ready").touch()
    signal.pause()


def _ends_beside_a_daemon(spec: WorkerSpec) -> None:
    """End with a child that is out of reach and has all descriptors of its parent."""
    agent._separate(spec.files)
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        os.setsid()
        os.write(writer, b"x")
        signal.pause()
    os.read(reader, 1)
    Path(spec.files.folder, "daemon").write_text(str(pid))
    os._exit(3)


@pytest.fixture
def spec() -> Iterator[WorkerSpec]:
    with tempfile.TemporaryDirectory(prefix="lw-", dir="/tmp") as folder:
        files = WorkerFiles(folder, "gw0")
        pipe = OutputPipe(files.output)
        yield WorkerSpec(
            worker="gw0",
            files=files,
            control="",
            broadcast="",
            coordinator=os.getpid(),
            pulse=1.0,
            sensors=Level.OFF,
            job=cast("PytestJob", None),
        )
        pipe.close()


def test_a_daemon_of_a_test_keeps_nobody_waiting(
    spec: WorkerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "main", _ends_beside_a_daemon)
    worker = LocalWorker(spec, "fork")
    daemon = 0
    try:
        note = Path(spec.files.folder, "daemon")
        daemon = int(wait_for("the daemon", lambda: note.exists() and note.read_text()))
        wait_for("the end", lambda: worker.is_stopped() or _state(worker.pid) == "Z")
        # Its exit code is there: to read it takes no waiting, however long the daemon lives.
        monkeypatch.setattr(worker._process, "join", None)
        assert worker.reap() == 3
        assert _state(daemon) not in {"", "Z"}
    finally:
        worker.close()
        if daemon:
            os.kill(daemon, signal.SIGKILL)


def test_a_later_process_with_the_same_id_is_not_killed(
    spec: WorkerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 1. A worker ends, and a forkserver collects it. 2. The system gives its id to another process.
    # 3. The farm, which has only now seen the end, kills what the worker may have left running.
    monkeypatch.setattr(agent, "main", _waits)
    worker = LocalWorker(spec, "fork")
    command = [sys.executable, "-c", "import signal; signal.pause()"]
    own = worker.pid
    # The system counts time in ticks: no id comes round within one.
    tick = 1 / os.sysconf("SC_CLK_TCK")
    later = (int(worker._born) + 2) * tick
    wait_for("a later tick", lambda: time.clock_gettime(time.CLOCK_BOOTTIME) > later)
    with subprocess.Popen(command, start_new_session=True) as other:
        try:
            worker.pid = other.pid
            worker.kill()
            assert other.poll() is None
        finally:
            worker.pid = own
            assert worker.reap() == -signal.SIGKILL
            worker.close()
            other.kill()


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
