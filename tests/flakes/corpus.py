"""All suites of the corpus in one table, and the parts of it that have a purpose of their own."""

from __future__ import annotations

from flakes.held_out import HELD_OUT
from flakes.model import Case
from flakes.order_cases import BRITTLE, RESIDUE, VICTIMS
from flakes.other_cases import CLEAN, OTHERS

CORPUS = (*VICTIMS, *BRITTLE, *RESIDUE, *OTHERS, *CLEAN)

#: A few of the quickest, for each kind of answer: `make test` runs these.
_QUICK = (
    "module global", "a polluter that needs company", "brittle global", "database: rows",
    "registers twice", "random 1 in 2", "clean: leaves what nobody minds",
)  # fmt: skip
QUICK = tuple(case for case in CORPUS if case.name in _QUICK)

PARTS: dict[str, tuple[Case, ...]] = {"corpus": CORPUS, "held-out": HELD_OUT, "quick": QUICK}
