"""All suites of the corpus in one table."""

from __future__ import annotations

from flakes.order_cases import BRITTLE, RESIDUE, VICTIMS
from flakes.other_cases import CLEAN, OTHERS

CORPUS = (*VICTIMS, *BRITTLE, *RESIDUE, *OTHERS, *CLEAN)
