"""What a pool remembers of its run, for its report and for whoever is told that it broke."""

from __future__ import annotations

import collections
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from snapfarm.pool.failures import failed_call
from snapfarm.pool.work import Batch, Raised

if TYPE_CHECKING:
    from snapfarm.happenings import Died
    from snapfarm.report.model import ItemLine
    from snapfarm_worker.anomaly import Anomaly

_log = logging.getLogger("snapfarm.pool")

#: So many anomalies are kept; later ones are only counted.
_MOST_ANOMALIES = 10_000
#: So many of what else is told are kept: odd things, failed calls, last words of workers.
_MOST_NOTICES = 200
_MOST_FAILURES = 1_000
_MOST_WORDS = 20
#: Characters of a dead worker's output that an error shows.
_LAST_OUTPUT = 4000


class Memory:
    """Anomalies, odd things, failed calls, and why workers ended; each only so far."""

    def __init__(self) -> None:
        self.anomalies: list[Anomaly] = []
        #: Anomalies beyond those that are kept.
        self.more_anomalies = 0
        #: The last things that were odd.
        self.notices: collections.deque[str] = collections.deque(maxlen=_MOST_NOTICES)
        #: The first calls that failed or crashed.
        self.failures: list[ItemLine] = []
        #: Why workers failed or died, in order, each text once, with the first of them.
        self._words: dict[str, str] = {}

    def observed(self, anomalies: Sequence[Anomaly]) -> None:
        """Keep what sensors have observed in calls."""
        room = max(0, _MOST_ANOMALIES - len(self.anomalies))
        self.anomalies += anomalies[:room]
        self.more_anomalies += len(anomalies[room:])

    def noticed(self, worker: str, what: str) -> None:
        """Keep what is odd, and log it."""
        self.notices.append(f"{worker}: {what}")
        _log.warning("%s: %s", worker, what)

    def failed(self, batch: Batch, outcomes: Sequence[object], worker: str, seconds: float) -> None:
        """Keep which calls of a batch failed, as its outcomes say; it took so many seconds."""
        for position, outcome in enumerate(outcomes):
            if isinstance(outcome, Raised) and len(self.failures) < _MOST_FAILURES:
                name = batch.chunk.name(batch.index(position))
                self.failures.append(failed_call(name, outcome.error, worker, seconds / len(batch)))

    def said(self, worker: str, words: str) -> None:
        """Keep why a worker failed."""
        self._words.setdefault(words, worker)
        while len(self._words) > _MOST_WORDS:
            del self._words[next(iter(self._words))]

    def died(self, worker: str, died: Died) -> None:
        """Keep why a worker died, unless it has said so itself."""
        if worker not in self._words.values():
            words = died.printed.strip()[-_LAST_OUTPUT:]
            doing = died.record.phase.name.lower()
            self.said(worker, f"{died.cause} ({doing}){': ' + words if words else ''}")

    def why_broken(self, reason: str) -> str:
        """Return a reason to give up, with what workers said, or else with what was odd."""
        words = [f"{worker}: {text}" for text, worker in self._words.items()]
        return "\n".join((reason, *(words or self.notices)))
