"""Whatever ends a coordinator, in order or not, nothing of its run is left."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.suite import GONE_WITHIN, RunningSuite, Suite, wait_for

#: As users start workers: here the difference matters most.
_suite = functools.partial(Suite, start="spawn")

#: Tells that it runs by a line in `running`, then waits to be interrupted.
WAITING = """
import os, time
import pytest

@pytest.fixture(scope="session")
def resource():
    yield
    with open("torn-down", "a") as out:
        print(os.getpid(), file=out)

def test_first(resource): pass
def test_second(resource): pass

@pytest.mark.parametrize("n", range(6))
def test_waits(resource, n):
    with open("running", "a") as out:
        print(os.getpid(), file=out)
    time.sleep(300)
"""

DATABASE = {
    "farm.toml": '[golden.default]\nschema = ["schema.sql"]\n',
    "schema.sql": "CREATE TABLE t(x); INSERT INTO t VALUES (1);",
}


def test_ctrl_c_ends_in_order_with_a_partial_report(tmp_path: Path) -> None:
    with _suite(tmp_path, {"test_it.py": WAITING, **DATABASE}).started() as running:
        pids = running.wait_for_file("running", count=2)
        running.signal(signal.SIGINT)
        run = running.wait()
    assert run.exit_code == pytest.ExitCode.INTERRUPTED
    assert "KeyboardInterrupt" in run.output
    assert "no tests ran" not in run.output
    outcomes = run.outcomes
    assert outcomes["test_it.py::test_first"] == "passed"
    assert set(outcomes) | set(run.unrun) == {
        "test_it.py::test_first",
        "test_it.py::test_second",
        *(f"test_it.py::test_waits[{n}]" for n in range(6)),
    }
    assert "the run was interrupted" in run.output
    assert sorted((tmp_path / "torn-down").read_text().split()) == sorted(pids)
    # An interrupted test is neither begun again nor followed by another.
    assert len((tmp_path / "running").read_text().split()) == 2


def test_a_second_ctrl_c_does_not_wait_for_fixtures(tmp_path: Path) -> None:
    suite = _suite(
        tmp_path,
        {
            "test_it.py": "import time\n"
            "import pytest\n"
            "def note(name):\n"
            "    with open(name, 'a') as out: print('here', file=out)\n"
            "@pytest.fixture\n"
            "def slow():\n"
            "    yield\n"
            "    note('tearing-down')\n"
            "    time.sleep(300)\n"
            "@pytest.mark.parametrize('n', range(4))\n"
            "def test_it(slow, n):\n"
            "    note('running')\n"
            "    time.sleep(300)\n"
        },
    )
    with suite.started() as running:
        running.wait_for_file("running", count=2)
        running.signal(signal.SIGINT)
        running.wait_for_file("tearing-down", count=2)
        running.signal(signal.SIGINT)
        run = running.wait(GONE_WITHIN * 2)
    assert run.exit_code == pytest.ExitCode.INTERRUPTED
    assert run.outcomes == {}
    assert run.unrun == [f"test_it.py::test_it[{n}]" for n in range(4)]


#: Presses Ctrl-C in the coordinator, in the middle of handling one of many results.
PRESS = """
import os, signal

pressed = []

def pytest_runtest_logreport(report):
    if "PYTEST_XDIST_WORKER" not in os.environ and report.when == "call" and not pressed:
        pressed.append(report.nodeid)
        for _ in range({times}):
            os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_loses_no_test_and_no_result(tmp_path: Path, times: int) -> None:
    suite = _suite(
        tmp_path,
        {
            "conftest.py": PRESS.format(times=times),
            "test_it.py": "import pytest\n"
            "@pytest.mark.parametrize('n', range(300))\n"
            "def test_it(n): pass\n",
        },
    )
    run = suite.run()
    assert run.exit_code == pytest.ExitCode.INTERRUPTED
    assert "KeyboardInterrupt" in run.output
    outcomes = run.outcomes
    assert set(outcomes.values()) == {"passed"}
    assert sorted([*outcomes, *run.unrun]) == sorted(
        f"test_it.py::test_it[{n}]" for n in range(300)
    )


def test_a_failing_hook_loses_no_test(tmp_path: Path) -> None:
    suite = _suite(
        tmp_path,
        {
            "conftest.py": "import os\n"
            "def pytest_runtest_logreport(report):\n"
            "    if 'PYTEST_XDIST_WORKER' not in os.environ: raise ValueError(report.nodeid)\n",
            "test_it.py": "import pytest\n"
            "@pytest.mark.parametrize('n', range(30))\n"
            "def test_it(n): pass\n",
        },
    )
    run = suite.run()
    assert run.exit_code == pytest.ExitCode.INTERNAL_ERROR
    assert len(run.items) + len(run.unrun) == 30


def test_ctrl_c_reaches_a_test_that_ignores_it(tmp_path: Path) -> None:
    suite = _suite(
        tmp_path,
        {
            "farm.toml": "stop_timeout = 0.5\n",
            "test_it.py": "import signal, time\n"
            "def test_it():\n"
            "    signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
            "    open('running', 'w').write('x\\n')\n"
            "    time.sleep(300)\n",
        },
    )
    with suite.started() as running:
        running.wait_for_file("running")
        running.signal(signal.SIGINT)
        run = running.wait()
    assert run.exit_code == pytest.ExitCode.INTERRUPTED
    assert run.unrun == ["test_it.py::test_it"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_when_it_ends_while_a_golden_is_built(
    tmp_path: Path, number: signal.Signals
) -> None:
    suite = _suite(
        tmp_path,
        {
            "farm.toml": '[golden.default]\nseed = ["seeds:slow"]\n',
            "seeds.py": "import time\n"
            "def slow(conn):\n"
            "    open('building', 'w').write('x\\n')\n"
            "    time.sleep(300)\n",
            "test_it.py": "def test_it(): pass\n",
        },
    )
    with suite.started() as running:
        running.wait_for_file("building")
        running.signal(number)
        if number is signal.SIGKILL:
            _assert_gone_in_time(running)
        else:
            assert running.wait().exit_code == pytest.ExitCode.INTERRUPTED


def _assert_gone_in_time(running: RunningSuite) -> None:
    running.process.wait()
    running.assert_gone(GONE_WITHIN)


def _collecting(root: Path) -> Suite:
    return _suite(
        root,
        {
            "test_it.py": "import os, time\n"
            "if 'PYTEST_XDIST_WORKER' in os.environ:\n"
            "    with open('running', 'a') as out: print(os.getpid(), file=out)\n"
            "    time.sleep(300)\n"
            "def test_it(): pass\n",
        },
    )


def _testing(root: Path) -> Suite:
    return _suite(root, {"test_it.py": WAITING})


def _holding_the_interpreter(root: Path) -> Suite:
    return _suite(
        root,
        {
            "test_it.py": "import re, os, pytest\n"
            "@pytest.mark.parametrize('n', range(4))\n"
            "def test_it(n):\n"
            "    with open('running', 'a') as out: print(os.getpid(), file=out)\n"
            "    re.match('(a|aa)+$', 'a' * 100 + 'b')\n",
        },
    )


@pytest.mark.parametrize("make", [_collecting, _testing, _holding_the_interpreter])
def test_workers_and_files_go_when_the_coordinator_is_killed(
    tmp_path: Path, make: Callable[[Path], Suite]
) -> None:
    with make(tmp_path).started() as running:
        running.wait_for_file("running")
        running.signal(signal.SIGKILL)
        _assert_gone_in_time(running)


def test_stopped_workers_go_when_the_coordinator_is_killed(tmp_path: Path) -> None:
    with _testing(tmp_path).started() as running:
        pids = [int(pid) for pid in running.wait_for_file("running", count=2)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        running.signal(signal.SIGKILL)
        _assert_gone_in_time(running)


def test_workers_end_by_themselves_when_the_janitor_was_killed_too(tmp_path: Path) -> None:
    with _collecting(tmp_path).started() as running:
        running.wait_for_file("running", count=2)
        (janitor,) = [pid for pid, line in running.processes().items() if "janitor" in line]
        os.kill(janitor, signal.SIGKILL)
        running.signal(signal.SIGKILL)
        running.process.wait()
        wait_for("the end of all workers", lambda: not running.processes(), GONE_WITHIN)
        # Its folder is swept by the next run.
        assert running.run_folders()
        env = {"TMPDIR": str(running.tmp)}
        (tmp_path / "test_it.py").write_text("def test_it(): pass\n")
        assert _suite(tmp_path).run(env=env).exit_code == 0


def test_what_tests_started_goes_with_the_coordinator(tmp_path: Path) -> None:
    suite = _suite(
        tmp_path,
        {
            "test_it.py": "import subprocess, time\n"
            "def test_it():\n"
            "    subprocess.Popen(['sleep', '300'])\n"
            "    subprocess.Popen(['sleep', '300'], process_group=0)\n"
            "    open('running', 'w').write('x\\n')\n"
            "    time.sleep(300)\n"
        },
    )
    with suite.started() as running:
        running.wait_for_file("running")
        running.signal(signal.SIGKILL)
        _assert_gone_in_time(running)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_termination_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with contextlib.ExitStack() as stack:
        # What nohup has started ignores a hangup, and so would the coordinator.
        before = signal.signal(number, signal.SIG_DFL)
        try:
            running = stack.enter_context(_testing(tmp_path).started())
        finally:
            signal.signal(number, before)
        running.wait_for_file("running", count=2)
        running.signal(number)
        _assert_gone_in_time(running)


def test_a_coordinator_that_was_stopped_for_a_while_goes_on(tmp_path: Path) -> None:
    suite = _suite(
        tmp_path,
        {
            "farm.toml": "heartbeat_timeout = 0.5\n",
            "test_it.py": "import os, time, pathlib\n"
            "def test_it():\n"
            "    open('running', 'w').write('x\\n')\n"
            "    while not pathlib.Path('go-on').exists(): time.sleep(0.01)\n"
            "def test_other(): pass\n",
        },
    )
    with suite.started() as running:
        running.wait_for_file("running")
        running.signal(signal.SIGSTOP)
        stopped = time.monotonic()
        wait_for("a second", lambda: time.monotonic() - stopped > 1)
        running.signal(signal.SIGCONT)
        (tmp_path / "go-on").touch()
        run = running.wait()
    assert run.exit_code == 0
    assert run.counts == {"passed": 2}


def test_a_coordinator_that_was_stopped_holds_nobody_to_a_limit_for_it(tmp_path: Path) -> None:
    # 1. A test runs, and the coordinator is stopped. 2. The test ends; so do those after it.
    # 3. The coordinator goes on when the time limit of the test has passed.
    suite = _suite(
        tmp_path,
        {
            "farm.toml": "test_timeout = 3\nstop_timeout = 2\n",
            "test_it.py": "import time, pathlib, pytest\n"
            "def test_it():\n"
            "    open('running', 'w').write('x\\n')\n"
            "    while not pathlib.Path('go-on').exists(): time.sleep(0.01)\n"
            "@pytest.mark.parametrize('n', range(40))\n"
            "def test_other(n):\n"
            "    with open('others', 'a') as out: print(n, file=out)\n",
        },
    )
    with suite.started(workers=1) as running:
        running.wait_for_file("running")
        running.signal(signal.SIGSTOP)
        stopped = time.monotonic()
        (tmp_path / "go-on").touch()
        running.wait_for_file("others", count=3)
        wait_for("the limit", lambda: time.monotonic() - stopped > 3.5)
        running.signal(signal.SIGCONT)
        run = running.wait()
    assert run.exit_code == 0
    assert run.counts == {"passed": 41}


def test_ctrl_c_at_a_terminal_reaches_workers_that_have_just_been_started(tmp_path: Path) -> None:
    suite = _suite(tmp_path, {"test_it.py": WAITING})
    with suite.started() as running:
        wait_for(
            "a worker process",
            lambda: any("snapfarm_worker.boot" in line for line in running.processes().values()),
        )
        # As a terminal does: to the coordinator and all that has no session of its own yet.
        os.killpg(running.process.pid, signal.SIGINT)
        run = running.wait()
    assert run.exit_code == pytest.ExitCode.INTERRUPTED
    assert "snapfarm_worker.boot" not in run.output, "a worker's traceback"
