"""What a farm's run does about flakes: keeps attempts, reruns failures, forgives the quarantined.

The pytest plugin beside the coordinator's session. It is told of each report before pytest is, and
has the last word on the exit status.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from snapfarm.errors import EXIT_OK, EXIT_TESTS_FAILED, UserError
from snapfarm.flakes import quarantine
from snapfarm.flakes.history import Attempt, HistoryError, line_of
from snapfarm.flakes.keeper import AttemptKeeper, new_run
from snapfarm.flakes.rates import Rate
from snapfarm.flakes.reruns import Reruns
from snapfarm.flakes.signature import clusters
from snapfarm.report.model import FlakeLine, VerdictLine, bisect_command
from snapfarm_worker.keys import nodeid_of

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

    from snapfarm.config import FarmConfig
    from snapfarm.flakes.diagnosis import Diagnosis
    from snapfarm.recorder import RunRecorder
    from snapfarm_worker import wire

#: Clusters of failures that get a verdict in a run; a hunt has no limit.
MOST_VERDICTS = 20
#: Flaky tests that are listed.
_LISTED = 20


class FlakeWatch:
    """The plugin object. Raises UserError where the quarantine file can't be read."""

    def __init__(
        self,
        config: pytest.Config,
        settings: FarmConfig,
        workers: int,
        recorder: RunRecorder,
        say: Callable[[str], None],
    ) -> None:
        self._config = config
        self._settings = settings
        self._recorder = recorder
        self._say = say
        self._reruns = Reruns(settings.reruns)
        self._quarantine_path = Path(settings.root, settings.quarantine)
        self._quarantine = quarantine.load(self._quarantine_path)
        self._expired = self._quarantine.expired(dt.date.today())
        #: Tests that have failed in quarantine.
        self._forgiven: set[str] = set()
        self.keeper = AttemptKeeper(
            settings.history_path if settings.history == "on" else None,
            new_run(config, workers),
            config.rootpath,
            warn=self._warn,
        )
        self._concluded = False

    @property
    def changes_outcomes(self) -> bool:
        """Whether a failed report may turn into something else."""
        return bool(self._settings.reruns or self._quarantine.entries)

    def _warn(self, text: str) -> None:
        self._recorder.notice(text)
        self._say(f"farm    {text}")

    # ------------------------------------------------------------ while tests run

    def wanted(self, key: str) -> bool:
        """Return whether an item that has just failed runs again."""
        known = self._reruns.broken
        wanted = self._reruns.wanted(key)
        if self._reruns.broken != known:
            self._warn(self._reruns.broken)
        return wanted

    def observed(self, message: wire.ItemFinished) -> None:
        """Take what a message says beside its reports."""
        self.keeper.observed(nodeid_of(message.key), message)
        if self._settings.reruns and not message.failed:
            self._reruns.passed(message.key)

    def reported(self, report: pytest.TestReport, *, again: bool) -> None:
        """Take a report before pytest does; a failure may become a rerun, or be forgiven."""
        self.keeper.reported(report)
        if not report.failed:
            return
        if again:
            report.outcome = "rerun"  # type: ignore[assignment]  # as pytest-rerunfailures calls it
        elif (entry := self._quarantine.entry_of(report.nodeid)) and entry not in self._expired:
            self._forgiven.add(report.nodeid)
            report.outcome = "skipped"
            report.wasxfail = f"quarantined: {entry}"

    def ended(self, key: str) -> None:
        """An item has ended."""
        self.keeper.ended(nodeid_of(key))

    def pytest_report_teststatus(
        self, report: pytest.TestReport
    ) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
        """Show a failure that is followed by a rerun."""
        outcome: str = report.outcome
        if outcome == "rerun":
            return "rerun", "R", ("RERUN", {"yellow": True})
        return None

    # ------------------------------------------------------------ the end

    def conclude(self, session: pytest.Session) -> None:
        """Fail a run that only flakes or an expired entry of the quarantine make fail."""
        if self._concluded:
            return
        self._concluded = True
        flakes = list(self._flakes())
        self._recorder.report.flakes = flakes
        self._recorder.report.history_run = self.keeper.known_as
        policy = self._settings.flaky
        guilty = [
            line
            for line in flakes
            if policy == "fail" or (policy == "quarantine" and not line.quarantined)
        ]
        if (guilty or self._expired) and session.exitstatus == EXIT_OK:
            session.exitstatus = EXIT_TESTS_FAILED

    def _flakes(self) -> Iterator[FlakeLine]:
        for test, attempts in self._by_test().items():
            failed = [one for one in attempts if one.outcome == "failed"]
            if failed and (len(failed) < len(attempts) or test in self._forgiven):
                yield FlakeLine(
                    nodeid=test,
                    failures=len(failed),
                    attempts=len(attempts),
                    signature=str(failed[-1].signature),
                    quarantined=self._quarantine.entry_of(test) is not None,
                )

    def _by_test(self) -> dict[str, list[Attempt]]:
        found: dict[str, list[Attempt]] = {}
        for one in self.keeper.attempts:
            found.setdefault(one.test, []).append(one)
        return found

    def pytest_terminal_summary(self, terminalreporter: TerminalReporter) -> None:
        """Tell of flaky tests, the quarantine, and verdicts."""
        if flakes := self._recorder.report.flakes:
            terminalreporter.section("flaky tests")
            for line in flakes[:_LISTED]:
                terminalreporter.write_line(self._told(line))
            if len(flakes) > _LISTED:
                more = len(flakes) - _LISTED
                terminalreporter.write_line(f"… and {more} more; --farm-report FILE has all")
        if self._quarantine.entries:
            lines = list(quarantine.expired_lines(self._expired, self._quarantine_path))
            lines += self._stable()
            if lines:
                terminalreporter.section("quarantine")
                for text in lines:
                    terminalreporter.write_line(text)
        if self._settings.verdicts == "on":
            self._verdicts(terminalreporter)

    def _told(self, line: FlakeLine) -> str:
        where = ", in quarantine" if line.quarantined else ""
        rate = self._rate(line.nodeid)
        known = f"; ever: {rate}" if rate.runs > line.attempts else ""
        told = f"failed {line.failures} of {line.attempts} attempts{where}{known}"
        asked = self._settings.verdicts == "on" or line.quarantined
        more = "" if asked else f"\n  -> {bisect_command(line.nodeid)}"
        return f"{line.nodeid}: {told}\n  {line.signature}{more}"

    def _rate(self, nodeid: str) -> Rate:
        try:
            return line_of(nodeid, self.keeper.earlier(nodeid)).rate
        except HistoryError:
            return Rate(0, 0)

    def _stable(self) -> Iterator[str]:
        """Yield entries whose tests have not failed for long."""
        by_entry: dict[quarantine.Entry, list[int]] = {}
        try:
            for test in self._by_test():
                entry = self._quarantine.entry_of(test)
                if entry is not None:
                    stable = line_of(test, self.keeper.earlier(test)).stable
                    by_entry.setdefault(entry, []).append(stable)
        except HistoryError:
            return
        for entry, passes in by_entry.items():
            if min(passes) >= quarantine.STABLE:
                yield f"{entry.test}: passed {min(passes)} times in a row: the entry can be removed"

    def _verdicts(self, reporter: TerminalReporter) -> None:
        last = {
            test: next(one for one in reversed(attempts) if one.outcome == "failed")
            for test, attempts in self._by_test().items()
            if any(one.outcome == "failed" for one in attempts)
        }
        if not last:
            return
        from snapfarm.flakes.diagnosis import Failure, Suite, diagnose

        reporter.section("verdicts")
        groups = clusters({test: one.signature for test, one in last.items()})
        given = self._config.invocation_params
        suite = Suite(tuple(map(str, given.args)), Path(given.dir))
        try:
            with suite.laboratory(0) as lab:
                for _, tests in groups[:MOST_VERDICTS]:
                    one = last[tests[0]]
                    failure = Failure(
                        test=one.test,
                        predecessors=self.keeper.predecessors(one),
                        signature=one.signature,
                    )
                    found = diagnose(suite, lab, failure)
                    self._recorder.report.verdicts.append(verdict_line(found, tests[1:]))
                    for line in found.lines():
                        reporter.write_line(line)
                    if len(tests) > 1:
                        reporter.write_line(f"  the same failure: {', '.join(tests[1:][:_LISTED])}")
        except UserError as error:
            self._warn(f"no verdicts: {error}")
        if len(groups) > MOST_VERDICTS:
            reporter.write_line(f"… and {len(groups) - MOST_VERDICTS} more kinds of failures")


def verdict_line(found: Diagnosis, same: tuple[str, ...] = ()) -> VerdictLine:
    """Return a diagnosis as reports have it."""
    return VerdictLine(
        nodeid=found.test,
        cause=str(found.verdict.cause),
        confidence=str(found.verdict.confidence),
        role=found.verdict.role,
        signature=str(found.signature),
        culprits=found.culprits,
        evidence=found.verdict.evidence,
        advice=found.verdict.advice,
        same=same,
    )
