"""The Python API of flake detection: hunt and bisect as functions; `replaying` has the third.

The commands `farm hunt`, `farm bisect` and `farm replay` are these, with their results printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from snapfarm.config import load_config
from snapfarm.flakes.changes import changed_since
from snapfarm.flakes.circumstances import Circumstances
from snapfarm.flakes.diagnosis import Diagnosis, Failure, Suite, diagnose, first_failing
from snapfarm.flakes.history import History
from snapfarm.flakes.hunt_notes import HuntNotes
from snapfarm.flakes.rounds import Hunt, Round, Sightings, diagnoses
from snapfarm.flakes.suspects import nobody
from snapfarm.workers import cores

#: Rounds of a hunt that has no other budget.
ROUNDS = 20


def _say_nothing(text: str) -> None:
    del text


class Hunted(msgspec.Struct, frozen=True, kw_only=True):
    """What a hunt has come to. `run` is its id in the history, "" where it was not kept."""

    sightings: Sightings
    #: One for each test that has failed, unless the hunt was interrupted.
    diagnoses: tuple[Diagnosis, ...] = ()
    interrupted: bool = False
    run: str = ""


def hunt(
    suite: Suite,
    *,
    rounds: int | None = None,
    seconds: float | None = None,
    workers: int | None = None,
    seed: int = 1,
    since: str | None = None,
    rings: Sequence[str] = (),
    farms: Sequence[int] = (),
    verdicts: bool = True,
    keep: bool = True,
    told: Callable[[Hunt, Round, Sequence[str]], None] = lambda *_: None,
    judging: Callable[[Sightings], None] = lambda _: None,
    judged: Callable[[Diagnosis], None] = lambda _: None,
    warn: Callable[[str], None] = _say_nothing,
) -> Hunted:
    """Run a suite again and again, in other orders and circumstances; say what fails, and why.

    It ends after so many `rounds` or `seconds`, the earlier of the two; without either, after 20
    rounds. `workers` processes run at a time, as many as there are processors if not given. Orders
    and seeds follow from `seed`. Tests in files that changed `since` a revision come first. `rings`
    are further kinds of rings, and `farms` numbers of workers with which some rounds run. With
    `keep`, all attempts are written to the project's history.

    `told` is called after each round, with the tests that it was the first to see fail; `judging`
    when the rounds are over, and `judged` with each verdict. KeyboardInterrupt ends the rounds, and
    the result has what was found until then. Raises UserError.
    """
    if rounds is None and seconds is None:
        rounds = ROUNDS
    config = load_config(suite.directory)
    notes = HuntNotes(config, suite, keep=keep, warn=warn)

    def tell(found: Round, new: list[str]) -> None:
        notes.add(found)
        told(search, found, new)

    interrupted = False
    search = Hunt(
        suite,
        workers=workers or cores(),
        seed=seed,
        first=() if since is None else changed_since(since, suite),
        rings=rings,
        farms=farms,
        told=tell,
    )
    try:
        search.run(rounds=rounds, seconds=seconds)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        notes.close()
    seen = search.sightings
    judging(seen)
    found = []
    if verdicts and not interrupted:
        for one in diagnoses(suite, seen):
            found.append(one)
            judged(one)
    return Hunted(sightings=seen, diagnoses=tuple(found), interrupted=interrupted, run=notes.run_id)


def bisect(
    suite: Suite,
    test: str,
    *,
    history: Path | None = None,
    say: Callable[[str], None] = _say_nothing,
) -> Diagnosis:
    """Return why a test fails, and after whom.

    It begins with what ran before it when it failed last, as the history knows: the project's own,
    if no other file is given. Without one, with the order of collection. Raises UserError.
    """
    path = history or load_config(suite.directory).history_path
    if not path.exists():
        return _bisect(suite, test, None, say)
    with History(path) as kept:
        return _bisect(suite, test, kept, say)


def _bisect(suite: Suite, test: str, kept: History | None, say: Callable[[str], None]) -> Diagnosis:
    known = None if kept is None else last_failure(kept, test)
    writers: Callable[[Iterable[str]], frozenset[str]] = nobody if kept is None else kept.writers
    with suite.laboratory(0) as lab:
        failure = first_failing(lab, test, known, writers)
        return diagnose(suite, lab, failure, say=say, writers=writers)


def last_failure(kept: History, test: str) -> Failure | None:
    """Return how a test failed last, as far as the history can tell what ran before it."""
    failed = [one for one in kept.attempts(test=test) if one.outcome == "failed"]
    if not failed or failed[-1].worker == "junit":
        return None
    last = failed[-1]
    return Failure(
        test=test,
        predecessors=kept.predecessors(last),
        signature=last.signature,
        seed=Circumstances.parsed(last.seed).seed,
    )
