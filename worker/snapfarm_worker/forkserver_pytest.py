"""Imports what each session of pytest imports, for the fork server's copies to have it."""

from __future__ import annotations

import importlib

from _pytest.config import default_plugins

from snapfarm_worker import items

__all__ = ["items"]

for _name in default_plugins:
    importlib.import_module(f"_pytest.{_name}")
