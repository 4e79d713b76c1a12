"""What a person sees of a farm's run on terminals of several widths, and in the log of a CI."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.suite import LIMIT, clean_environment
from support.terminal import Screen, Seen, on_a_terminal

FILES: Mapping[str, str] = {
    "farm.toml": '[golden.default]\nschema = ["schema.sql"]\n',
    "schema.sql": "CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT NOT NULL);",
    "tests/test_shop.py": """
import os, sqlite3, time, pytest

@pytest.mark.parametrize("n", range(40))
def test_a_customer_is_served_in_time(n):
    time.sleep(0.01)

def test_fails_and_leaves_a_transaction_open():
    conn = sqlite3.connect(os.environ["FARM_URI"], uri=True)
    conn.execute("INSERT INTO customer (name) VALUES ('Ada')")
    assert conn.execute("SELECT count(*) FROM customer").fetchone() == (7,)

def test_crashes():
    os.abort()
""",
}

PROGRESS = re.compile(r"\d+ of 42 tests(, \d failed)?(, \d+ s left)?(   .*)?")


def suite(root: Path) -> Path:
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def run(root: Path, columns: int, *args: str, **env: str) -> Seen:
    command = [sys.executable, "-m", "snapfarm.cli", "run", "-n", "2", "-p", "no:xdist", *args]
    return on_a_terminal(command, cwd=root, columns=columns, env=env)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return suite(tmp_path_factory.mktemp("terminal"))


@pytest.fixture(scope="module")
def seen(root: Path) -> dict[str, Seen]:
    # First, so that the others find the database in the cache, and durations in the history.
    found = {"narrow": run(root, 60, NO_COLOR="1")}
    with ThreadPoolExecutor(2) as pool:
        started = {
            "usual": pool.submit(run, root, 80, "-rA"),
            "wide": pool.submit(run, root, 120, "-v", "--tb=no", "--no-header", NO_COLOR="1"),
            "ci": pool.submit(run, root, 80, "-q", CI="true"),
            "quiet": pool.submit(run, root, 80, "-qq", "-rN", "--tb=line"),
        }
        return found | {name: future.result() for name, future in started.items()}


def section(seen: Seen, title: str) -> list[str]:
    """The lines of one section as they were written, the empty ones left out."""
    lines = seen.written
    begin = next(n for n, line in enumerate(lines) if f" {title} " in line and "==" in line)
    rest = lines[begin + 1 :]
    end = next((n for n, line in enumerate(rest) if line.startswith("=")), len(rest))
    return [line for line in rest[:end] if line]


@pytest.mark.parametrize(("name", "columns"), [("narrow", 60), ("usual", 80), ("wide", 120)])
def test_the_end_says_the_worst_first_and_what_to_run_next(
    seen: dict[str, Seen], name: str, columns: int
) -> None:
    found = seen[name]
    assert found.exit_code == 1
    lines = section(found, "worst first")
    # As long as they are: names, files and commands are there to be copied.
    commands = [line.strip() for line in lines if line.strip().startswith("->")]
    assert [line.rpartition("::")[2] for line in commands] == [
        "test_crashes",
        "test_fails_and_leaves_a_transaction_open",
    ]
    text = "\n".join(lines)
    assert "crash tests/test_shop.py::test_crashes" in text
    assert "signal SIGABRT" in text
    assert "AssertionError: assert (1,) == (7,)" in text
    assert "leaked-transaction: the test leaves an open transaction" in text
    assert "rows of default: customer 1 added" in text
    anomalies = section(found, "database anomalies")
    # Only a word that is too long for the terminal is longer than that.
    for line in anomalies:
        assert len(line) <= columns or " " not in line.strip()
    told = " ".join(" ".join(anomalies).split())
    assert "opened at tests/test_shop.py:9 in test_fails_and_leaves" in told
    assert str(Path.cwd()) not in text


def test_the_command_at_the_end_brings_the_failure_back(seen: dict[str, Seen], root: Path) -> None:
    lines = section(seen["narrow"], "worst first")
    _, program, *words = shlex.split([line for line in lines if "->" in line][1])
    assert program == "farm"
    done = subprocess.run(
        [sys.executable, "-m", "snapfarm.cli", *words],
        cwd=root,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    name = "tests/test_shop.py::test_fails_and_leaves_a_transaction_open"
    assert f"failed  {name}   AssertionError: assert (<n>,) == (<n>,)" in done.stdout


def test_the_report_of_a_run_fits_the_terminal(seen: dict[str, Seen], root: Path) -> None:
    assert seen["narrow"].exit_code == 1
    command = [sys.executable, "-m", "snapfarm.cli", "report"]
    found = on_a_terminal(command, cwd=root, columns=60)
    assert found.exit_code == 0, found.raw
    assert found.lines[0] == "failed: 2"
    # Names, files and commands are there to be copied, and stay whole.
    for line in found.written:
        assert len(line) <= 60 or "::" in line or "database as it was" in line, line


def test_progress_is_under_the_dots_and_leaves_nothing_behind(seen: dict[str, Seen]) -> None:
    for name in ("narrow", "usual", "wide"):
        found = seen[name]
        shown = [line for line in found.erased if " of 42 tests" in line]
        assert shown, name
        for line in shown:
            assert PROGRESS.fullmatch(line), line
        assert len({line.partition(" ")[0] for line in shown}) > 1, "it never moved"
        assert not [line for line in found.lines if " of 42 tests" in line]
    # Later runs know what tests take before any has ended.
    assert "left" in next(line for line in seen["usual"].erased if " of 42 tests" in line)


def test_colours_are_there_unless_nobody_wants_them(seen: dict[str, Seen]) -> None:
    assert seen["usual"].markup >= {"31", "32"}
    assert not seen["narrow"].markup
    assert not seen["wide"].markup


def test_options_of_pytest_keep_their_meanings(seen: dict[str, Seen]) -> None:
    # -rA
    assert len(re.findall(r"^PASSED ", seen["usual"].text, re.MULTILINE)) == 40
    # -v, --tb=no, --no-header
    wide = seen["wide"]
    assert len(re.findall(r"^\[gw\d\] \[ *\d+%\] (PASSED|FAILED)", wide.text, re.MULTILINE)) == 42
    assert "FAILURES" not in wide.text
    assert "rootdir:" not in wide.text
    # -qq, -rN
    quiet = seen["quiet"]
    assert "worst first" not in quiet.text
    assert "short test summary" not in quiet.text
    assert not [line for line in quiet.erased if "tests" in line]


def test_a_crash_is_told_once_without_frames_of_pytest(seen: dict[str, Seen]) -> None:
    found = seen["narrow"]
    stacks = [line for line in found.written if line.startswith("  File ")]
    assert [line for line in stacks if "in test_crashes" in line]
    assert not [line for line in stacks if "_pytest" in line or "snapfarm_worker" in line]
    assert len([line for line in found.written if line.startswith("[gw")]) <= 4


def test_a_ci_gets_plain_lines_that_are_not_cut(seen: dict[str, Seen]) -> None:
    found = seen["ci"]
    assert not re.search(r"\x1b\[\d*[ABCDJK]", found.raw)
    assert not found.erased
    told = next(line for line in section(found, "database anomalies") if "test_fails" in line)
    # The terminal is 80 wide; the line is one, and has all.
    assert re.search(r"open transaction on a connection opened at .*\[INSERT INTO customer", told)


def test_the_screen_of_these_tests_forgets_what_is_erased() -> None:
    screen = Screen(80)
    screen.feed("....\r\n\r\x1b[2m4 of 9 tests\x1b[0m\x1b[K\x1b[1A\r\x1b[4C\x1b[J.")
    assert screen.lines == [".....", ""]
    assert screen.erased == ["4 of 9 tests"]
