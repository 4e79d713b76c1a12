"""SQLAlchemy on a ring: the URL that leads there, and engines.

The URL names a plugin of SQLAlchemy's, which chooses the pool: `snapfarm_worker.sqlalchemy_plugin`.

SQLAlchemy is imported only where an engine is made: it is the suite's, not the farm's.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from snapfarm_worker.errors import RingError

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.ext.asyncio import AsyncEngine

    from snapfarm_worker.ring import Ring

#: The name under which SQLAlchemy finds `snapfarm_worker.sqlalchemy_plugin`.
PLUGIN = "snapfarm"


def sqlalchemy_url(uri: str) -> str:
    """Return the URL with which SQLAlchemy joins the ring of a URI.

    The path is absolute: Flask-SQLAlchemy takes a relative one to be inside of its own folder.
    """
    path = uri.removeprefix("file:")
    return f"sqlite:///file:/{path.lstrip('/')}&uri=true&plugin={PLUGIN}"


def sync_engine(ring: Ring) -> sa.Engine:
    """Return a new engine on a ring, for any thread. Raises RingError without SQLAlchemy."""
    _require("sqlalchemy")
    from sqlalchemy import create_engine

    return create_engine(sqlalchemy_url(ring.uri))


def async_engine(ring: Ring) -> AsyncEngine:
    """Return a new asynchronous engine on a ring, for any event loop.

    Raises RingError without SQLAlchemy, aiosqlite or greenlet.
    """
    for module in ("sqlalchemy", "aiosqlite", "greenlet"):
        _require(module)
    from sqlalchemy.ext.asyncio import create_async_engine

    return create_async_engine(sqlalchemy_url(ring.uri).replace("sqlite:", "sqlite+aiosqlite:", 1))


def _require(module: str) -> None:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise RingError(
            f"this needs {module}, which {sys.executable} does not have: python -m pip install "
            f"{module}"
        ) from None
