"""snapfarm: a test farm that gives every test a pristine SQLite database.

(PYTEST_DONT_REWRITE: pytest would warn that the `farm` command had imported this already.)
"""

from __future__ import annotations

__version__ = "0.1.0"
