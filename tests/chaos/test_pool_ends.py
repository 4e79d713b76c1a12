"""However a program with a pool ends, nothing of the pool is left: no process, socket or file."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil
import pytest

from support.pool import script, wait_until

#: A pool whose tasks all wait; `held` is there once one runs.
WAITING = """
def run(pool):
    return pool.map(hold, [os.getcwd()] * 50, chunksize=1)
"""


@pytest.mark.parametrize(
    "text",
    [
        "with WorkerPool(golden, 2, 2) as pool: list(run(pool))",
        "pool = WorkerPool(golden, 2, 2); list(run(pool))",
        "pool = WorkerPool(golden, 2, 2); results = run(pool); pool.shutdown()",
        "pool = WorkerPool(golden, 2, 2); results = run(pool); pool.shutdown(wait=False)\n"
        "time.sleep(100)",
        "def main():\n    list(run(WorkerPool(golden, 2, 2)))\nmain()",
        "a = WorkerPool(golden, 1); b = WorkerPool(golden, 1)\nrun(a), run(b)\ntime.sleep(100)",
    ],
    ids=["with", "without", "shutdown", "no wait", "dropped", "two"],
)
def test_ctrl_c_ends_a_script_at_once(tmp_path: Path, text: str) -> None:
    with script(tmp_path, WAITING + text) as running:
        running.wait_for("held")
        running.interrupt()
        status, _, errors = running.end()
    assert status == -signal.SIGINT
    assert errors.count("KeyboardInterrupt") >= 1
    # Told once: nothing else goes wrong on the way.
    assert errors.count("Traceback") == 1, errors


def test_ctrl_c_while_the_interpreter_waits_for_its_pools_ends_them_all(tmp_path: Path) -> None:
    text = "a = WorkerPool(golden, 1); b = WorkerPool(golden, 1); keep = run(a), run(b)\n"
    with script(tmp_path, WAITING + text + "pathlib.Path('last').touch()") as running:
        running.wait_for("last")
        running.wait_for("held")
        running.interrupt()
        running.end()


def test_a_pool_that_nobody_shut_down_is_run_to_its_end_with_a_warning(tmp_path: Path) -> None:
    text = """
pool = WorkerPool(golden, 1)
future = pool.submit(echo, 5)
future.add_done_callback(lambda done: print("result", done.result(), flush=True))
if "drop" in sys.argv: del pool
"""
    for number, options in enumerate((["-W", "always"], ["-W", "error"], [])):
        folder = tmp_path / str(number)
        folder.mkdir()
        with script(folder, text, *options) as running:
            status, output, errors = running.end()
        assert status == 0
        assert output == "result 5\n"
        assert ("never shut down" in errors) == bool(options), errors


def test_a_pool_that_is_dropped_ends_its_workers_while_the_program_goes_on(
    tmp_path: Path,
) -> None:
    text = """
import gc, warnings
warnings.simplefilter("ignore")
pool = WorkerPool(golden, 1)
pid, _ = pool.submit(whoami).result()
del pool
gc.collect()
while pathlib.Path(f"/proc/{pid}").exists(): time.sleep(0.01)
while os.listdir(os.environ["TMPDIR"]): time.sleep(0.01)
print("gone")
"""
    with script(tmp_path, text) as running:
        assert running.end() == (0, "gone\n", "")


def test_a_script_needs_no_guard_and_its_classes_come_back_as_they_are(tmp_path: Path) -> None:
    text = """
import dataclasses
print("once")

@dataclasses.dataclass(frozen=True)
class Point:
    x: int

class Wrong(Exception):
    def __init__(self, point, why):
        super().__init__(why)
        self.point = point

def moved(conn, point, fail=False):
    assert isinstance(point, Point) and point == Point(1)
    if fail:
        raise Wrong(point, "because")
    return {Point(2): [point]}

pool = WorkerPool(golden, 1)
(key, [value]), = pool.submit(moved, Point(1)).result().items()
assert type(key) is Point and key == Point(2) and type(value) is Point
error = pool.submit(moved, Point(1), fail=True).exception()
assert type(error) is Wrong and error.point == Point(1) and str(error) == "because"
assert type(error.point) is Point
pool.shutdown()
"""
    with script(tmp_path, text) as running:
        assert running.end() == (0, "once\n", "")


def test_a_forked_child_of_the_program_leaves_its_pools_alone(tmp_path: Path) -> None:
    text = """
with WorkerPool(golden, 1) as pool:
    pool.submit(echo, 1).result()
    if not (pid := os.fork()):
        sys.exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    assert pool.submit(echo, 2).result() == 2
"""
    # Python 3.12 warns of every fork beside threads.
    with script(tmp_path, text, "-W", "ignore::DeprecationWarning") as running:
        status, _, errors = running.end()
    assert (status, errors) == (0, "")


def test_workers_follow_a_coordinator_that_was_killed(tmp_path: Path) -> None:
    with script(tmp_path, WAITING + "list(run(WorkerPool(golden, 2, 2)))") as running:
        running.wait_for("held")
        children = psutil.Process(running.process.pid).children(recursive=True)
        running.process.kill()
        killed = time.monotonic()
        wait_until(lambda: not any(child.is_running() for child in children))
        assert time.monotonic() - killed < 5
        assert running.end()[0] == -signal.SIGKILL
    assert list((tmp_path / "tmp").iterdir()) == []
