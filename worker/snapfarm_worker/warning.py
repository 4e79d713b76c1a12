"""Warnings of the farm's own, which never break a test."""

from __future__ import annotations

import logging
import warnings


def warn(note: str) -> None:
    """Warn, also in a run that turns warnings into errors: it breaks no test."""
    try:
        warnings.warn(note, RuntimeWarning, stacklevel=2)
    except Warning:
        logging.getLogger("snapfarm").warning(note)
