"""Broadcast in whole runs: late joiners, damage on the wire, foreign versions, big snapshots."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from snapfarm_worker import wire
from support.suite import Suite, SuiteRun

PROJECT = {
    "farm.toml": 'chunk_size = 4096\n[golden.default]\nseed = ["seeds:fill"]\n',
    "seeds.py": "def fill(conn):\n"
    "    conn.execute('CREATE TABLE t(x)')\n"
    "    conn.executemany('INSERT INTO t VALUES (?)', [('v%0500d' % n,) for n in range(200)])\n",
    "test_rows.py": "import pytest\n"
    "@pytest.mark.parametrize('n', range(6))\n"
    "def test_rows(farm_db, n):\n"
    "    rows = [row[0] for row in farm_db.execute('SELECT x FROM t ORDER BY x')]\n"
    "    assert rows == ['v%0500d' % n for n in range(200)]\n",
}

#: A plugin that harms what the coordinator sends; {harm} is the body of a function.
HARM = """
import snapfarm_worker.wire as wire
from snapfarm.broadcast import Broadcast

original = Broadcast._frames
sent = dict()

def harmed(self, digest, indexes):
    for head, payload in original(self, digest, indexes):
        index = wire.decode_to_worker(head).index
        before = sent[index] = sent.get(index, -1) + 1
        if index == 3 and {when}:
            data = bytearray(payload)
            data[100] ^= 1
            payload = memoryview(bytes(data))
        yield [head, payload]

Broadcast._frames = harmed
"""


def _workers(run: SuiteRun) -> dict[str, dict[str, object]]:
    assert run.report is not None
    return cast("dict[str, dict[str, object]]", run.report["workers"])


def _run_harmed(root: Path, when: str) -> SuiteRun:
    suite = Suite(root, PROJECT | {"harm.py": HARM.format(when=when)})
    return suite.run("-p", "harm", "-o", "pythonpath=.")


def test_a_bit_that_flips_once_is_repaired(tmp_path: Path) -> None:
    run = _run_harmed(tmp_path, "before == 0")
    assert run.exit_code == 0
    assert run.counts == {"passed": 6}
    # The broadcast was harmed, so each worker has asked for all of it once more.
    assert all(cast("int", worker["repaired_chunks"]) > 20 for worker in _workers(run).values())


def test_no_test_runs_on_a_damaged_database(tmp_path: Path) -> None:
    run = _run_harmed(tmp_path, "True")
    assert run.exit_code == pytest.ExitCode.INTERRUPTED
    assert run.outcomes == {}
    assert run.output.count("every worker died before it was ready") == 1
    assert "database 'default': the snapshot as it arrived is damaged" in run.output


def test_a_replacement_gets_its_databases_by_asking(tmp_path: Path) -> None:
    suite = Suite(tmp_path, PROJECT)
    suite.write({"test_dies.py": "import os\ndef test_dies(): os.abort()\n"})
    run = suite.run(workers=1)
    assert run.exit_code == 1
    assert run.counts == {"passed": 6, "crashed": 1}
    workers = _workers(run)
    assert workers["gw0"]["repaired_chunks"] == 0
    assert cast("int", workers["gw1"]["repaired_chunks"]) > 20
    assert {item["worker"] for item in run.items if item["outcome"] == "passed"} == {"gw1"}


def test_a_worker_of_a_foreign_version_is_refused(tmp_path: Path) -> None:
    suite = Suite(tmp_path, PROJECT, start="spawn")
    suite.write(
        {
            # Loaded by the interpreter itself: only worker processes get another version.
            "sitecustomize.py": "import sys\n"
            "if 'snapfarm_worker.boot' in ' '.join(sys.orig_argv):\n"
            "    import snapfarm_worker.wire\n"
            "    snapfarm_worker.wire.PROTOCOL_VERSION = 999\n"
        }
    )
    run = suite.run(python_path=tmp_path)
    assert run.exit_code == pytest.ExitCode.INTERRUPTED
    spoken = f"it speaks protocol 999, this farm {wire.PROTOCOL_VERSION}"
    assert f"the coordinator refused this worker: {spoken}" in run.output
    assert run.outcomes == {}


def test_sixty_megabytes_reach_three_processes(tmp_path: Path) -> None:
    suite = Suite(
        tmp_path,
        {
            "farm.toml": '[golden.default]\nschema = ["schema.sql"]\n',
            "schema.sql": "CREATE TABLE t(x);\n"
            + "INSERT INTO t VALUES (randomblob(6000000));\n" * 10,
            "test_size.py": "import pytest\n"
            "@pytest.mark.parametrize('n', range(9))\n"
            "def test_size(farm_db, n):\n"
            "    (size,) = farm_db.execute('SELECT sum(length(x)) FROM t').fetchone()\n"
            "    assert size == 60_000_000\n",
        },
    )
    run = suite.run(workers=3)
    assert run.exit_code == 0
    assert run.counts == {"passed": 9}
