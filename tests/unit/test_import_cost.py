"""What a plain pytest run imports because snapfarm is installed: not what only a farm needs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_PLAIN = "import snapfarm.plugin, snapfarm.roles, snapfarm.local"
_FARM = "import snapfarm.session"
_HANDLE = "from snapfarm.golden.handle import Golden"


def _imported(statement: str) -> set[str]:
    code = f"{statement}; import json, sys; print(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    "module", ["zmq", "multiprocess", "dill", "dmemfs", "snapfarm.hub", "snapfarm_worker.items"]
)
def test_plain_run_does_not_import_the_farm(module: str) -> None:
    assert module not in _imported(_PLAIN)


def test_farm_without_databases_imports_no_builder_and_no_store() -> None:
    assert _imported(_FARM).isdisjoint({"dmemfs", "snapfarm.golden", "snapfarm.store"})


@pytest.mark.parametrize(
    "module",
    ["dill", "multiprocess", "dmemfs", "pytest", "snapfarm.config", "snapfarm.golden.build"],
)
def test_naming_a_golden_database_imports_no_builder(module: str) -> None:
    assert module not in _imported(_HANDLE)


def test_a_worker_pool_does_without_pytest() -> None:
    assert "pytest" not in _imported("from snapfarm import WorkerPool; WorkerPool")
