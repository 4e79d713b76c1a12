"""A run that is killed at any moment leaves a history that opens, with what was stored in it."""

from __future__ import annotations

import random
import signal
import sqlite3
from pathlib import Path

import pytest

from snapfarm.flakes.history import History
from support.suite import Suite, wait_for

TESTS = 4000


def _count(path: Path) -> int:
    """Return how many attempts there are, as another process sees it."""
    if not path.exists():
        return 0
    conn = sqlite3.connect(path)
    try:
        (count,) = conn.execute("SELECT count(*) FROM attempt").fetchone()
    except sqlite3.OperationalError:
        return 0  # it is just being made
    finally:
        conn.close()
    return int(count)


@pytest.mark.parametrize("seed", range(4))
def test_a_run_killed_at_any_moment_keeps_what_was_stored(tmp_path: Path, seed: int) -> None:
    body = "import pytest\n@pytest.mark.parametrize('n', range({}))\ndef test_n(n): assert n % 9\n"
    suite = Suite(tmp_path, {f"test_{name}.py": body.format(TESTS // 4) for name in "abcd"})
    path = tmp_path / ".farm" / "history.sqlite"
    wanted = random.Random(seed).randrange(1, TESTS // 2)
    with suite.started("-p", "no:terminal") as running:
        seen = wait_for(f"{wanted} attempts in the history", lambda: _count(path) >= wanted) and (
            _count(path)
        )
        running.signal(signal.SIGKILL)
        running.process.wait()
        running.assert_gone()
    with History(path) as kept:
        (run,) = kept.runs()
        attempts = list(kept.attempts(run=run.id))
    assert run.finished is None
    assert seen <= len(attempts) < TESTS
    by_worker: dict[str, list[int]] = {}
    for one in attempts:
        by_worker.setdefault(one.worker, []).append(one.position)
        assert (one.outcome == "failed") == (int(one.test[:-1].partition("[")[2]) % 9 == 0)
    for positions in by_worker.values():
        assert sorted(positions) == list(range(len(positions)))
    conn = sqlite3.connect(path)
    assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    conn.close()
    assert list(path.parent.glob("*set-aside*")) == []
