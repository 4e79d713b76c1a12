"""Which tests stand in files that have changed: those that a hunt looks at first."""

from __future__ import annotations

import subprocess

from snapfarm.errors import ConfigError
from snapfarm.flakes.diagnosis import Suite


def changed_since(revision: str, suite: Suite) -> tuple[str, ...]:
    """Return the tests in files that git calls changed or new. Raises ConfigError."""
    files: set[str] = set()
    for command in (
        ("diff", "--name-only", "--relative", revision),
        ("ls-files", "--others", "--exclude-standard"),
    ):
        done = subprocess.run(
            ["git", *command], cwd=suite.directory, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ConfigError(f"--since {revision}: git says: {done.stderr.strip()}")
        files.update(done.stdout.splitlines())
    with suite.laboratory() as lab:
        return tuple(test for test in lab.tests if test.partition("::")[0] in files)
