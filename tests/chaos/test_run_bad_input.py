"""Suites that can't run as they are: each ends with pytest's own exit code and a clear word."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from support.suite import Suite

SCHEMA = {
    "farm.toml": '[golden.default]\nschema = ["schema.sql"]\n',
    "schema.sql": "CREATE TABLE t(x);\nINSERT INTO t VALUES (1), (2), (3);\n",
}
ROWS = (
    "import pytest\n"
    "@pytest.mark.parametrize('n', range(4))\n"
    "def test_rows(farm_db, n):\n"
    "    assert farm_db.execute('SELECT count(*) FROM t').fetchone() == (3,)\n"
    "    farm_db.execute('DELETE FROM t')\n"
    "    farm_db.commit()\n"
)


def test_a_suite_without_tests(tmp_path: Path) -> None:
    run = Suite(tmp_path, {"test_none.py": "x = 1\n"}).run()
    assert run.exit_code == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "no tests ran" in run.output
    assert run.outcomes == {}


def test_a_suite_whose_tests_are_all_deselected(tmp_path: Path) -> None:
    run = Suite(tmp_path, {"test_one.py": "def test_one(): pass\n"}).run("-k", "nothing")
    assert run.exit_code == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "1 deselected" in run.output


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    run = Suite(tmp_path).run("missing.py")
    assert run.exit_code == pytest.ExitCode.USAGE_ERROR
    assert "file or directory not found: missing.py" in run.output


@pytest.mark.parametrize(
    ("where", "code", "said"),
    [
        ("conftest.py", "def broken(:\n", "SyntaxError"),
        ("conftest.py", "raise RuntimeError('not today')\n", "not today"),
        ("sub/conftest.py", "def broken(:\n", "SyntaxError"),
        ("sub/conftest.py", "import nowhere_at_all\n", "No module named 'nowhere_at_all'"),
    ],
)
def test_a_conftest_that_cannot_be_imported(
    tmp_path: Path, where: str, code: str, said: str
) -> None:
    suite = Suite(tmp_path, {"test_one.py": "def test_one(): pass\n", where: code})
    suite.write({"sub/test_two.py": "def test_two(): pass\n"})
    plain = suite.run(workers=None)
    run = suite.run()
    assert run.exit_code == plain.exit_code
    assert said in plain.output
    assert said in run.output


def test_a_conftest_that_fails_in_workers_only(tmp_path: Path) -> None:
    suite = Suite(
        tmp_path,
        {
            "conftest.py": "import os\n"
            "if 'PYTEST_XDIST_WORKER' in os.environ: raise RuntimeError('not in a worker')\n",
            "test_one.py": "def test_one(): pass\n",
        },
    )
    run = suite.run()
    assert run.exit_code in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.USAGE_ERROR)
    assert "RuntimeError: not in a worker" in run.output
    assert run.outcomes == {}


def test_a_test_module_that_cannot_be_imported(tmp_path: Path) -> None:
    suite = Suite(
        tmp_path, {"test_bad.py": "def broken(:\n", "test_one.py": "def test_one(): pass\n"}
    )
    run = suite.run()
    assert run.exit_code == pytest.ExitCode.INTERRUPTED
    assert run.output.count("SyntaxError") == 1
    assert "1 error during collection" in run.output
    assert run.outcomes == {}
    run = suite.run("--continue-on-collection-errors")
    assert run.exit_code == 1
    assert [item["outcome"] for item in run.items] == ["passed"]


def test_errors_during_collection_are_counted_without_failures_of_tests(tmp_path: Path) -> None:
    suite = Suite(
        tmp_path,
        {
            "test_a.py": "import pathlib\n"
            "def test_fails(): assert 0\n"
            "def test_fails_too(): assert 0\n"
            "def test_tells(): pathlib.Path('told').touch()\n"
            "def test_last(): pass\n",
            # The second worker fails to collect once the first one has failed.
            "test_z.py": "import os, pathlib, time\n"
            "if os.environ.get('PYTEST_XDIST_WORKER') == 'gw1':\n"
            "    end = time.monotonic() + 60\n"
            "    while not pathlib.Path('told').exists():\n"
            "        assert time.monotonic() < end\n"
            "        time.sleep(0.01)\n"
            "    raise ValueError('late')\n",
        },
    )
    run = suite.run()
    assert run.exit_code == pytest.ExitCode.INTERRUPTED
    assert "Interrupted: 1 error during collection" in run.output


def test_sys_exit_while_a_test_module_is_imported(tmp_path: Path) -> None:
    suite = Suite(
        tmp_path, {"test_bad.py": "import sys; sys.exit(7)\n", "test_one.py": "def test_one(): 0\n"}
    )
    plain = suite.run(workers=None)
    run = suite.run()
    assert run.exit_code == plain.exit_code
    assert "SystemExit: 7" in run.output
    assert run.outcomes == {}


def test_parameters_from_a_set_of_texts(tmp_path: Path) -> None:
    # Workers that are forked have one seed anyway.
    suite = Suite(
        tmp_path,
        {
            "test_sets.py": "import os, pytest\n"
            "@pytest.mark.parametrize('word', {f'word{n}' for n in range(40)})\n"
            "def test_word(word):\n"
            "    assert 'PYTHONHASHSEED' not in os.environ\n"
            # The worker that takes its place has to collect the same order too.
            "    assert word != 'word7' or os._exit(7)\n"
        },
        start="spawn",
    )
    run = suite.run()
    assert run.exit_code == pytest.ExitCode.TESTS_FAILED
    assert run.counts == {"passed": 39, "crashed": 1}
    assert "did not run" not in run.output


def test_parameters_in_another_order(tmp_path: Path) -> None:
    suite = Suite(
        tmp_path,
        {
            "test_sets.py": "import os, pytest\n"
            "words = {'apple', 'pear', 'plum'}\n"
            "order = sorted(words, reverse=os.environ.get('PYTEST_XDIST_WORKER') == 'gw1')\n"
            "@pytest.mark.parametrize('word', order)\n"
            "def test_word(word): pass\n"
        },
    )
    run = suite.run()
    assert run.exit_code == pytest.ExitCode.USAGE_ERROR
    assert "collected different tests" in run.output
    assert "the same tests in another order, from number 1 on" in run.output
    assert "parametrize with a list" in run.output


def test_tests_that_one_worker_does_not_have(tmp_path: Path) -> None:
    suite = Suite(
        tmp_path,
        {
            "test_sets.py": "import os, pytest\n"
            "names = ['same', os.environ.get('PYTEST_XDIST_WORKER', 'master')]\n"
            "@pytest.mark.parametrize('name', names)\n"
            "def test_it(name): pass\n"
        },
    )
    run = suite.run()
    assert run.exit_code == pytest.ExitCode.USAGE_ERROR
    assert "test_sets.py::test_it[gw0]" in run.output
    assert "test_sets.py::test_it[gw1]" in run.output


def test_ten_thousand_tests(tmp_path: Path) -> None:
    suite = Suite(
        tmp_path,
        {
            "test_many.py": "import pytest\n"
            "@pytest.mark.parametrize('n', range(10_000))\n"
            "def test_it(n): assert n % 1000 != 77\n"
        },
    )
    run = suite.run("-q", "-p", "no:logging")
    assert run.exit_code == 1
    outcomes = run.outcomes
    assert run.counts == {"passed": 9_990, "failed": 10}
    assert {node for node, outcome in outcomes.items() if outcome == "failed"} == {
        f"test_many.py::test_it[{n}]" for n in range(77, 10_000, 1000)
    }


def test_two_hundred_megabytes_of_captured_output(tmp_path: Path) -> None:
    suite = Suite(
        tmp_path,
        {
            "test_loud.py": "import sys\n"
            "def test_loud():\n"
            "    line = 'x' * (1 << 20) + '\\n'\n"
            "    for _ in range(200): sys.stdout.write(line)\n"
            "def test_quiet(): pass\n"
            "def test_loud_and_dead():\n"
            "    import os\n"
            "    test_loud()\n"
            "    print('the end', flush=True)\n"
            "    os.abort()\n"
        },
    )
    run = suite.run("-o", "junit_logging=no")
    assert run.exit_code == 1
    assert run.counts == {"passed": 2, "crashed": 1}
    assert "the end" in run.output
    assert len(run.output) < 1_000_000


def test_more_output_than_a_message_holds(tmp_path: Path) -> None:
    suite = Suite(
        tmp_path,
        {
            # As with 600 MB and the limit that there is, in less time.
            "conftest.py": "import snapfarm_worker.items as items\n"
            "items.LONGEST_REPORTS = 8_000_000\n",
            "test_loud.py": "def test_loud():\n"
            "    print('the beginning', 'x' * 5_000_000, 'the end')\n"
            "    assert not 'as it should'\n"
            "def test_quiet(): pass\n",
        },
    )
    run = suite.run()
    assert run.exit_code == 1
    assert run.counts == {"failed": 1, "passed": 1}
    assert "the beginning" in run.output
    assert "characters were left out here" in run.output
    assert "the end" in run.output


def test_twenty_megabytes_past_the_capture(tmp_path: Path) -> None:
    suite = Suite(
        tmp_path,
        {
            "test_loud.py": "import os\n"
            "def test_loud():\n"
            "    block = (b'x' * 1023 + b'\\n') * 1024\n"
            "    for _ in range(20): os.write(1, block)\n"
            "def test_quiet(): pass\n"
        },
    )
    run = suite.run("-s")
    assert run.exit_code == 0
    assert run.counts == {"passed": 2}
    assert run.output.count("x" * 1023) == 20 * 1024


ODD_REPORTS = {
    "a property of an odd type": "def pytest_runtest_makereport(item, call):\n"
    "    item.user_properties.append(('odd', object()))\n",
    "an attribute of an odd type": "@pytest.hookimpl(hookwrapper=True)\n"
    "def pytest_runtest_makereport(item, call):\n"
    "    report = (yield).get_result()\n"
    "    report.odd = {'a': {1, 2}, 'b': [object(), lambda: 0], 2**100: '\\ud800'}\n",
    "one that contains itself": "@pytest.hookimpl(hookwrapper=True)\n"
    "def pytest_runtest_makereport(item, call):\n"
    "    report = (yield).get_result()\n"
    "    report.odd = []\n"
    "    report.odd.append(report.odd)\n",
    "one whose repr() raises": "class Odd:\n"
    "    def __repr__(self): raise ValueError('no repr')\n"
    "@pytest.hookimpl(hookwrapper=True)\n"
    "def pytest_runtest_makereport(item, call):\n"
    "    report = (yield).get_result()\n"
    "    report.odd = Odd()\n",
}


@pytest.mark.parametrize("what", ODD_REPORTS)
def test_a_report_that_cannot_be_serialized(tmp_path: Path, what: str) -> None:
    suite = Suite(
        tmp_path,
        {
            "conftest.py": "import pytest\n" + ODD_REPORTS[what],
            "test_one.py": "def test_passes(): pass\ndef test_fails(): assert not 'as it should'\n",
        },
    )
    run = suite.run("-o", "junit_logging=no")
    assert run.outcomes == {
        "test_one.py::test_passes": "passed",
        "test_one.py::test_fails": "failed",
    }
    assert run.exit_code == 1
    assert "as it should" in run.output


def test_a_hook_that_fails_to_serialize_is_an_internal_error(tmp_path: Path) -> None:
    suite = Suite(
        tmp_path,
        {
            "conftest.py": "def pytest_report_to_serializable(config, report):\n"
            "    if getattr(report, 'when', '') == 'call': raise ValueError('can not')\n",
            "test_one.py": "def test_one(): pass\n",
        },
    )
    run = suite.run()
    assert run.exit_code == pytest.ExitCode.INTERNAL_ERROR
    assert "ValueError: can not" in run.output


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_each_start_method_serves_a_database(tmp_path: Path, method: str) -> None:
    suite = Suite(tmp_path, {"test_rows.py": ROWS, **SCHEMA})
    run = suite.run(f"--farm-start-method={method}")
    assert run.exit_code == 0, run.output
    assert run.counts == {"passed": 4}


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_script_without_a_main_guard_is_not_run_again(tmp_path: Path, method: str) -> None:
    suite = Suite(
        tmp_path,
        {
            "test_rows.py": ROWS,
            **SCHEMA,
            "script.py": "import os, sys, pytest\n"
            "print('running', flush=True)\n"
            "def descriptors(): return len(os.listdir('/proc/self/fd'))\n"
            "arguments = ['--farm', '2', '-p', 'no:cacheprovider', *sys.argv[1:]]\n"
            "codes, open_files = [], []\n"
            "for _ in range(2):\n"
            "    codes.append(int(pytest.main(arguments)))\n"
            "    open_files.append(descriptors())\n"
            "print('codes', codes)\n"
            "print('grown by', open_files[-1] - open_files[0])\n",
        },
    )
    command = [sys.executable, "script.py", f"--farm-start-method={method}"]
    with suite.started_command(command) as running:
        run = running.wait()
    assert run.output.count("running\n") == 1
    assert "codes [0, 0]" in run.output
    assert "grown by 0\n" in run.output


TEMPORARY = {
    "long": "t" * 120,
    "with spaces and quotes": "a 'b' \"c\" %s {d} [e] *",
    "not ASCII": "\N{SNOWMAN}" * 40,
    "a colon": "a:b",
}


@pytest.mark.parametrize("what", TEMPORARY)
def test_an_odd_temporary_directory(tmp_path: Path, what: str) -> None:
    tmp = tmp_path / TEMPORARY[what]
    tmp.mkdir()
    suite = Suite(tmp_path / "suite", {"test_rows.py": ROWS, **SCHEMA})
    run = suite.run(env={"TMPDIR": str(tmp)})
    assert run.exit_code == 0, run.output
    assert run.counts == {"passed": 4}


def test_a_temporary_directory_whose_name_is_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"/tmp/st-\xff-") + str(os.getpid())
    Path(name).mkdir()
    run = Suite(tmp_path, {"test_rows.py": ROWS, **SCHEMA}).run(env={"TMPDIR": name})
    assert run.exit_code == 0, run.output


def test_a_long_build_does_not_count_as_a_slow_start(tmp_path: Path) -> None:
    suite = Suite(
        tmp_path,
        {
            "farm.toml": 'start_timeout = 1.5\n[golden.default]\nseed = ["seeds:slow"]\n',
            "seeds.py": "import pathlib, time\n"
            "def slow(conn):\n"
            "    time.sleep(2)\n"
            "    conn.execute('CREATE TABLE t(x)')\n",
            "test_one.py": "def test_one(farm_db): pass\n",
        },
    )
    run = suite.run()
    assert run.exit_code == 0
    assert run.counts == {"passed": 1}


def test_a_worker_that_is_stopped_before_it_is_ready_is_given_up(tmp_path: Path) -> None:
    suite = Suite(tmp_path, {"test_rows.py": ROWS, **SCHEMA})
    suite.write(
        {
            "farm.toml": "start_timeout = 3\n" + SCHEMA["farm.toml"],
            # The first process that the coordinator forks is stopped before it does anything.
            "conftest.py": "import os, pathlib, signal\n"
            "def stop_first():\n"
            "    try: pathlib.Path('stopped').touch(exist_ok=False)\n"
            "    except FileExistsError: return\n"
            "    os.kill(os.getpid(), signal.SIGSTOP)\n"
            "if 'PYTEST_XDIST_WORKER' not in os.environ:\n"
            "    os.register_at_fork(after_in_child=stop_first)\n",
        }
    )
    run = suite.run()
    assert run.exit_code == 0
    assert run.counts == {"passed": 4}
    assert "(killed by the farm: start) while starting" in run.output


def test_a_worker_input_that_cannot_travel(tmp_path: Path) -> None:
    suite = Suite(
        tmp_path,
        {
            "conftest.py": "def pytest_configure_node(node):\n"
            "    node.workerinput['numbers'] = (n for n in range(3))\n",
            "test_one.py": "def test_one(): pass\n",
        },
        start="spawn",
    )
    run = suite.run()
    assert run.exit_code == pytest.ExitCode.INTERRUPTED
    assert "worker gw0 could not be started: TypeError: cannot pickle" in run.output
    _, _, end = run.output.partition("Interrupted: every worker died before it was ready")
    # Once for all workers.
    assert end.count("could not be started: TypeError: cannot pickle") == 1


def test_names_of_folders_and_files_that_are_no_valid_text(tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"folder-\xff")
    body = "import pytest\n@pytest.mark.parametrize('n', range(3))\ndef test_it(n): assert n\n"
    suite = Suite(root, {os.fsdecode(b"test_\xfe.py"): body})
    # pytest's own JUnit writer and cache can't hold such names.
    command = [sys.executable, "-m", "pytest", "--farm=2", "--farm-dist=loadfile"]
    command += ["-p", "no:cacheprovider", "--farm-report={results}/report.json"]
    with suite.started_command(command) as running:
        run = running.wait()
    assert run.exit_code == 1, run.output
    assert {str(item["nodeid"]): item["outcome"] for item in run.items} == {
        "test_\\udcfe.py::test_it[0]": "failed",
        "test_\\udcfe.py::test_it[1]": "passed",
        "test_\\udcfe.py::test_it[2]": "passed",
    }


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("pytest.exit('odd \\udcff')", "Exit: gw0: odd \\udcff"),
        ("request.session.shouldstop = 'odd \\udcff'", "Interrupted: odd \\udcff"),
    ],
)
def test_reasons_that_are_no_valid_text(tmp_path: Path, code: str, told: str) -> None:
    suite = Suite(tmp_path, {"test_it.py": f"import pytest\ndef test_it(request): {code}\n"})
    run = suite.run(workers=1)
    assert run.exit_code == pytest.ExitCode.INTERRUPTED
    assert told in run.output
    assert "workers that died" not in run.output
