"""`farm doctor`: what it reads, how it judges, what it prints."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from snapfarm.cli import main
from snapfarm.config import load_config
from snapfarm.doctor.checks import examine
from snapfarm.doctor.facts import Finding, Golden, Level, Machine, Plugin, Project
from snapfarm.doctor.machine import available_memory, read_machine
from snapfarm.doctor.project import read_project
from snapfarm.init.facts import EngineFact

MB, GB = 1 << 20, 1 << 30

HEALTHY = Machine(
    python="CPython 3.12.1",
    implementation="cpython",
    free_threaded=False,
    sqlite="3.45.0",
    threadsafety=3,
    serialize=True,
    rings={"shared-cache": "", "memdb": "", "private": ""},
    memory=8 * GB,
    memory_source="the system",
    descriptors=(1024, 4096),
    shared_memory=GB,
    temporary="/tmp",
    temporary_free=10 * GB,
    start_methods=("fork", "spawn", "forkserver"),
    system="Linux",
)
PLAIN = Project(
    root="/p",
    source="/p/farm.toml",
    workers=4,
    start_method="spawn",
    golden=(Golden(name="default", ring="shared-cache", size=10 * MB),),
    plugins=(Plugin("pytest-cov", "7.0"),),
    engines=(),
)


def findings(
    machine: dict[str, object] | None = None, project: dict[str, object] | None = None
) -> list[Finding]:
    """Return what is not well, of a machine and a project with these differences."""
    found = examine(
        msgspec.structs.replace(HEALTHY, **(machine or {})),
        msgspec.structs.replace(PLAIN, **(project or {})),
    )
    return [finding for finding in found if finding.level is not Level.OK]


def test_a_fit_machine_has_no_complaint_and_each_check_says_so() -> None:
    found = examine(HEALTHY, PLAIN)
    assert {finding.level for finding in found} == {Level.OK}
    checks = [finding.check for finding in found]
    assert len(checks) == len(set(checks))
    assert not any(finding.remedy for finding in found)


def test_the_databases_of_django_are_golden_though_nothing_declares_them() -> None:
    none = msgspec.structs.replace(PLAIN, golden=())
    for django, said in (("", "none is configured"), ("shop.settings", "of shop.settings: see")):
        found = examine(HEALTHY, msgspec.structs.replace(none, django=django))
        (told,) = [finding.message for finding in found if finding.check == "golden"]
        assert said in told


def engine(pool: str, function: str = "create_engine") -> EngineFact:
    return EngineFact(path="app.py", line=3, function=function, url="sqlite://", pool=pool)


def golden(size: int, ring: str = "shared-cache") -> dict[str, object]:
    return {"golden": (Golden(name="default", ring=ring, size=size),)}


LARGE: dict[str, object] = {"memory": 64 * GB}
OMITTED = {"shared-cache": "no such table: probe", "memdb": "", "private": ""}


@pytest.mark.parametrize(
    ("machine", "project", "check", "level", "remedy"),
    [
        ({"implementation": "pypy"}, {}, "python", Level.WARNING, "CPython"),
        ({"free_threaded": True}, {}, "python", Level.WARNING, "PYTHON_GIL=1"),
        ({"system": "Darwin"}, {}, "python", Level.WARNING, "Linux"),
        ({"threadsafety": 1}, {}, "thread safety", Level.WARNING, "connection of its own"),
        ({"threadsafety": 0}, {}, "thread safety", Level.ERROR, "SQLITE_THREADSAFE=1"),
        ({"serialize": False}, {}, "serialize", Level.ERROR, "SQLITE_OMIT_DESERIALIZE"),
        ({"rings": OMITTED}, {}, "ring shared-cache", Level.ERROR, 'ring = "memdb"'),
        ({"rings": OMITTED}, golden(1, "memdb"), "ring shared-cache", Level.WARNING, "this kind"),
        (LARGE, golden(3 * GB), "golden default", Level.ERROR, "fewer rows"),
        (LARGE, golden(GB, "memdb"), "golden default", Level.ERROR, "shared-cache"),
        ({"memory": 300 * MB}, {}, "memory", Level.ERROR, "-n 2"),
        ({"memory": 400 * MB}, {}, "memory", Level.WARNING, "-n 3"),
        ({"descriptors": (100, 4096)}, {}, "open files", Level.ERROR, "ulimit -n 112"),
        ({"descriptors": (100, 100)}, {}, "open files", Level.ERROR, "-n 3"),
        ({"shared_memory": None}, {}, "/dev/shm", Level.WARNING, "--shm-size"),
        ({"shared_memory": 4096}, {}, "/dev/shm", Level.WARNING, "--shm-size"),
        ({"temporary_free": None}, {}, "temporary files", Level.ERROR, "TMPDIR"),
        ({"temporary_free": MB}, {}, "temporary files", Level.ERROR, "TMPDIR"),
        ({"start_methods": ("spawn",)}, {"start_method": "fork"}, "start method", Level.ERROR,
         "one of spawn"),
        ({}, {"start_method": "fork"}, "start method", Level.WARNING, "forkserver"),
        ({}, {"plugins": (Plugin("pytest-forked", "1.6"),)}, "plugins", Level.WARNING, "uninstall"),
        ({}, {"engines": (engine(""),)}, "engines", Level.WARNING, "farm_engine"),
        ({}, {"engines": (engine("NullPool"),)}, "engines", Level.WARNING, "StaticPool"),
    ],
)  # fmt: skip
def test_what_is_unfit_is_named_with_its_remedy(
    machine: dict[str, object], project: dict[str, object], check: str, level: Level, remedy: str
) -> None:
    (finding,) = findings(machine, project)
    assert (finding.check, finding.level) == (check, level)
    assert remedy in finding.remedy
    assert finding.message


@pytest.mark.parametrize(
    ("machine", "project"),
    [
        ({"memory": None, "memory_source": ""}, {}),
        ({"descriptors": (None, None)}, {}),
        ({"shared_memory": None, "system": "Linux"}, None),
        ({}, {"golden": ()}),
        ({}, {"golden": (Golden(name="default", ring="memdb", size=None),)}),
        ({}, {"engines": (engine("StaticPool"), engine("", "create_async_engine"))}),
    ],
)
def test_what_is_unknown_or_fit_is_no_complaint(
    machine: dict[str, object], project: dict[str, object] | None
) -> None:
    expected = ["/dev/shm"] if project is None else []
    assert [finding.check for finding in findings(machine, project)] == expected


def test_the_memory_of_a_control_group_counts_where_it_is_less(tmp_path: Path) -> None:
    assert available_memory(tmp_path) == (None, "")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:  4096 kB\n")
    assert available_memory(tmp_path) == (4 * MB, "the system")
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.current").write_text("1048576\n")
    (group / "memory.max").write_text("max\n")
    assert available_memory(tmp_path) == (4 * MB, "the system")
    (group / "memory.max").write_text("3145728\n")
    assert available_memory(tmp_path) == (2 * MB, "the control group")


def test_this_machine_is_read_as_it_is() -> None:
    machine = read_machine()
    assert machine.sqlite == sqlite3.sqlite_version
    assert machine.rings == {"shared-cache": "", "memdb": "", "private": ""}
    assert machine.serialize
    assert "spawn" in machine.start_methods
    assert machine.memory is not None
    assert machine.memory > 10 * MB


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "farm.toml").write_text(
        'workers = 3\nring = "memdb"\n[golden.default]\nschema = ["s.sql"]\n'
        '[golden.audit]\nschema = ["s.sql"]\nring = "shared-cache"\n'
    )
    (tmp_path / "s.sql").write_text("CREATE TABLE t (x);")
    (tmp_path / "app.py").write_text(
        "import sqlalchemy as sa\n"
        "raise RuntimeError('nobody may import this')\n"
        "one = sa.create_engine('sqlite:///:memory:')\n"
        "two = sa.create_engine('sqlite://', poolclass=sa.pool.StaticPool)\n"
        "three = sa.create_engine('sqlite://', creator=connect, poolclass=sa.pool.NullPool)\n"
        "four = sa.create_engine('postgresql://host/db')\n"
        "five = sa.create_engine(URL)\n"
    )
    return tmp_path


def test_a_project_is_read_and_not_imported(project: Path) -> None:
    found = read_project(load_config(project))
    assert found.workers == 3
    assert [(each.name, each.ring, each.size) for each in found.golden] == [
        ("default", "memdb", None),
        ("audit", "shared-cache", None),
    ]
    assert [(each.line, each.url, each.pool) for each in found.engines] == [
        (3, "sqlite:///:memory:", ""),
        (4, "sqlite://", "StaticPool"),
    ]
    assert "pytest-xdist" in {plugin.name for plugin in found.plugins}
    assert not {"pytest", "snapfarm"} & {plugin.name for plugin in found.plugins}


def test_the_command_prints_findings_and_tells_errors_by_its_exit_code(project: Path) -> None:
    runner = CliRunner()
    result = runner.invoke(main, ["doctor", "--root", str(project)])
    assert result.exit_code == 0, result.output
    assert "app.py:3: create_engine('sqlite:///:memory:') without a poolclass" in result.output
    assert "-> use the fixture farm_engine" in result.output
    assert result.output.endswith("\n1 warning\n")

    result = runner.invoke(main, ["doctor", "--root", str(project), "--json", "-n", "9000000"])
    assert result.exit_code == 1
    found = msgspec.json.decode(result.stdout, type=list[Finding])
    assert {each.check for each in found if each.level is Level.ERROR} >= {"memory", "open files"}

    (project / "farm.toml").write_text("rings = 1\n")
    result = runner.invoke(main, ["doctor", "--root", str(project)])
    assert result.exit_code == 4
    assert "rings" in result.output
