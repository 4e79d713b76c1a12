"""A worker that dies costs the item that it was running, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from support.suite import Suite, SuiteRun

MODES = ("load", "loadscope", "loadfile", "loadgroup", "worksteal")

KILL = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"

#: 24 tests in 3 files, two of which kill their worker: the modes that keep tests together lost
#: some of the others, or hung, in the runner that this one is measured against.
MODEL = """
import os, signal
import pytest

class TestA:
    @pytest.mark.xdist_group("one")
    @pytest.mark.parametrize("n", range(4))
    def test_a(self, n):
        if __name__ == "test_{file}" and n == {killer}:
            os.kill(os.getpid(), signal.SIGKILL)

@pytest.mark.parametrize("n", range(4))
def test_b(n):
    pass
"""


def _model(root: Path) -> Suite:
    return Suite(
        root,
        {
            "test_one.py": MODEL.format(file="one", killer=1),
            "test_two.py": MODEL.format(file="two", killer=2),
            "test_three.py": MODEL.format(file="three", killer=9),
        },
        start="spawn",
    )


@pytest.mark.parametrize("mode", MODES)
def test_two_killers_cost_two_tests_in_every_mode(tmp_path: Path, mode: str) -> None:
    run = _model(tmp_path).run(f"--farm-dist={mode}")
    assert run.exit_code == 1
    assert run.counts == {"passed": 22, "crashed": 2}
    assert {node for node, outcome in run.outcomes.items() if outcome == "crashed"} == {
        "test_one.py::TestA::test_a[1]",
        "test_two.py::TestA::test_a[2]",
    }
    assert "signal SIGKILL" in run.output
    assert run.unrun == []


def test_the_command_does_the_same(tmp_path: Path) -> None:
    run = _model(tmp_path).run_farm_command("--dist=loadgroup")
    assert run.exit_code == 1
    assert run.counts == {"passed": 22, "crashed": 2}


PHASES = """
import os, signal
import pytest

def die():
    print("the last words of", os.environ["PYTEST_CURRENT_TEST"], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

@pytest.fixture
def dies_in_setup():
    die()

@pytest.fixture
def dies_in_teardown():
    yield
    die()

def test_before(): pass
def test_setup(dies_in_setup): pass
def test_between(): pass
def test_call(): die()
def test_after(): pass
def test_teardown(dies_in_teardown): pass
def test_last(): pass
"""


def test_a_death_is_blamed_on_its_item_in_each_phase(tmp_path: Path) -> None:
    run = Suite(tmp_path, {"test_phases.py": PHASES}, start="spawn").run()
    assert run.exit_code == 1
    assert run.outcomes == {
        f"test_phases.py::test_{name}": outcome
        for name, outcome in {
            "before": "passed",
            "setup": "crashed",
            "between": "passed",
            "call": "crashed",
            "after": "passed",
            "teardown": "crashed",
            "last": "passed",
        }.items()
    }
    for phase in ("setup", "call", "teardown"):
        told = run.text_of(f"test_{phase} ___")
        assert f"in its {phase} phase its process ended with signal SIGKILL" in told
        assert f"the last words of test_phases.py::test_{phase} ({phase})" in told


def test_every_test_may_kill_its_worker(tmp_path: Path) -> None:
    suite = Suite(
        tmp_path,
        {
            "farm.toml": "max_worker_restart = 60\n",
            "test_all.py": "import os, signal, pytest\n"
            "@pytest.mark.parametrize('n', range(50))\n"
            "def test_dies(n): os.kill(os.getpid(), signal.SIGKILL)\n",
            "conftest.py": "import os\n"
            "def pytest_testnodedown(node, error):\n"
            "    with open('descriptors', 'a') as out:\n"
            "        print(len(os.listdir('/proc/self/fd')), file=out)\n",
        },
    )
    run = suite.run()
    assert run.exit_code == 1
    assert run.counts == {"crashed": 50}
    open_files = [int(line) for line in (tmp_path / "descriptors").read_text().split()]
    assert len(open_files) >= 50
    # What one death leaves open, 50 would: a few descriptors of a worker more or less are no leak.
    assert max(open_files) - min(open_files) < 40, open_files
    assert open_files[-1] <= open_files[0], open_files


def test_exitfirst_stops_at_a_death(tmp_path: Path) -> None:
    suite = Suite(
        tmp_path,
        {
            "test_one.py": f"import pytest\ndef test_dies():\n    {KILL}\n"
            "@pytest.mark.parametrize('n', range(100))\n"
            "def test_ok(n): pass\n",
        },
    )
    run = suite.run("-x")
    assert run.exit_code == 1
    assert run.outcomes["test_one.py::test_dies"] == "crashed"
    assert "stopping after 1 failures" in run.output
    assert len(run.outcomes) + len(run.unrun) == 101


def test_maxfail_counts_deaths(tmp_path: Path) -> None:
    suite = Suite(
        tmp_path,
        {
            "test_one.py": "import os, pytest\n"
            "@pytest.mark.parametrize('n', range(30))\n"
            "def test_dies(n):\n"
            "    if n % 2: os._exit(3)\n",
        },
    )
    run = suite.run("--maxfail=3", "--farm-max-worker-restart=30")
    assert run.exit_code == 1
    # What ran when the third came may have died too: with two workers, one more.
    assert 3 <= (crashed := run.counts["crashed"]) <= 4
    # pytest counts on until the run has ended.
    assert f"stopping after {crashed} failures" in run.output
    assert "exit status 3" in run.output
    assert len(run.outcomes) + len(run.unrun) == 30


def _with_one_killer(root: Path, ok: int = 12) -> Suite:
    return Suite(
        root,
        {
            "test_one.py": "import os, signal, pytest\n"
            "def test_dies(): os.kill(os.getpid(), signal.SIGKILL)\n"
            f"@pytest.mark.parametrize('n', range({ok}))\n"
            "def test_ok(n): pass\n"
        },
    )


def test_without_replacements_the_others_go_on(tmp_path: Path) -> None:
    run = _with_one_killer(tmp_path).run("--farm-max-worker-restart=0")
    assert run.exit_code == 1
    assert run.counts == {"passed": 12, "crashed": 1}
    assert run.report is not None
    assert sorted(run.report["workers"]) == ["gw0", "gw1"]  # type: ignore[call-overload]  # JSON


def test_a_used_up_allowance_ends_the_run_and_names_what_did_not_run(tmp_path: Path) -> None:
    suite = Suite(
        tmp_path,
        {
            "test_one.py": "import os, pytest\n"
            "@pytest.mark.parametrize('n', range(10))\n"
            "def test_dies(n): os._exit(0)\n"
        },
    )
    run = suite.run("--farm-max-worker-restart=1")
    assert run.exit_code == pytest.ExitCode.INTERRUPTED
    assert run.counts == {"crashed": 3}
    assert len(run.unrun) == 7
    assert "no worker is left, and all 1 replacements are used up" in run.output


def test_a_replacement_that_dies_while_it_starts_is_replaced(tmp_path: Path) -> None:
    suite = _with_one_killer(tmp_path, ok=6)
    suite.write(
        {
            "conftest.py": "import os, signal\n"
            "if os.environ.get('PYTEST_XDIST_WORKER') in ('gw1', 'gw2'):\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
        }
    )
    run = suite.run(workers=1)
    assert run.exit_code == 1
    assert run.counts == {"passed": 6, "crashed": 1}
    _died_importing(run, "gw1", "gw2")


def _died_importing(run: SuiteRun, *workers: str) -> None:
    for worker in workers:
        assert f"[{worker}] its process ended: signal SIGKILL while importing" in run.output


IN_A_WORKER = "import os\nif 'PYTEST_XDIST_WORKER' in os.environ:\n    "
DIE_IN_IMPORT = {
    "conftest.py": (IN_A_WORKER + KILL, "signal SIGKILL while importing"),
    "test_one.py": (IN_A_WORKER + "os._exit(9)", "exit status 9 while collecting"),
}


@pytest.mark.parametrize("file", DIE_IN_IMPORT)
def test_when_every_worker_dies_in_import_there_is_one_clear_error(
    tmp_path: Path, file: str
) -> None:
    code, cause = DIE_IN_IMPORT[file]
    run = Suite(tmp_path, {"test_ok.py": "def test_ok(): pass\n", file: code}, start="spawn").run()
    assert run.exit_code == pytest.ExitCode.INTERRUPTED
    assert run.output.count("every worker died before it was ready") == 1
    assert run.outcomes == {}
    assert cause in run.output


def test_one_worker_that_dies_in_collection_costs_no_item(tmp_path: Path) -> None:
    suite = Suite(
        tmp_path,
        {
            "test_one.py": "import os, signal, pytest\n"
            "if os.environ.get('PYTEST_XDIST_WORKER') == 'gw0':\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
            "@pytest.mark.parametrize('n', range(8))\n"
            "def test_ok(n): pass\n"
        },
    )
    run = suite.run()
    assert run.exit_code == 0
    assert run.counts == {"passed": 8}
    assert "signal SIGKILL while collecting test_one.py" in run.output


#: What pytest-rerunfailures does with crashes, in short.
RERUNS = """
crashes = {}
def pytest_handlecrashitem(crashitem, report, sched):
    assert sched.config.option
    crashes[crashitem] = crashes.get(crashitem, 0) + 1
    if crashes[crashitem] < 2:
        sched.mark_test_pending(crashitem)
        report.outcome = "rerun"
def pytest_report_teststatus(report):
    if report.outcome == "rerun": return "rerun", "R", "RERUN"
"""


def test_a_plugin_may_rerun_what_crashed(tmp_path: Path) -> None:
    suite = Suite(
        tmp_path,
        {
            "conftest.py": RERUNS,
            "test_it.py": "import os, pathlib\n"
            "def test_once():\n"
            "    try: pathlib.Path('ran').touch(exist_ok=False)\n"
            "    except FileExistsError: return\n"
            "    os.abort()\n"
            "def test_other(): pass\n"
            "def test_always(): os.abort()\n",
        },
    )
    # With one worker, what is left when the last test crashes is that test alone.
    run = suite.run(workers=1)
    assert run.exit_code == 1
    assert "1 failed, 2 passed, 2 rerun" in run.output
    assert sorted(
        (str(item["nodeid"]), item["outcome"], item["crashed"]) for item in run.items
    ) == [
        ("test_it.py::test_always", "failed", True),
        ("test_it.py::test_once", "passed", False),
        ("test_it.py::test_other", "passed", False),
    ]


def test_a_test_that_ends_its_session_without_a_word_does_so_twice_at_most(tmp_path: Path) -> None:
    suite = Suite(
        tmp_path,
        {
            # Ends as a worker ends whose last messages never leave it.
            "conftest.py": "import os, pytest\n"
            "@pytest.hookimpl(tryfirst=True)\n"
            "def pytest_keyboard_interrupt():\n"
            "    import snapfarm_worker.link as link\n"
            "    link.Link.send = lambda *_: os._exit(77)\n",
            "test_it.py": "import pytest\n"
            "def test_exits(): pytest.exit('unheard')\n"
            "def test_other(): pass\n",
        },
    )
    run = suite.run(workers=1)
    assert run.exit_code == 1
    assert run.outcomes == {
        "test_it.py::test_exits": "crashed",
        "test_it.py::test_other": "passed",
    }
    assert "it ended the session without a word" in run.output


def test_a_failure_that_ends_the_run_counts_though_its_worker_dies_tearing_down(
    tmp_path: Path,
) -> None:
    suite = Suite(
        tmp_path,
        {
            "test_it.py": "import os, pytest\n"
            "@pytest.fixture(scope='session', autouse=True)\n"
            "def resource():\n    yield\n    os.abort()\n"
            "def test_fails(): assert 0, 'the failure'\n"
            "def test_other(): pass\n",
        },
    )
    run = suite.run("-x", workers=1)
    assert run.exit_code == 1
    assert run.outcomes == {"test_it.py::test_fails": "failed"}
    assert run.unrun == ["test_it.py::test_other"]
    assert "the failure" in run.text_of("test_fails ___")


def test_workers_for_which_there_is_no_room_are_done_without(tmp_path: Path) -> None:
    suite = Suite(
        tmp_path,
        {
            "test_one.py": "import pytest\n"
            "@pytest.mark.parametrize('n', range(8))\n"
            "def test_ok(n): pass\n"
        },
    )
    command = (
        f"ulimit -n 80; exec {sys.executable} -m pytest --farm 24 -p no:cacheprovider"
        " --farm-report={results}/report.json --junitxml={results}/junit.xml"
    )
    with suite.started_command(["sh", "-c", command]) as running:
        run = running.wait()
    assert run.exit_code == 0
    assert run.counts == {"passed": 8}
    assert "[gw23] worker gw23 could not be started: OSError: [Errno 24]" in run.output
