"""What SQLAlchemy loads for a URL with `plugin=snapfarm`: the pool that suits a ring.

For an address with `mode=memory` SQLAlchemy picks SingletonThreadPool, one connection for all
sessions of a thread, or StaticPool, one for all there are. Sessions then share transactions. In a
ring all connections see one database, so each session has its own here, as it has in production:

* NullPool, unless the caller names a pool: connecting to a ring takes a tenth of a millisecond,
  nothing is left open after a test, and an asynchronous connection meets one event loop only.
* StaticPool for a private ring, where each connection has a database of its own.
* What only a queue of connections understands, as `pool_size`, is left out with these two.
* `check_same_thread=False`, as for a file, unless the caller says otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import URL, NullPool, StaticPool
from sqlalchemy.engine import CreateEnginePlugin

if TYPE_CHECKING:
    from collections.abc import MutableMapping

#: Options of `create_engine` that only a queue of connections knows.
_OF_A_QUEUE = ("pool_size", "max_overflow", "pool_timeout", "pool_use_lifo")


class RingPlugin(CreateEnginePlugin):
    """Completes the options of an engine on a ring; a pool that the caller names stays."""

    def __init__(self, url: URL, kwargs: MutableMapping[str, object]) -> None:
        """Choose the pool; later the options can't be changed."""
        super().__init__(url, dict(kwargs))
        if kwargs.get("poolclass") is None and kwargs.get("pool") is None:
            private = url.query.get("vfs") == "farm-private"
            kwargs["poolclass"] = StaticPool if private else NullPool
            for option in _OF_A_QUEUE:
                kwargs.pop(option, None)

    def update_url(self, url: URL) -> URL:
        """Let connections go from thread to thread; the caller's `connect_args` override it."""
        if "check_same_thread" in url.query:
            return url
        return url.update_query_dict({"check_same_thread": "false"})
