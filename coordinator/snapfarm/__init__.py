"""snapfarm: a test farm that gives every test a pristine SQLite database."""

from __future__ import annotations

__version__ = "0.1.0"
