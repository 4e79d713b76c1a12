"""How often a test fails, with how sure that is: Wilson's interval for few observations."""

from __future__ import annotations

import math

import msgspec

#: Quantile of the normal distribution for 95 %.
Z95 = 1.959963984540054


class Rate(msgspec.Struct, frozen=True):
    """So many failures in so many runs."""

    failures: int
    runs: int

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.failures} of {self.runs}, 95 % {low * 100:.1f}-{high * 100:.1f} %"

    def interval(self, z: float = Z95) -> tuple[float, float]:
        """Return Wilson's interval of the rate, each end from 0 to 1; all of it without runs."""
        if not self.runs:
            return 0.0, 1.0
        share, square = self.failures / self.runs, z * z / self.runs
        middle = share + square / 2
        spread = z * math.sqrt(share * (1 - share) / self.runs + square / (4 * self.runs))
        low, high = (middle - spread) / (1 + square), (middle + spread) / (1 + square)
        # At the ends the formula is exact, and floating point is not.
        return (
            0.0 if not self.failures else max(0.0, low),
            1.0 if self.failures == self.runs else min(1.0, high),
        )
