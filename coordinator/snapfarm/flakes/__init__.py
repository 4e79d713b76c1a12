"""Which tests flake, how often, why, and who broke them: history, verdicts, polluters, quarantine.

What stands in `__all__` is the Python API, and is imported when it is first used. Decisions are
pure (`signature`, `rates`, `verdict`, `search`, `suspects`, `orders`, `quarantine`); what runs
tests is `experiment` and `lab`, what keeps attempts is `history`. `docs/flakes.md` tells how.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

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
    "Attempt": "history",
    "Cause": "verdict",
    "Confidence": "verdict",
    "Diagnosis": "diagnosis",
    "History": "history",
    "Hunted": "actions",
    "Rate": "rates",
    "Replayed": "replaying",
    "Run": "history",
    "Suite": "diagnosis",
    "Verdict": "verdict",
    "bisect": "actions",
    "hunt": "actions",
    "replay": "replaying",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for: a run needs few of them."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Name what can be asked for."""
    return sorted({*globals(), *__all__})
