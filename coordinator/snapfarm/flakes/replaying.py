"""Runs a test once more as it ran in a run, and says in which points it is not the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from snapfarm.config import load_config
from snapfarm.errors import ConfigError
from snapfarm.flakes.circumstances import Circumstances
from snapfarm.flakes.experiment import Laboratory, Order, Ran
from snapfarm.flakes.history import Attempt, History, HistoryError, Run

_DIGEST = 12


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that the history has, and what ran before it in its process, in order."""

    run: Run
    attempt: Attempt
    predecessors: tuple[str, ...]

    @property
    def circumstances(self) -> Circumstances:
        """What was chosen for it."""
        return Circumstances.parsed(self.run.seed, self.attempt.seed)


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay has come to."""

    recorded: Recorded
    #: Predecessors that are no longer collected.
    gone: tuple[str, ...]
    #: All tests in order, as far as the process came.
    ran: tuple[Ran, ...]
    #: In which points it is not what it was: databases, layers. Empty where all is the same.
    differences: tuple[str, ...]

    @property
    def last(self) -> Ran:
        """The test itself, or whichever ended the process before it."""
        return self.ran[-1]

    @property
    def arrived(self) -> bool:
        """Whether the test itself has run."""
        return self.last.test == self.recorded.attempt.test

    @property
    def reproduced(self) -> bool:
        """Whether it ended as it had ended then."""
        return self.arrived and self.last.outcome == self.recorded.attempt.outcome


def find(history: Path, run: str, test: str) -> Recorded:
    """Return the last failed attempt at a test in a run, or the last one. Raises HistoryError.

    `run` is the beginning of a run's id, or "last".
    """
    if not history.exists():
        raise HistoryError(f"{history}: there is no history yet")
    with History(history) as kept:
        runs = [one for one in kept.runs() if one.source != "junit"]
        chosen = runs[-1:] if run == "last" else [one for one in runs if one.id.startswith(run)]
        if len(chosen) != 1:
            how = "no run begins" if not chosen else f"{len(chosen)} runs begin"
            raise HistoryError(f"{how} with {run!r}: see farm history show")
        attempts = [one for one in kept.attempts(run=chosen[0].id) if one.test == test]
        if not attempts:
            raise HistoryError(f"run {chosen[0].id[:8]} has no test {test}")
        failed = [one for one in attempts if one.outcome == "failed"]
        one = (failed or attempts)[-1]
        return Recorded(run=chosen[0], attempt=one, predecessors=kept.predecessors(one))


def split(given: str) -> tuple[str, str]:
    """Return run and test of RUN:TEST. Raises ConfigError."""
    run, _, test = given.partition(":")
    if not test:
        raise ConfigError(f"{given!r}: expected RUN:TEST, as in last:tests/test_a.py::test_a")
    return run, test


def replay(
    run: str,
    test: str,
    *,
    directory: Path | None = None,
    history: Path | None = None,
    debug: bool = False,
) -> Replayed:
    """Run a test as it ran in a run: after the same tests, with the same seeds, in one process.

    The golden databases are those of the project as it is now, and compared with the run's.
    `directory` is the project's, the current one if not given; its history is used unless another
    file is. With `debug`, pdb opens where the test fails. Raises UserError.
    """
    folder = Path.cwd() if directory is None else directory
    found = find(history or load_config(folder).history_path, run, test)
    return again(found, folder, debug=debug)


def again(recorded: Recorded, directory: Path, *, debug: bool = False) -> Replayed:
    """Run an attempt once more. `directory` is where, if its run does not say it."""
    chosen = recorded.circumstances
    arguments = [str(each) for each in json.loads(recorded.run.arguments)]
    options = ["--pdb"] if debug else []
    if chosen.ring is not None:
        options.append(f"--farm-ring={chosen.ring}")
    if chosen.randomly is not None:
        options.append(f"--randomly-seed={chosen.randomly}")
    lab = Laboratory(
        arguments,
        Path(recorded.run.directory or directory),
        hash_seed=chosen.hash_seed,
        terminal=debug,
        keep_seeds=chosen.randomly is not None,
        options=options,
    )
    with lab:
        known = set(lab.tests)
        order = Order(
            tests=(
                *(test for test in recorded.predecessors if test in known),
                recorded.attempt.test,
            ),
            seed=chosen.seed or 0,
            timezone=chosen.timezone,
            switch=chosen.switch,
            debug=debug,
        )
        ran = tuple(lab.run(order))
    now: dict[str, str] = {}
    for one in ran:
        now.update(one.golden)
    return Replayed(
        recorded=recorded,
        gone=tuple(test for test in recorded.predecessors if test not in known),
        ran=ran,
        differences=tuple(differences(recorded.run, now)),
    )


def differences(run: Run, now: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each database and layer that is not what it was in a run.

    `now` has digests by name, of a layer as database/layer.
    """
    then: dict[str, str] = json.loads(run.golden)
    if not then:
        return  # the run had no databases, or told nothing of them
    at = f"; the run was at commit {run.commit_id[:12]}" if run.commit_id else ""
    for name, digest in sorted(now.items()):
        what = "layer" if "/" in name else "golden database"
        if name not in then:
            yield f"{what} {name!r} was not there in the run{at}"
        elif then[name] != digest:
            yield (
                f"{what} {name!r} is {digest[:_DIGEST]}, and was {then[name][:_DIGEST]} in the "
                f"run: what it is built from has changed, or its build is not repeatable{at}"
            )
    databases = {name for name in then if "/" not in name}
    for name in sorted(databases - now.keys()):
        yield f"golden database {name!r} of the run is not there now{at}"
