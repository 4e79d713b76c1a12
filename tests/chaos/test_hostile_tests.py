"""Whatever a test does to its process, the run ends, tells what happened, and leaves nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.suite import Suite

OTHERS = "\nimport pytest\n@pytest.mark.parametrize('n', range(4))\ndef test_other(n): pass\n"


def _suite(root: Path, body: str, *, farm: str = "") -> Suite:
    """Return a suite of one hostile test, `test_it`, and four that are not."""
    return Suite(root, {"farm.toml": farm, "test_a.py": body + OTHERS})


CRASHES = {
    "os._exit(0)": ("os._exit(0)", "exit status 0"),
    "os._exit(77)": ("os._exit(77)", "exit status 77"),
    "segmentation fault": ("import ctypes; ctypes.string_at(0)", "signal SIGSEGV"),
    "abort": ("os.abort()", "signal SIGABRT"),
    "stack overflow": (
        "x = ()\n    for _ in range(10**6): x = (x,)\n    hash(x)",
        "signal SIGSEGV",
    ),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM)", "signal SIGTERM"),
}


@pytest.mark.parametrize("what", CRASHES)
def test_a_crash_costs_one_test_and_shows_its_end(tmp_path: Path, what: str) -> None:
    code, cause = CRASHES[what]
    body = (
        "import os, signal, sys\ndef test_it():\n"
        "    print('to stdout'); print('to stderr', file=sys.stderr)\n"
        "    sys.stdout.flush(); sys.stderr.flush()\n"
        f"    {code}\n"
    )
    run = _suite(tmp_path, body).run()
    assert run.exit_code == 1
    assert run.counts == {"crashed": 1, "passed": 4}
    told = run.text_of("test_it ___")
    assert f"in its call phase its process ended with {cause}" in told
    assert re.search(r"Captured stdout.*\nto stdout", told)
    assert re.search(r"Captured stderr.*\nto stderr", told)
    if cause in ("signal SIGSEGV", "signal SIGABRT"):
        assert "Fatal Python error" in told
        assert "test_a.py" in told.partition("Fatal Python error")[2], "no trace of the test"


def test_sys_exit_in_a_test_is_a_failure_like_any_other(tmp_path: Path) -> None:
    run = _suite(tmp_path, "import sys\ndef test_it(): sys.exit(7)\n").run()
    assert run.exit_code == 1
    assert run.counts == {"failed": 1, "passed": 4}
    assert "SystemExit: 7" in run.output


def test_pytest_exit_ends_the_run_with_its_code(tmp_path: Path) -> None:
    run = _suite(tmp_path, "import pytest\ndef test_it(): pytest.exit('enough', 9)\n").run()
    assert run.exit_code == 9
    assert "Exit: gw0: enough" in run.output or "Exit: gw1: enough" in run.output
    assert ("test_a::test_it", "failed") not in run.junit


def test_a_stopped_process_is_killed_once_it_gives_no_sign_of_life(tmp_path: Path) -> None:
    body = "import os, signal\ndef test_it(): os.kill(os.getpid(), signal.SIGSTOP)\n"
    run = _suite(tmp_path, body, farm="heartbeat_timeout = 0.5\n").run()
    assert run.exit_code == 1
    assert run.counts == {"crashed": 1, "passed": 4}
    assert "its process was stopped (SIGSTOP?) and gave no sign of life" in run.output


TIME_LIMIT = {
    "sleeping": "time.sleep(300)",
    # Never lets go of the interpreter, so that no other thread of the process runs.
    "in C code": "re.match('(a|aa)+$', 'a' * 100 + 'b')",
    "in C code, deaf to SIGINT": (
        "signal.signal(signal.SIGINT, signal.SIG_IGN); re.match('(a|aa)+$', 'a' * 100 + 'b')"
    ),
}


@pytest.mark.parametrize("what", TIME_LIMIT)
def test_a_stuck_test_is_ended_with_the_stacks_of_all_threads(tmp_path: Path, what: str) -> None:
    body = (
        "import re, signal, threading, time\n"
        "def wait_in_a_thread(event): event.wait()\n"
        "def get_stuck():\n"
        f"    {TIME_LIMIT[what]}\n"
        "def test_it():\n"
        "    event = threading.Event()\n"
        "    threading.Thread(target=wait_in_a_thread, args=[event], daemon=True).start()\n"
        "    print('before', flush=True)\n"
        "    get_stuck()\n"
    )
    run = _suite(tmp_path, body).run("--farm-test-timeout=2")
    assert run.exit_code == 1
    assert run.counts == {"crashed": 1, "passed": 4}
    told = run.text_of("test_it ___")
    assert "in its call phase the item passed the time limit of 2 s" in told
    stacks = told.partition("Stacks of all threads")[2]
    assert "in get_stuck" in stacks
    assert "in wait_in_a_thread" in stacks
    assert "before" in told


#: Ends once the farm has asked for stacks, with much more time than usual to do so.
LATE = """
import os, time

def test_it(resource):
    while True:
        for descriptor in range(100):
            try:
                path = os.readlink(f"/proc/self/fd/{descriptor}")
            except OSError:
                continue
            if path.endswith(".stacks") and os.path.getsize(path):
                return
        time.sleep(0.01)
"""


def test_a_test_that_ends_in_its_last_moment_has_failed_and_nobody_else(tmp_path: Path) -> None:
    suite = _suite(tmp_path, LATE, farm="test_timeout = 2")
    suite.write(
        {
            "conftest.py": "import pytest\n"
            "import snapfarm.hub\n"
            "snapfarm.hub._STACKS_TIME = 60.0\n"
            "@pytest.fixture(scope='session')\n"
            "def resource():\n"
            "    yield\n"
            "    open('torn-down', 'w').close()\n"
        }
    )
    run = suite.run(workers=1)
    assert run.exit_code == 1
    assert run.counts == {"failed": 1, "passed": 4}
    assert run.outcomes["test_a.py::test_it"] == "failed"
    told = run.text_of("test_it ___")
    assert "the item passed the time limit of 2 s: it ended after" in told
    assert "in test_it" in told.partition("Stacks of all threads")[2]
    assert "workers that died" not in run.output
    assert (tmp_path / "torn-down").exists()


def test_a_stopped_process_passes_the_time_limit_too(tmp_path: Path) -> None:
    body = "import os, signal\ndef test_it(): os.kill(os.getpid(), signal.SIGSTOP)\n"
    run = _suite(tmp_path, body).run("--farm-test-timeout=2")
    assert run.counts == {"crashed": 1, "passed": 4}
    assert "it wrote no stacks: its process did not react to signals" in run.output


def test_the_time_limit_holds_also_when_the_start_of_a_test_was_never_told(tmp_path: Path) -> None:
    # 1. The worker begins a test and queues the message. 2. The process is stopped, and with it
    # the thread that would have sent the message. 3. The coordinator knows of no running test.
    suite = _suite(tmp_path, "import time\ndef test_it(): time.sleep(300)\n")
    suite.write(
        {
            "conftest.py": "def pytest_collection_finish(session):\n"
            "    runner = session.config.pluginmanager.get_plugin('farm-items')\n"
            "    if runner is None: return\n"
            "    send = runner._link.send\n"
            "    def lose(message):\n"
            "        if type(message).__name__ != 'ItemStarted': send(message)\n"
            "    runner._link.send = lose\n"
        }
    )
    run = suite.run("--farm-test-timeout=2")
    assert run.counts == {"crashed": 1, "passed": 4}
    told = run.text_of("test_it ___")
    assert "in its call phase the item passed the time limit of 2 s" in told
    assert "in test_it" in told.partition("Stacks of all threads")[2]


def test_a_stuck_fixture_is_ended_in_its_phase(tmp_path: Path) -> None:
    body = (
        "import pytest, time\n@pytest.fixture\ndef stuck():\n    yield\n    time.sleep(300)\n"
        "def test_it(stuck): pass\n"
    )
    run = _suite(tmp_path, body, farm="test_timeout = 2").run()
    assert run.counts == {"crashed": 1, "passed": 4}
    assert "in its teardown phase the item passed the time limit of 2 s" in run.output


FORKS = """
import os

def test_it():
    if os.fork() == 0:
        return  # into pytest, which goes on as if it were the worker
    os.wait()

def test_while_the_other_thread_takes_an_order(request):
    lock = request.config.pluginmanager.get_plugin("farm-items")._queue._lock
    lock.acquire()
    if os.fork() == 0:
        return  # with a lock that nobody will ever release
    lock.release()
    os.wait()

def test_dies_after():
    if os.fork() == 0:
        return
    os.wait()
    os.abort()
"""


def test_a_forked_child_that_returns_into_pytest_is_no_second_worker(tmp_path: Path) -> None:
    run = _suite(tmp_path, FORKS).run("-W", "ignore")
    assert run.exit_code == 1
    outcomes = run.outcomes
    assert outcomes.pop("test_a.py::test_dies_after") == "crashed"
    assert set(outcomes.values()) == {"passed"}
    assert len(outcomes) == 6


LEFTOVERS = {
    "a thread that never ends": "threading.Thread(target=threading.Event().wait).start()",
    "a background process": "subprocess.Popen(['sleep', '300'])",
    "one in a group of its own": "subprocess.Popen(['sleep', '300'], process_group=0)",
    "a stopped one": "os.kill(subprocess.Popen(['sleep', '300']).pid, signal.SIGSTOP)",
    "a pool": "concurrent.futures.ProcessPoolExecutor(1).submit(time.sleep, 300)",
}


@pytest.mark.parametrize("what", LEFTOVERS)
def test_what_a_test_leaves_running_does_not_outlive_the_run(tmp_path: Path, what: str) -> None:
    body = (
        "import concurrent.futures, os, signal, subprocess, threading, time\n"
        f"def test_it():\n    {LEFTOVERS[what]}\n"
    )
    run = _suite(tmp_path, body, farm="stop_timeout = 1\n").run("-W", "ignore")
    assert run.exit_code == 0
    assert run.counts == {"passed": 5}


def test_who_starts_slowly_finds_everything_done(tmp_path: Path) -> None:
    suite = _suite(tmp_path, "def test_it(): pass\n")
    suite.write(
        {
            "conftest.py": "import os, time\n"
            "if os.environ.get('PYTEST_XDIST_WORKER') == 'gw1':\n"
            "    while not os.path.exists('first-done'): time.sleep(0.01)\n"
            "    time.sleep(0.2)\n",
            "test_b.py": "def test_last():\n    open('first-done', 'w').close()\n",
        }
    )
    run = suite.run()
    assert run.exit_code == 0
    assert run.counts == {"passed": 6}
    assert {item["worker"] for item in run.items} == {"gw0"}


def test_nobody_waits_for_a_worker_that_never_collects(tmp_path: Path) -> None:
    suite = _suite(tmp_path, "def test_it(): pass\n", farm="start_timeout = 3\n")
    suite.write(
        {
            "conftest.py": "import os, threading\n"
            "if os.environ.get('PYTEST_XDIST_WORKER') == 'gw1': threading.Event().wait()\n"
        }
    )
    run = suite.run()
    assert run.exit_code == 0
    assert run.counts == {"passed": 5}
    assert "[gw1] everything else had been done for 3 s" in run.output


def test_a_crash_in_session_teardown_is_told(tmp_path: Path) -> None:
    suite = _suite(tmp_path, "def test_it(): pass\n")
    suite.write(
        {
            "conftest.py": "import os, signal\n"
            "def pytest_sessionfinish(session):\n"
            "    if os.environ.get('PYTEST_XDIST_WORKER') == 'gw0':\n"
            "        os.kill(os.getpid(), signal.SIGKILL)\n"
        }
    )
    run = suite.run()
    assert run.counts == {"passed": 5}
    assert "gw0: signal SIGKILL while ending" in run.output


def test_a_crash_in_the_teardown_of_a_session_fixture_is_blamed_on_the_last_test(
    tmp_path: Path,
) -> None:
    body = (
        "import os, pytest\n"
        "@pytest.fixture(scope='session')\n"
        "def resource():\n    yield\n    os.abort()\n"
        "def test_it(resource): pass\n"
    )
    run = Suite(tmp_path, {"test_a.py": body}).run(workers=1)
    assert run.exit_code == 1
    assert run.outcomes == {"test_a.py::test_it": "crashed"}
    assert "in its teardown phase" in run.output


def test_a_test_with_an_overlong_name_can_crash(tmp_path: Path) -> None:
    body = (
        "import os, pytest\n"
        "@pytest.mark.parametrize('n', [pytest.param(n, id='a' * 100_000 + n) for n in 'bcd'])\n"
        "def test_it(n):\n    if n == 'c': os.abort()\n"
    )
    run = _suite(tmp_path, body).run("-q", workers=1)
    assert run.exit_code == 1
    assert run.counts == {"crashed": 1, "passed": 6}
    assert ("crashed", "c]") in {(how, node[-2:]) for node, how in run.outcomes.items()}


def test_output_without_line_ends_and_of_odd_bytes_is_shown(tmp_path: Path) -> None:
    body = "import os\ndef test_it():\n    os.write(2, b'no end, and a \\xff'); os.abort()\n"
    run = _suite(tmp_path, body).run("-s")
    assert run.counts == {"crashed": 1, "passed": 4}
    assert "no end, and a \N{REPLACEMENT CHARACTER}" in run.text_of("test_it ___")


PATCHES = """
import sys
import time
from unittest import mock
import pytest

@pytest.fixture(scope="session", autouse=True)
def patched():
    with mock.patch("os.getpid", return_value=4242), mock.patch("os._exit"):
        yield

def test_it():
    pause = time.sleep
    with mock.patch("time.monotonic", side_effect=[1.0, 2.0]):
        # Longer than a few pulses of the worker's link.
        pause(0.5)
        assert [time.monotonic(), time.monotonic()] == [1.0, 2.0]
        pause(0.5)

def test_time_is_frozen(monkeypatch):
    # As freezegun does it, wherever a module has the function; in a year after 2038, whose seconds
    # are more than a C int holds.
    real = time.monotonic
    for module in list(sys.modules.values()):
        for name in [name for name, value in list(vars(module).items()) if value is real]:
            monkeypatch.setattr(module, name, lambda: 2.7e9)
    time.sleep(0.5)
"""


def test_what_tests_patch_is_not_used_by_the_worker(tmp_path: Path) -> None:
    run = _suite(tmp_path, PATCHES, farm="heartbeat_timeout = 0.5\n").run(workers=1)
    assert run.exit_code == 0, run.output
    assert run.counts == {"passed": 6}
