"""Which tests flake, how often, why, and who broke them: history, verdicts, polluters, quarantine.

Decisions are pure (`signature`, `rates`, `verdict`, `search`, `orders`, `quarantine`); what runs
tests is `experiment` and `lab`, what keeps attempts is `history`. `docs/flakes.md` tells how.
"""
