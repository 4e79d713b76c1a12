"""Workers that are copies of the fork server are like workers that were spawned."""

from __future__ import annotations

import json
import os
import pickle
import resource
import select
import signal
import sys
import time
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import pytest

from snapfarm.errors import LaunchError
from snapfarm.launch import launcher as launching
from snapfarm.launch.forkserver import ForkServer, surroundings
from snapfarm.launch.launcher import OF_PYTEST, Launcher
from snapfarm.launch.local import _Forked
from snapfarm.launch.preloading import Preload
from snapfarm_worker import forkserver
from snapfarm_worker.jobs import WorkerSpec
from support.pytest_runs import Runs
from support.suite import wait_for

#: Where nobody looks at it.
SPEC = cast("WorkerSpec", None)

TOLD = """
import json, os, random, resource, sqlite3, time
import pytest

def _told(name):
    conn = sqlite3.connect(":memory:")
    told = {
        "name": name,
        "parent": os.getppid(),
        "draws": [random.random(), conn.execute("SELECT random()").fetchone()[0]],
        "zone": time.tzname[0],
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "hash": hash("a text"),
    }
    with open(os.environ["TRACE"], "a") as out:
        print(json.dumps(told), file=out)
    umask = os.umask(0)
    os.umask(umask)
    assert umask == 0o27
    assert os.environ["SET_BY_A_CONFTEST"] == "yes"

@pytest.mark.parametrize("turn", range(4))
def test_what_there_is(worker_id, request, turn):
    assert request.config.workerinput["sent"](20) == 21
    _told(worker_id)
"""

CONFTEST = """
import os
os.environ["SET_BY_A_CONFTEST"] = "yes"
os.umask(0o27)

def pytest_configure_node(node):
    node.workerinput["sent"] = lambda number: number + 1
"""

#: The same, with another time zone.
ZONE = """
os.environ["TZ"] = "Asia/Tokyo"
"""

#: The same, with what a process takes over when it starts and at no other time.
AT_START = """
import resource
os.environ["TZ"] = "Asia/Tokyo"
resource.setrlimit(resource.RLIMIT_NOFILE, (500, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
"""


@pytest.mark.parametrize("at_start", ["", ZONE, AT_START])
def test_what_a_copy_takes_over(tmp_path: Path, at_start: str) -> None:
    runs = Runs(tmp_path / "suite", {"conftest.py": CONFTEST + at_start, "test_it.py": TOLD})
    told = {}
    for method in ("spawn", "forkserver"):
        run = runs.run(f"--farm-start-method={method}", env={"TZ": "UTC"})
        assert run.counts == "4 passed", run.text
        told[method] = [json.loads(line) for line in run.trace]
        assert {each["zone"] for each in told[method]} == {"JST" if at_start else "UTC"}
        assert len({each["hash"] for each in told[method]}) == 1
    assert {each["files"] for each in told["forkserver"]} == {
        each["files"] for each in told["spawn"]
    }
    # One server, and it is not the coordinator; no two copies draw the same numbers.
    copies = told["forkserver"]
    assert len({each["parent"] for each in copies}) == 1
    draws = [number for each in copies for number in each["draws"]]
    assert len(set(draws)) == len(draws)


@pytest.mark.parametrize("inherits", [False, True])
def test_the_end_of_the_server_is_not_the_end_of_the_run(tmp_path: Path, inherits: bool) -> None:
    # 1. A test kills the server, its parent. 2. It kills its own process, whose exit code nobody
    # can tell any more, unless the coordinator inherits it. 3. A worker is spawned in its place.
    body = (
        "import os, signal, time, pytest\n"
        "def test_kills():\n"
        "    server = os.getppid()\n"
        "    os.kill(server, signal.SIGKILL)\n"
        "    while os.getppid() == server: time.sleep(0.01)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "@pytest.mark.parametrize('turn', range(20))\n"
        "def test_after(turn): pass\n"
    )
    files = {"test_it.py": body, "conftest.py": INHERITS if inherits else ""}
    run = Runs(tmp_path / "suite", files).run("--farm-start-method=forkserver")
    assert run.counts == "1 failed, 20 passed", run.text
    assert ("ended with signal SIGKILL" in run.text) == inherits, run.text
    assert run.exit_code == 1
    assert "INTERNALERROR" not in run.text


def test_a_process_that_is_measured_is_a_new_one(tmp_path: Path) -> None:
    runs = Runs(
        tmp_path / "suite",
        {
            "conftest.py": "import os\n"
            "os.environ['COVERAGE_PROCESS_START'] = 'no such file'\n"
            "def pytest_configure_node(node): node.workerinput['of'] = os.getpid()\n",
            "test_it.py": "import os\n"
            "def test_parent():\n"
            "    print(os.getppid(), file=open(os.environ['TRACE'], 'a'))\n"
            "def test_coordinator(request):\n"
            "    print(request.config.workerinput['of'], file=open(os.environ['TRACE'], 'a'))\n",
        },
    )
    run = runs.run("--farm-start-method=forkserver")
    assert run.counts == "2 passed", run.text
    assert len(run.trace) == 2
    assert len(set(run.trace)) == 1


def test_threads_of_each_process_are_there_in_workers_too(tmp_path: Path) -> None:
    # A tracer's `sitecustomize` starts one: a copy would not have it, but its locks.
    custom = (
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(600,), name='tracing', daemon=True).start()\n"
    )
    body = (
        "import threading\n"
        "def test_it(): assert 'tracing' in [each.name for each in threading.enumerate()]\n"
    )
    runs = Runs(tmp_path / "suite", {"test_it.py": body, "each/sitecustomize.py": custom})
    run = runs.run("--farm-start-method=forkserver", env={"PYTHONPATH": str(runs.root / "each")})
    assert run.counts == "1 passed", run.text
    assert not run.stderr, run.text


#: Makes the coordinator inherit orphans, as the first process of a container does.
INHERITS = """
import ctypes
def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
"""

#: A plugin for a system that has no descriptors of processes, though Python knows of them; it
#: refuses from the given call on.
REFUSES = """
import itertools, os
calls = itertools.count()
def refuses(pid, flags=0, original=os.pidfd_open):
    if next(calls) >= int(os.environ["REFUSES_FROM"]):
        raise OSError(38, "Function not implemented")
    return original(pid, flags)
os.pidfd_open = refuses
"""


@pytest.mark.parametrize("call", [0, 2])
def test_a_system_that_tells_of_no_ends(tmp_path: Path, call: int) -> None:
    # 0: it never does. 2: not of the first worker, after it was asked twice whether it would.
    files = {"refuses.py": REFUSES, "test_it.py": "def test_it(): pass"}
    runs = Runs(tmp_path / "suite", files)
    environment = {"REFUSES_FROM": str(call), "PYTHONPATH": str(runs.root)}
    run = runs.run("-prefuses", "--farm-start-method=forkserver", env=environment)
    assert run.counts == "1 passed", run.text
    assert not run.stderr, run.text


def test_where_no_server_can_be_started_workers_are_spawned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_server(modules: object) -> ForkServer:
        raise LaunchError(f"the fork server could not be started: {modules}")

    def worker(spec: object, start_method: str, server: object = None) -> str:
        return start_method if server is None else "copied"

    monkeypatch.setattr(launching, "LocalWorker", worker)
    launcher = Launcher("forkserver", [])
    monkeypatch.setattr(launching, "ForkServer", no_server)
    assert cast("object", launcher.start(SPEC)) == "spawn"
    monkeypatch.setattr(launching, "ForkServer", object)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert not launching.can_fork_serve()
    assert cast("object", launcher.start(SPEC)) == "spawn"


@pytest.fixture
def server() -> Iterator[ForkServer]:
    server = ForkServer(OF_PYTEST)
    yield server
    server.close()


def test_a_server_ends_when_it_is_hung_up(server: ForkServer) -> None:
    pid = server._process.pid
    server._channel.close()
    wait_for("the end", lambda: not _runs(pid))
    # Then nobody can tell how its workers ended: it is of no use to wait for that.
    worker = _Forked(SPEC, server)
    worker.pid = 1
    assert worker.exitcode is None
    assert worker.lost


def test_a_server_that_was_prepared_and_is_not_needed_ends() -> None:
    launcher = Launcher("forkserver", ["this_module_does_not_exist"])
    launcher.prepare()
    assert launcher._server is not None
    pid = launcher._server._process.pid
    launcher.close()
    wait_for("the end", lambda: not _runs(pid))


def test_a_server_whose_coordinator_has_many_files_open() -> None:
    # Its end of the channel has a number that `select` knows nothing of.
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] < 2048:
        pytest.skip("no more than so many may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, limits[1]))
    taken: list[int] = []
    try:
        while not taken or taken[-1] < 1024:
            taken.append(os.dup(0))
        server = ForkServer([])
        try:
            _see_that_it_answers(server)
        finally:
            server.close()
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_server_has_nothing_to_say_of_an_answer_that_nobody_reads(
    capfd: pytest.CaptureFixture[str],
) -> None:
    server = ForkServer([])
    pid = server._process.pid
    forkserver.send(server._channel, pickle.dumps(forkserver.Look(1)))
    wait_for("an answer", lambda: select.select([server._channel], [], [], 0)[0])
    server._channel.close()
    wait_for("the end", lambda: not _runs(pid))
    server.close()
    assert not capfd.readouterr().err


def test_a_server_that_did_not_answer_in_time_is_asked_no_more(server: ForkServer) -> None:
    # 1. It is stopped, and asked. 2. It goes on, and answers. 3. That is no answer to the next
    # question, and no worker comes of an order that was given up.
    pid = server._process.pid
    server._channel.settimeout(1)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        server._ask(forkserver.Look(1))
    os.kill(pid, signal.SIGCONT)  # it may have been killed, and is not collected yet
    with pytest.raises(OSError, match="Bad file descriptor"):
        server._ask(forkserver.Look(os.getpid()))
    wait_for("the end", lambda: not _runs(pid))


def test_a_process_that_outlives_the_server_does_not_hold_up_its_end() -> None:
    # A worker's child, as a daemon that a test starts, has all open that the server has.
    server = ForkServer([])
    process = server._process
    ended = process.sentinel
    holding = os.open(f"/proc/{process.pid}/fd/{_writer(process.pid, ended)}", os.O_WRONLY)
    began = time.monotonic()
    server.close()
    assert time.monotonic() - began < 1
    assert process.exitcode == 0
    os.close(holding)


def _writer(pid: int, reader: int) -> int:
    """Return which descriptor of a process is the other end of a pipe of this one."""
    pipe = Path(f"/proc/self/fd/{reader}").readlink()
    folder = Path(f"/proc/{pid}/fd")
    return wait_for(
        "the pipe",
        lambda: [int(each.name) for each in folder.iterdir() if each.readlink() == pipe],
    )[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_a_coordinator_that_becomes_somebody_else(tmp_path: Path) -> None:
    # It could not even kill a worker that is still root's.
    conftest = (
        "import os\n"
        "def pytest_configure(config):\n"
        "    if not hasattr(config, 'workerinput'):\n"
        "        os.setgroups([])\n"
        "        os.setgid(65534)\n"
    )
    body = "import os\ndef test_who(): assert (os.getgid(), os.getgroups()) == (65534, [])\n"
    runs = Runs(tmp_path / "suite", {"conftest.py": conftest, "test_it.py": body})
    for method in ("spawn", "forkserver"):
        run = runs.run(f"--farm-start-method={method}")
        assert run.counts == "1 passed", run.text


def test_a_time_zone_is_no_reason_for_another_server(
    server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Django's settings set it when they are loaded, which is after the server was started.
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert server.surroundings == surroundings()
    monkeypatch.setenv("LC_ALL", "C")
    assert server.surroundings != surroundings()


def test_a_server_ignores_the_terminal(server: ForkServer) -> None:
    # Ctrl-C goes to a process group, of which the server is no member.
    pid = server._process.pid
    wait_for("its session", lambda: os.getpgid(pid) == pid)
    os.kill(pid, signal.SIGINT)
    _see_that_it_answers(server)
    assert _runs(pid)


def _see_that_it_answers(server: ForkServer) -> None:
    """See that a server answers: this process is no child of it."""
    with pytest.raises(ChildProcessError):
        server._ask(forkserver.Look(os.getpid()))


@pytest.mark.parametrize("way", ["farm", "command"])
def test_a_project_may_use_names_of_what_only_the_coordinator_imports(
    way: str, tmp_path: Path
) -> None:
    # The coordinator asks `resource` for limits; `statistics` comes with a backend of Django.
    module = "def answer():\n    return 42\n"
    body = (
        "import resource, statistics\n"
        "def test_it():\n"
        "    assert resource.answer() == statistics.answer() == 42\n"
    )
    files = {"resource.py": module, "statistics.py": module, "test_it.py": body}
    suite = {f"tests/{name}": text for name, text in files.items()}
    options = {"farm": ("--farm=1", "--farm-start-method=forkserver"), "command": ()}
    run = Runs(tmp_path / "suite", suite).run(*options[way], way=way)
    assert run.counts == "1 passed", run.text


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_package_from_elsewhere_means_another_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    class Server:
        surroundings = surroundings()

        def __init__(self, modules: Sequence[str]) -> None:
            asked.append([*modules])

        def also_import(self, modules: Sequence[str]) -> None:
            asked[-1] += modules

    monkeypatch.setattr(launching, "ForkServer", Server)
    monkeypatch.setattr(launching, "LocalWorker", lambda *_: "copied")
    (tmp_path / "vendored.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    launcher = Launcher("forkserver", ["ours"], [Preload("uses_it", "vendored"), Preload("os")])
    launcher.prepare()
    launcher.start(SPEC)
    vendored = types.ModuleType("vendored")
    vendored.__file__ = "/project/vendored.py"
    monkeypatch.setitem(sys.modules, "vendored", vendored)
    launcher.start(SPEC)
    launcher.start(SPEC)
    assert asked == [["ours", "uses_it", "os"], ["ours"]]


def test_a_launcher_takes_the_server_that_was_started_early() -> None:
    launching.start_early(OF_PYTEST)
    launching.start_early(["for_nobody"])
    early, unneeded = (server._process.pid for server in launching._early.values())
    launcher = Launcher("forkserver", OF_PYTEST, [Preload("fractions")])
    launcher.prepare()
    assert launcher._server is not None
    assert launcher._server._process.pid == early
    wait_for("the end of the other one", lambda: not _runs(unneeded))
    _see_that_it_answers(launcher._server)
    launcher.close()
    wait_for("the end", lambda: not _runs(early))


def test_a_launcher_takes_no_server_that_imports_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 1. The server is started. 2. A plugin puts a folder before all others, where a package lies
    # that is installed, too. 3. The server is to import that, as this process will.
    launching.start_early(OF_PYTEST)
    (early,) = (server._process.pid for server in launching._early.values())
    monkeypatch.syspath_prepend(tmp_path)
    launcher = Launcher("forkserver", OF_PYTEST, [Preload("fractions")])
    launcher.prepare()
    assert launcher._server is not None
    assert launcher._server._process.pid != early
    assert launcher._server.sys_path == sys.path
    wait_for("the end of the early one", lambda: not _runs(early))
    launcher.close()


def test_a_server_that_was_started_early_goes_where_workers_are_spawned() -> None:
    launching.start_early(OF_PYTEST)
    (early,) = (server._process.pid for server in launching._early.values())
    Launcher("spawn", OF_PYTEST).prepare()
    assert not launching._early
    wait_for("the end", lambda: not _runs(early))


USES_FRACTIONS = """
import os, sys

with open(os.environ["TRACE"], "a") as trace:
    who = os.environ.get("PYTEST_XDIST_WORKER", "coordinator")
    print(who, "fractions" in sys.modules, file=trace)

import fractions
"""


def test_workers_have_what_plugins_import(tmp_path: Path) -> None:
    files = {"uses_fractions.py": USES_FRACTIONS, "test_it.py": "def test_it(): pass"}
    runs = Runs(tmp_path / "suite", files)
    options = ("-puses_fractions", "--farm=1", "--farm-start-method=forkserver")
    run = runs.run(*options, env={"PYTHONPATH": str(runs.root)})
    assert run.counts == "1 passed", run.text
    assert run.trace == ("coordinator False", "gw0 True")
