"""How many workers there are to be: counts launches and deaths, decides on replacements."""

from __future__ import annotations

from typing import Final

from snapfarm.dispatch.ledger import Ledger
from snapfarm.dispatch.model import LIVE, USABLE

#: After more deaths in a row before a worker was ready, no replacement is launched.
START_DEATHS: Final = 3
#: Replacements per planned worker, unless the user says otherwise.
RESTARTS_PER_WORKER: Final = 4


class Staff:
    """The planned number of workers, and what is left of the allowance to keep it."""

    def __init__(self, ledger: Ledger, planned: int, max_worker_restart: int | None) -> None:
        self._ledger = ledger
        self._planned = planned
        self._restarts = (
            RESTARTS_PER_WORKER * planned if max_worker_restart is None else max_worker_restart
        )
        #: Workers that will be announced: those of the start, and one for each Launch.
        self.coming = planned
        #: Number of Launch actions ever; never more than `_restarts`.
        self._launches = 0
        #: Workers that died before they were ready, since the last one that became ready.
        self._start_deaths = 0
        #: Whether any worker ever became ready.
        self._proven = False

    def announced(self) -> None:
        """Note that a worker was announced."""
        self.coming = max(0, self.coming - 1)

    def became_ready(self) -> None:
        """Note that a worker became ready: starting works."""
        self._proven = True
        self._start_deaths = 0

    def died_starting(self) -> None:
        """Note that a worker was gone before it was ready."""
        self._start_deaths += 1

    def hire(self) -> bool:
        """Count one replacement if it is allowed, missing, and would find something to do.

        It finds something to do if there are more items without outcome than workers to run them.
        """
        places = self._ledger.count(LIVE) + self.coming
        takers = self._ledger.count(USABLE) + self.coming
        if not self._may_hire() or places >= self._planned or len(self._ledger.unit_of) <= takers:
            return False
        self._launches += 1
        self.coming += 1
        return True

    def lost_for_good(self) -> bool:
        """Tell whether no worker is left, none is coming, and none may be launched."""
        return not (self._ledger.count(LIVE) or self.coming or self._may_hire())

    def despair(self) -> str:
        """Return why no worker is left, for the user."""
        if not self._proven:
            return "every worker died before it was ready"
        if self._start_deaths > START_DEATHS:
            return (
                f"no worker is left, and the last {self._start_deaths} died before they were ready"
            )
        if not self._restarts:
            return "no worker is left, and no replacement is allowed"
        return f"no worker is left, and all {self._restarts} replacements are used up"

    def check(self) -> None:
        """Raise DispatchError if more replacements were launched than allowed."""
        if self._launches > self._restarts:
            self._ledger.fail(f"{self._launches} launches, but {self._restarts} are allowed")

    def _may_hire(self) -> bool:
        return (
            self._proven and self._start_deaths <= START_DEATHS and self._launches < self._restarts
        )
