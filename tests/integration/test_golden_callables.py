"""Golden databases from Python callables: the well-behaved, and all the others."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from snapfarm.errors import GoldenBuildError, GoldenTimeout
from support.golden_project import build_golden, opened, write_files

SEEDS = """
import asyncio
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import threading
import time


def fill(conn):
    conn.execute("CREATE TABLE t(x)")
    conn.executemany("INSERT INTO t VALUES (?)", [(1,), (2,)])
    conn.commit()


def forgets_to_commit(conn):
    conn.execute("CREATE TABLE t(x)")
    conn.execute("INSERT INTO t VALUES (1)")


def changes_the_connection(conn):
    fill(conn)
    conn.row_factory = sqlite3.Row
    conn.text_factory = bytes
    conn.isolation_level = "EXCLUSIVE"
    conn.create_function("twice", 1, lambda x: 2 * x, deterministic=True)
    conn.create_collation("backwards", lambda a, b: (a < b) - (a > b))
    conn.execute("CREATE TABLE s(x TEXT COLLATE backwards)")


def leaves_handlers(conn):
    conn.execute("CREATE TABLE t(x)")
    conn.execute("INSERT INTO t VALUES (1)")
    conn.set_authorizer(lambda *_: sqlite3.SQLITE_DENY)
    conn.set_progress_handler(lambda: 1, 1)
    conn.set_trace_callback(print)


def restores_a_wal_file(conn):
    other = sqlite3.connect("journal.db")
    other.execute("PRAGMA journal_mode = WAL").fetchone()
    fill(other)
    other.close()
    conn.deserialize(pathlib.Path("journal.db").read_bytes())


class Undecodable(Exception):
    def __str__(self):
        raise LookupError("no text")


def raises_without_text(conn):
    raise Undecodable


def raises_a_lone_surrogate(conn):
    raise FileNotFoundError(os.fsdecode(b"caf\\xe9.csv"))


class Seeds:
    @staticmethod
    def fill(conn):
        fill(conn)


def observes(conn):
    conn.execute("CREATE TABLE facts(name, value)")
    stdin = sys.stdin.read() + str(os.read(0, 10))
    facts = {
        "cwd": os.getcwd(), "path": sys.path[0], "main": sys.modules["__main__"].__name__,
        "pid": os.getpid(), "group": os.getpgid(0), "stdin": stdin,
        "isolation_level": conn.isolation_level, "imported": "app" in sys.modules,
    }
    conn.executemany("INSERT INTO facts VALUES (?, ?)", list(facts.items()))
    conn.commit()


def raises(conn):
    print("about to fail")
    try:
        deeper()
    except KeyError as error:
        raise ValueError("no such customer") from error


def deeper():
    {}["customer"]


def exits(conn):
    sys.exit(3)


def exits_at_once(conn):
    print("last words", flush=True)
    os._exit(7)


def dies(conn):
    os.kill(os.getpid(), signal.SIGKILL)


def overflows(conn):
    def down(n):
        return down(n + 1)
    down(0)


def closes(conn):
    conn.close()


async def is_async(conn):
    conn.execute("CREATE TABLE t(x)")


def generates(conn):
    yield conn.execute("CREATE TABLE t(x)")


not_callable = 5


def forks(conn):
    fill(conn)
    if os.fork() == 0:
        conn.execute("INSERT INTO t VALUES (99)")
        conn.commit()
        return
    os.wait()


def forks_and_raises(conn):
    fill(conn)
    if os.fork() == 0:
        raise RuntimeError("in the child")
    pid, status = os.wait()
    conn.execute("INSERT INTO t VALUES (?)", (os.waitstatus_to_exitcode(status),))
    conn.commit()


def leaves_a_process(conn):
    fill(conn)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    pathlib.Path("left.pid").write_text(str(child.pid))


def leaves_a_fork(conn):
    fill(conn)
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
    pathlib.Path("left.pid").write_text(str(pid))


def leaves_a_thread(conn):
    fill(conn)
    threading.Thread(target=time.sleep, args=(600,)).start()


def hangs(conn):
    pathlib.Path("left.pid").write_text(str(os.getpid()))
    print("waiting for the moon")
    waits_for_the_moon()


def waits_for_the_moon():
    time.sleep(600)


def ignores_signals(conn):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    hangs(conn)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    write_files(
        root,
        {
            "seeds.py": SEEDS,
            "needs.py": "import nothing_like_it\ndef fill(conn): pass\n",
            "broken.py": "def fill(conn:\n",
        },
    )
    return root


def gone(root: Path) -> bool:
    """Tell whether the process that the callable named has ended, waiting for it."""
    pid = int((root / "left.pid").read_text())
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            # An orphan may stay a zombie until the init process gets round to it.
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
    return False


def test_a_callable_gets_a_connection_as_connect_makes_it(project: Path) -> None:
    built = build_golden(project, seed=("seeds:observes",))
    with opened(built.snapshot) as conn:
        facts = dict(conn.execute("SELECT name, value FROM facts").fetchall())
    assert facts["cwd"] == facts["path"] == str(project)
    assert facts["isolation_level"] == ""
    assert facts["pid"] == facts["group"] != os.getpid()
    assert facts["stdin"] == "b''"
    assert built.notes == ()


@pytest.mark.parametrize(
    ("name", "rows", "note"),
    [
        ("seeds:Seeds.fill", {"t": 2}, ""),
        ("seeds:forgets_to_commit", {"t": 1}, "left changes uncommitted: they were committed"),
        ("seeds:changes_the_connection", {"t": 2}, ""),
        ("seeds:leaves_handlers", {"t": 1}, "left changes uncommitted: they were committed"),
        ("seeds:restores_a_wal_file", {"t": 2}, ""),
        ("seeds:forks", {"t": 2}, ""),
        ("seeds:forks_and_raises", {"t": 3}, ""),
        ("seeds:leaves_a_thread", {"t": 2}, ""),
    ],
)
def test_a_callable_fills_the_database(
    project: Path, name: str, rows: dict[str, int], note: str
) -> None:
    built = build_golden(project, seed=(name,))
    assert built.snapshot.manifest.rows == rows
    if note:
        assert built.notes == (f"callable {name} {note}",)
    else:
        assert built.notes == ()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "seeds:raises",
            (
                "callable seeds:raises raised ValueError: no such customer",
                "KeyError: 'customer'",
                'seeds.py", line ',
                ", in raises",
                "its last output:\n  about to fail",
            ),
        ),
        ("seeds:raises_without_text", ("callable seeds:raises_without_text raised Undecodable\n",)),
        ("seeds:raises_a_lone_surrogate", ("raised FileNotFoundError: caf\\udce9.csv",)),
        ("seeds:exits", ("callable seeds:exits called sys.exit(3)",)),
        (
            "seeds:exits_at_once",
            (
                "ended with exit code 7 before it was done in seeds:exits_at_once",
                "its last output:\n  last words",
            ),
        ),
        ("seeds:dies", ("was killed by SIGKILL in seeds:dies",)),
        ("seeds:overflows", ("raised RecursionError",)),
        ("seeds:closes", ("callable seeds:closes closed the connection",)),
        ("seeds:is_async", ("is async, its body never ran",)),
        ("seeds:generates", ("is a generator, its body never ran",)),
        ("seeds:not_callable", ("callable seeds:not_callable is no function but int",)),
        ("seeds:missing", ("seeds.py has no 'missing'",)),
        ("nowhere.at.all:f", ("there is no module 'nowhere' in",)),
        ("needs:fill", ("importing needs raised ModuleNotFoundError: No module named 'nothing_",)),
        ("broken:fill", ("importing broken raised SyntaxError", "def fill(conn:")),
    ],
)
def test_a_callable_that_fails_is_named_with_its_cause(
    project: Path, name: str, expected: tuple[str, ...]
) -> None:
    with pytest.raises(GoldenBuildError) as caught:
        build_golden(project, seed=(name,))
    text = str(caught.value)
    for part in ("golden database 'a': ", *expected):
        assert part in text
    assert "/golden/builders.py" not in text, "frames of the farm are of no interest"


@pytest.mark.parametrize("name", ["seeds:leaves_a_process", "seeds:leaves_a_fork"])
def test_processes_that_a_callable_leaves_behind_are_ended(project: Path, name: str) -> None:
    assert build_golden(project, seed=(name,)).snapshot.manifest.rows == {"t": 2}
    assert gone(project)


@pytest.mark.parametrize("name", ["seeds:hangs", "seeds:ignores_signals"])
def test_a_callable_that_hangs_is_ended_with_its_stack(project: Path, name: str) -> None:
    with pytest.raises(GoldenTimeout) as caught:
        build_golden(project, seed=(name,), timeout=1.0)
    text = str(caught.value)
    assert f"the builder did not end within 1 s; it was in {name}" in text
    assert "in waits_for_the_moon" in text
    assert gone(project)


def test_a_builder_dies_with_its_coordinator(project: Path, tmp_path: Path) -> None:
    (project / "left.pid").unlink(missing_ok=True)
    script = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parents[1])!r})
        from pathlib import Path
        from support.golden_project import build_golden
        build_golden(Path({str(project)!r}), seed=("seeds:hangs",))
    """
    coordinator = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    try:
        while not (project / "left.pid").exists():
            assert coordinator.poll() is None
        while not (project / "left.pid").read_text():
            assert coordinator.poll() is None
    finally:
        coordinator.kill()
        coordinator.wait()
    assert gone(project)


def test_the_main_script_does_not_run_again(project: Path, tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from pathlib import Path\n"
        "print('main runs')\n"
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "from support.golden_project import build_golden\n"
        f"built = build_golden(Path({str(project)!r}), seed=('seeds:fill',))\n"
        "print(built.snapshot.manifest.rows)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "main runs\n{'t': 2}\n"
    assert done.stderr == ""


def test_nothing_that_a_callable_prints_reaches_the_terminal(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(GoldenBuildError):
        build_golden(project, seed=("seeds:raises",))
    assert capfd.readouterr() == ("", "")
