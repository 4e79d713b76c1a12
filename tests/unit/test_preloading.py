"""What a fork server imports for the sake of a session's plugins."""

from __future__ import annotations

import asyncio
import importlib.machinery
import subprocess
import sys
import types
from pathlib import Path

import pytest

from snapfarm.launch.preloading import Preload, preloads


def made(name: str, origin: str) -> types.ModuleType:
    """Return a module that comes from somewhere."""
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, origin=origin)
    module.__file__ = origin
    return module


def test_what_plugins_use_of_the_standard_library() -> None:
    loaded = {
        "asyncio": asyncio,
        "asyncio.events": asyncio.events,
        "sys": sys,
        "pdb": made("pdb", asyncio.__file__),
        "pytest": pytest,
        "statistics": made("statistics", "/project/statistics.py"),
        "__main__": sys.modules["__main__"],
    }
    assert [each.module for each in preloads(loaded)] == ["asyncio", "asyncio.events"]
    assert preloads({**loaded, "gevent": made("gevent", "/site-packages/gevent.py")}) == []


def test_django_comes_with_pytest_django() -> None:
    plugin = made("pytest_django", "/site-packages/pytest_django/__init__.py")
    (one,) = preloads({"pytest_django": plugin}, django=True)
    assert one.module == "snapfarm_worker.forkserver_django"
    assert preloads({"pytest_django": plugin}) == []


def test_a_package_from_elsewhere_is_misplaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vendored.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    preload = Preload("uses_it", "vendored")
    assert not preload.is_misplaced()
    monkeypatch.setitem(sys.modules, "vendored", made("vendored", str(tmp_path / "vendored.py")))
    assert not preload.is_misplaced()
    monkeypatch.setitem(sys.modules, "vendored", made("vendored", "/project/vendored.py"))
    assert preload.is_misplaced()
    assert not Preload("anything").is_misplaced()


def test_nothing_of_django_that_is_imported_needs_settings() -> None:
    pytest.importorskip("django")
    script = (
        "import sys, snapfarm_worker.forkserver_django as preloaded\n"
        "print([name for name in preloaded._MODULES if name not in sys.modules])\n"
        "from django.conf import settings\n"
        "print(settings.configured)\n"
        "print({'statistics', 'multiprocessing'} & set(sys.modules))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert run.stdout.splitlines() == ["[]", "False", "set()"], run.stderr
