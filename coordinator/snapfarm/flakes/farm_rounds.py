"""A round of a hunt on a farm: several workers at once, as `farm run` would start them.

What only shows where processes meet (ports, files, servers outside) shows in no laboratory, which
is one process. A round like this costs the start of its workers, has no seed and no order of its
own, and so nothing is told of it but who failed, where, and after whom.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from snapfarm.errors import ReportError
from snapfarm.flakes.diagnosis import Suite
from snapfarm.flakes.experiment import LaboratoryError, Ran, divided
from snapfarm.flakes.signature import CRASH, Signature, normalized
from snapfarm.report import model
from snapfarm.report.runs import read_file

#: Seconds between two looks whether the hunt is over.
_LOOK = 0.1
_TOLD = 3000


def run_on_farm(
    suite: Suite, workers: int, *, ring: str | None = None, stopped: Callable[[], bool]
) -> tuple[tuple[Ran, ...], ...]:
    """Run a suite on so many workers; return what each of them ran, in order.

    Nothing if it was `stopped` before its end. Raises LaboratoryError where there is no report.
    """
    with tempfile.TemporaryDirectory(prefix="farm-round-") as scratch:
        report, log = Path(scratch, "report.json"), Path(scratch, "output")
        before, rest = divided(suite.arguments)
        options = [f"--farm={workers}", f"--farm-report={report}", "--farm-history=off"]
        options += ["--farm-reruns=0", "--farm-flaky=pass", "--maxfail=0"]
        options += ["-o", f"cache_dir={scratch}/cache"]
        if ring is not None:
            options.append(f"--farm-ring={ring}")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "pytest", "-p", "snapfarm", *before, *options, *rest],
                cwd=suite.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            while not stopped():
                try:
                    process.wait(_LOOK)
                    break
                except subprocess.TimeoutExpired:
                    continue
            else:
                return ()
        finally:
            # Its workers end by themselves once it is gone.
            process.kill()
            process.wait()
        try:
            found = read_file(report)
        except ReportError as error:
            told = log.read_text("utf-8", "replace").strip()[-_TOLD:]
            raise LaboratoryError(
                f"a round on a farm has no report; its output:\n{told}"
            ) from error
    return tuple(_by_worker(found))


def _by_worker(report: model.RunReport) -> Iterator[tuple[Ran, ...]]:
    lines: dict[str, list[tuple[float, Ran]]] = {}
    for item in report.items:
        attempts = item.attempts or (
            model.Attempt(
                outcome=item.outcome, worker=item.worker, began=item.began, seconds=item.seconds
            ),
        )
        for one in attempts:
            lines.setdefault(one.worker, []).append((one.began, _ran(item.nodeid, one)))
    for line in lines.values():
        yield tuple(ran for _, ran in sorted(line, key=lambda each: each[0]))


def _ran(test: str, one: model.Attempt) -> Ran:
    signature = None
    if one.bad:
        failure = one.failures[0] if one.failures else model.Failure(phase=one.outcome)
        kind = CRASH if one.outcome == "crashed" else failure.kind
        where = f"{failure.path}:{failure.line}" if failure.path else ""
        signature = Signature(kind, normalized(failure.message), where)
    outcome = "failed" if one.bad else one.outcome
    return Ran(test=test, outcome=outcome, seconds=one.seconds, signature=signature)
