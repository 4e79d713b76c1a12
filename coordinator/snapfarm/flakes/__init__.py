"""Which tests flake, how often, why, and who broke them: history, verdicts, polluters, quarantine.

What stands in `__all__` is the Python API, and is imported when it is first used. Decisions are
pure (`signature`, `rates`, `verdict`, `search`, `suspects`, `orders`, `quarantine`); what runs
tests is `experiment` and `lab`, what keeps attempts is `history`. `docs/flakes.md` tells how.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from snapfarm.lazily import public

if TYPE_CHECKING:
    from snapfarm.flakes.actions import Hunted, bisect, hunt
    from snapfarm.flakes.diagnosis import Diagnosis, Suite
    from snapfarm.flakes.history import Attempt, History, Run
    from snapfarm.flakes.rates import Rate
    from snapfarm.flakes.replaying import Replayed, replay
    from snapfarm.flakes.verdict import Cause, Confidence, Verdict

__all__ = [
    "Attempt",
    "Cause",
    "Confidence",
    "Diagnosis",
    "History",
    "Hunted",
    "Rate",
    "Replayed",
    "Run",
    "Suite",
    "Verdict",
    "bisect",
    "hunt",
    "replay",
]

_HOMES = {
    "Attempt": ".history",
    "Cause": ".verdict",
    "Confidence": ".verdict",
    "Diagnosis": ".diagnosis",
    "History": ".history",
    "Hunted": ".actions",
    "Rate": ".rates",
    "Replayed": ".replaying",
    "Run": ".history",
    "Suite": ".diagnosis",
    "Verdict": ".verdict",
    "bisect": ".actions",
    "hunt": ".actions",
    "replay": ".replaying",
}

__getattr__, __dir__ = public(__name__, _HOMES)
