"""What plugins ask of pytest-xdist, answered where it is not installed.

Registered as the plugin `xdist` while tests are distributed: plugins pass data to workers only if
there is a plugin of that name, and some call the functions below on it.
"""

from __future__ import annotations

from typing import TypeAlias

import pytest

_Asked: TypeAlias = pytest.FixtureRequest | pytest.Session


def is_xdist_worker(request_or_session: _Asked) -> bool:
    """Whether this is a worker."""
    return hasattr(request_or_session.config, "workerinput")


def is_xdist_controller(request_or_session: _Asked) -> bool:
    """Whether this process distributes tests to workers."""
    config = request_or_session.config
    return not is_xdist_worker(request_or_session) and config.option.dist != "no"


is_xdist_master = is_xdist_controller


def get_xdist_worker_id(request_or_session: _Asked) -> str:
    """Return the worker's id, or "master"."""
    given = getattr(request_or_session.config, "workerinput", {})
    return str(given.get("workerid", "master"))
