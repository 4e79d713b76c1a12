"""Suites that nobody here wrote: how to obtain them, run them, and compare what came out.

<cache>/jinja2-3.1.6/sdist/        the source distribution, checked against its hash
<cache>/jinja2-3.1.6/source/       unpacked; the suite runs in here
<cache>/jinja2-3.1.6/venv-3.11/    the project, its pinned requirements, this checkout
"""

from __future__ import annotations

import collections
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from snapfarm.compare import record

CHECKOUT = Path(__file__).resolve().parents[2]
#: Where suites are kept between runs.
CACHE = Path(os.environ.get("REAL_SUITES_CACHE") or CHECKOUT / ".farm" / "real")
_REAL = CHECKOUT / "tests" / "real"
_PLUGINS = _REAL / "plugin"
#: Seconds that one run of a suite may take.
_LIMIT = 900.0
#: Variables that would choose other options, plugins or modules for the suite that is run.
_FOREIGN = ("PYTEST_", "FARM_", "PYTHON", "VIRTUAL_ENV", "HYPOTHESIS_", "DJANGO_", "CI", "COV")

#: One report: node id, phase (setup, call, teardown, collect), outcome.
Outcome = tuple[str, str, str]
Outcomes = collections.Counter[Outcome]


class SuiteUnavailable(Exception):
    """A suite could not be had or installed; the message says what to do about it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Suite:
    """A project whose source distribution brings its tests."""

    name: str
    version: str
    #: SHA-256 of the source distribution.
    sha256: str
    #: How many tests have an outcome: fewer mean that the suite was not really run.
    tests: int
    #: The pytest settings that it gets where it brings none; without any, pytest would go on to
    #: look for some, and find those of this checkout.
    settings: str | None = None
    #: What pytest is told to collect.
    paths: tuple[str, ...] = ("tests",)
    #: More options of pytest: what is left out, for instance, each with its reason beside it.
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Tests whose outcomes differ between two plain runs, each with the reason: not compared.
    flaky: Mapping[str, str] = field(default_factory=dict)
    #: Tests that ask whether they are distributed, each with what then comes of it.
    distributed: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    #: Variables without which pytest-xdist does not run it; only its runs get them.
    for_xdist: Mapping[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """The suite's folder in the cache."""
        return CACHE / f"{self.name}-{self.version}"

    @property
    def requirements(self) -> Path:
        """The file that pins all that the tests need."""
        return _REAL / "requirements" / f"{self.name}.txt"


@dataclass(frozen=True)
class Prepared:
    """A suite that is ready to run."""

    suite: Suite
    source: Path
    bin: Path


@dataclass(frozen=True)
class Run:
    """What came of one run of a suite."""

    exit_status: int
    outcomes: Outcomes
    #: Wall clock, and what the tree of processes has used of processors.
    seconds: float
    cpu: float
    output: str

    @property
    def tests(self) -> int:
        """How many tests have an outcome."""
        return len({nodeid for nodeid, phase, _ in self.outcomes if phase != "collect"})


_SKIPPED_IN_SETUP = (("setup", "skipped"), ("teardown", "passed"))

JINJA2 = Suite(
    name="jinja2",
    version="3.1.6",
    sha256="0137fb05990d35f1275a587e9aee6d56da821fc83491a0fb838183be43f66d6d",
    tests=909,
)
CLICK = Suite(
    name="click",
    version="8.5.1",
    sha256="9bbfada76703fd1d784b83eea012e3e8c6a001a876543ef104fa56aaaeb072b4",
    tests=2459,
)
SQLITE_UTILS = Suite(
    name="sqlite-utils",
    version="4.2.1",
    sha256="76114b6a5414714e6c70e5fa5c4781b301b590f6951b5da39c8cc60c21382ba1",
    tests=1501,
    settings="[pytest]\n",
    # hypothesis then makes the same examples each time, and sets no deadline.
    environment={"CI": "true"},
)
PYTEST_DJANGO = Suite(
    name="pytest-django",
    version="4.14.0",
    sha256="26787dd3f422cfbab8f55b80a776e2edea7a11092cb74e960bef1312515708ef",
    tests=242,
    distributed={
        # Both call pytest.skip("xdist in use") where config.workerinput is there.
        "tests/test_fixtures.py::TestLiveServer::test_settings_before": _SKIPPED_IN_SETUP,
        "tests/test_fixtures.py::TestLiveServer::test_settings_restored": _SKIPPED_IN_SETUP,
    },
)
DJANGORESTFRAMEWORK = Suite(
    name="djangorestframework",
    version="3.18.3",
    sha256="446a9b352e7eff630421ab3f2328bd2401b109a9470afa4a31189994911ed030",
    tests=1664,
)
DJANGO_FILTER = Suite(
    name="django-filter",
    version="26.2",
    sha256="fd5cc83995fbe9f5f07fb5dcda16fde0f04de1ecf8ef82628b6c0ec921b751af",
    tests=520,
    # Its own runner is Django's; pytest-django takes that one's place.
    settings="[pytest]\npythonpath = .\nDJANGO_SETTINGS_MODULE = tests.settings\n",
)
ALEMBIC = Suite(
    name="alembic",
    version="1.20.1",
    sha256="83490def1f723413db5096591f7609ac52544805be93849170088ed04f5a2e0b",
    tests=2112,
)
SQLALCHEMY_UTILS = Suite(
    name="sqlalchemy-utils",
    version="0.43.0",
    sha256="7e8741dbc2c0f992d2181cd69de13de292b3a2a5305a9da832e10d540abcedbf",
    tests=2705,
    settings="[pytest]\n",
    # It parametrizes over a set of texts.
    for_xdist={"PYTHONHASHSEED": "1"},
)
AIOSQLITE = Suite(
    name="aiosqlite",
    version="0.22.1",
    sha256="043e0bd78d32888c0a9ca90fc788b38796843360c855a7262a532813133a0650",
    tests=30,
    settings="[pytest]\n",
    # The rest of its tests measures how fast it is.
    paths=("aiosqlite/tests/smoke.py",),
)
STARLETTE = Suite(
    name="starlette",
    version="1.10.0",
    sha256="b8399098d4c1e3522734f7235dc79b1fc967f96cf139c81e0fa30479e0685f9b",
    tests=1416,
)
SUITES = (
    JINJA2,
    CLICK,
    SQLITE_UTILS,
    PYTEST_DJANGO,
    DJANGORESTFRAMEWORK,
    DJANGO_FILTER,
    ALEMBIC,
    SQLALCHEMY_UTILS,
    AIOSQLITE,
    STARLETTE,
)


# ---------------------------------------------------------------- obtaining


def prepare(suite: Suite) -> Prepared:
    """Return a suite, downloaded and installed unless the cache has it. Raises SuiteUnavailable."""
    home = suite.home
    home.mkdir(parents=True, exist_ok=True)
    sdist = _download(suite, home / "sdist")
    source = home / "source"
    if not source.exists():
        _unpack(sdist, source)
    if suite.settings is not None:
        (source / "pytest.ini").write_text(suite.settings, "utf-8")
    venv = home / f"venv-{sys.version_info[0]}.{sys.version_info[1]}"
    stamp = venv / "complete"
    if not stamp.exists() or stamp.read_text("utf-8") != _installation(suite):
        _install(suite, sdist, venv)
        stamp.write_text(_installation(suite), "utf-8")
    return Prepared(suite, source, venv / "bin")


def _download(suite: Suite, folder: Path) -> Path:
    found = sorted(folder.glob("*.tar.gz"))
    if found and hashlib.sha256(found[0].read_bytes()).hexdigest() == suite.sha256:
        return found[0]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    pinned = folder / "pinned.txt"
    pinned.write_text(f"{suite.name}=={suite.version} --hash=sha256:{suite.sha256}\n", "utf-8")
    _pip(
        suite,
        "obtain its source distribution",
        [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", suite.name,
         "--require-hashes", "--dest", str(folder), "-r", str(pinned)],
    )  # fmt: skip
    return next(folder.glob("*.tar.gz"))


def _unpack(sdist: Path, source: Path) -> None:
    """Unpack a source distribution so that the folder is there whole, or not at all."""
    with tempfile.TemporaryDirectory(dir=source.parent) as partial:
        with tarfile.open(sdist) as archive:
            archive.extractall(partial, filter="data")
        (top,) = Path(partial).iterdir()
        top.rename(source)


def _install(suite: Suite, sdist: Path, venv: Path) -> None:
    shutil.rmtree(venv, ignore_errors=True)
    _pip(suite, "make its virtual environment", [sys.executable, "-m", "venv", str(venv)])
    _pip(
        suite,
        "install it with its tests' requirements and this checkout",
        [str(venv / "bin" / "python"), "-m", "pip", "install",
         "-r", str(suite.requirements), "-e", str(CHECKOUT), str(sdist)],
    )  # fmt: skip


def _installation(suite: Suite) -> str:
    """Return what an environment is made from; one made from anything else is made again."""
    parts = (suite.sha256, suite.requirements.read_text("utf-8"), sys.version, str(CHECKOUT))
    packaging = (CHECKOUT / "pyproject.toml").read_text("utf-8").partition("[tool.")[0]
    return hashlib.sha256("\0".join((*parts, packaging)).encode()).hexdigest()


def _pip(suite: Suite, purpose: str, command: list[str]) -> None:
    """Run pip, or what prepares for it. Raises SuiteUnavailable."""
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise SuiteUnavailable(
            f"could not {purpose}: {suite.name} {suite.version}; suites of others need a package "
            f"index that pip can reach, or a filled cache in {CACHE}\n"
            f"the command was: {' '.join(command)}\n{said}"
        )


# ---------------------------------------------------------------- running


def run_plain(prepared: Prepared, *options: str) -> Run:
    """Run a suite with pytest alone."""
    return _run(prepared, [str(prepared.bin / "pytest"), "-p", "no:snapfarm"], options)


def run_xdist(prepared: Prepared, *options: str) -> Run:
    """Run a suite with pytest-xdist, on two workers."""
    command = [str(prepared.bin / "pytest"), "-p", "no:snapfarm", "-n", "2"]
    return _run(prepared, command, options, prepared.suite.for_xdist)


def run_farm(prepared: Prepared, *options: str) -> Run:
    """Run a suite on a farm of two workers."""
    return _run(prepared, [str(prepared.bin / "farm"), "run", "-n", "2"], options)


def _run(
    prepared: Prepared,
    command: list[str],
    options: tuple[str, ...],
    variables: Mapping[str, str] | None = None,
) -> Run:
    with tempfile.TemporaryDirectory(dir=_fast_folder(), prefix="real-") as folder:
        written = Path(folder, "outcomes")
        words = [
            *command, "-q", "-p", "no:cacheprovider", "-p", "real_outcomes",
            f"--real-outcomes={written}", *options, *prepared.suite.options,
            *prepared.suite.paths,
        ]  # fmt: skip
        began, used = time.perf_counter(), _used()
        try:
            done = subprocess.run(
                words,
                cwd=prepared.source,
                env=_environment(prepared, folder) | dict(variables or {}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"{' '.join(words)} took more than {_LIMIT:g} s") from error
        seconds, cpu = time.perf_counter() - began, _used() - used
        outcomes = _read(written) if written.exists() else Outcomes()
    return Run(done.returncode, outcomes, seconds, cpu, done.stdout)


def _used() -> float:
    """Return the CPU seconds of all descendants that have been waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _environment(prepared: Prepared, temporary: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    path = f"{prepared.bin}{os.pathsep}{kept.get('PATH', os.defpath)}"
    own = {"PATH": path, "PYTHONPATH": str(_PLUGINS), "TMPDIR": temporary}
    return kept | own | dict(prepared.suite.environment)


def _fast_folder() -> str | None:
    """Return a folder in memory, if there is one: suites of databases wait for disks else."""
    shared = Path("/dev/shm")
    return str(shared) if os.access(shared, os.W_OK) else None


def _read(written: Path) -> Outcomes:
    _, reports = record.read(written)
    return Outcomes((report.nodeid, report.when, report.outcome) for report in reports)


# ---------------------------------------------------------------- comparing


def expected_on_a_farm(suite: Suite, plain: Outcomes) -> Outcomes:
    """Return what a distributed run has to give, made from what a plain run gave."""
    expected = Outcomes(
        {each: count for each, count in plain.items() if each[0] not in suite.distributed}
    )
    for nodeid, phases in suite.distributed.items():
        expected.update((nodeid, phase, outcome) for phase, outcome in phases)
    return without_flaky(suite, expected)


def without_flaky(suite: Suite, outcomes: Outcomes) -> Outcomes:
    """Return outcomes without those of tests that differ between two plain runs."""
    return Outcomes({each: n for each, n in outcomes.items() if each[0] not in suite.flaky})


def differences(expected: Outcomes, found: Outcomes) -> list[str]:
    """Return a line for each report that only one side has, or that has another count."""
    lacking, surplus = expected - found, found - expected
    lines = [f"only plain ({count}x): {' '.join(each)}" for each, count in lacking.items()]
    lines += [f"only farm  ({count}x): {' '.join(each)}" for each, count in surplus.items()]
    return sorted(lines)
