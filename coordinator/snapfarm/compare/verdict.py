"""What is equal in several runs of a suite, what differs, and what is unstable by itself. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from snapfarm.compare.record import ItemOutcome, Tests
from snapfarm.errors import EXIT_OK, EXIT_TESTS_FAILED

#: What is shown for a test that a run knows nothing of.
MISSING = "not run"


class RunOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of a suite came to."""

    exit_status: int
    tests: Tests


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A test with its outcomes by runner: of each round one, in their order."""

    nodeid: str
    outcomes: dict[str, tuple[ItemOutcome, ...]]

    @property
    def unstable(self) -> bool:
        """Whether two rounds of one runner differ: then it tells nothing of the others."""
        return any(len({test.outcome for test in tests}) > 1 for tests in self.outcomes.values())


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a comparison."""

    #: Tests that any run knows.
    tests: int
    #: Tests that come out differently by different runners, and alike in all rounds of each.
    different: tuple[Difference, ...]
    #: Tests that come out differently in two rounds of the same runner.
    unstable: tuple[Difference, ...]
    #: Exit statuses by runner, one for each round; None where they are equal, or differ because of
    #: unstable tests.
    exit_statuses: dict[str, tuple[int, ...]] | None

    @property
    def equal(self) -> bool:
        """Whether the runners agree on every test that is stable."""
        return not self.different and self.exit_statuses is None


def judge(runs: Mapping[str, Sequence[RunOutcome]]) -> Verdict:
    """Compare the rounds of several runners, test by test."""
    # Of every run, in the order of the first that knows them: that is the order of the suite.
    nodeids = dict.fromkeys(
        nodeid for rounds in runs.values() for outcome in rounds for nodeid in outcome.tests
    )
    lines = [
        Difference(
            nodeid=nodeid,
            outcomes={
                runner: tuple(outcome.tests.get(nodeid, ItemOutcome(MISSING)) for outcome in rounds)
                for runner, rounds in runs.items()
            },
        )
        for nodeid in nodeids
    ]
    differing = [line for line in lines if len(_all_outcomes(line)) > 1]
    unstable = tuple(line for line in differing if line.unstable)
    statuses = {
        runner: tuple(outcome.exit_status for outcome in rounds) for runner, rounds in runs.items()
    }
    return Verdict(
        tests=len(nodeids),
        different=tuple(line for line in differing if not line.unstable),
        unstable=unstable,
        exit_statuses=statuses if _matter(statuses, bool(unstable)) else None,
    )


def _all_outcomes(line: Difference) -> set[str]:
    return {test.outcome for tests in line.outcomes.values() for test in tests}


def _matter(statuses: Mapping[str, tuple[int, ...]], unstable: bool) -> bool:
    """Whether exit statuses differ, and not only as an unstable test makes them differ."""
    found = {status for rounds in statuses.values() for status in rounds}
    return len(found) > 1 and not (unstable and found <= {EXIT_OK, EXIT_TESTS_FAILED})
