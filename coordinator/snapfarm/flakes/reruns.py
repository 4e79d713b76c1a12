"""Which failures run again in the run itself, and when a run gives that up. Pure.

A test that fails runs again up to `limit` times; what counts is how it ended last. The breaker
opens when most tests fail: then something is broken that no rerun mends, and they only cost time.
"""

from __future__ import annotations

from collections import Counter

#: So many different tests must have failed before the breaker may open,
BREAKER_LEAST = 10
#: and they must be more than this share of those that have ended.
BREAKER_SHARE = 0.5


class Reruns:
    """Counts failures by test, and says which of them are followed by a rerun."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        #: Failures that were followed by a rerun, by key of the item.
        self.spent: Counter[str] = Counter()
        #: Keys whose last attempt has failed, or is about to be repeated.
        self._failed: set[str] = set()
        self._ended: set[str] = set()
        #: Why nothing runs again any more; "" as long as something may.
        self.broken = ""

    def wanted(self, key: str) -> bool:
        """Take a failure; return whether the test runs again."""
        self._ended.add(key)
        self._failed.add(key)
        if not self.broken and self._most_fail():
            self.broken = (
                f"{len(self._failed)} of {len(self._ended)} tests have failed: "
                "nothing is run again any more"
            )
        if self.broken or self.spent[key] >= self.limit:
            return False
        self.spent[key] += 1
        return True

    def passed(self, key: str) -> None:
        """Take a test that has passed, or was skipped."""
        self._ended.add(key)
        self._failed.discard(key)

    def _most_fail(self) -> bool:
        return len(self._failed) >= BREAKER_LEAST and len(self._failed) > BREAKER_SHARE * len(
            self._ended
        )
