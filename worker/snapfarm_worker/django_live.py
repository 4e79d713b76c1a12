"""Lets Django's live servers stop as soon as they are told to.

A server of the standard library looks twice a second whether it is to stop, so that whoever ends
one waits for a quarter of a second, and up to twice that: at the end of each `LiveServerTestCase`,
and of a worker that has used the fixture `live_server`.
"""

from __future__ import annotations

import socketserver
from collections.abc import Callable

#: Seconds between two looks; each costs some microseconds.
POLL_INTERVAL = 0.02


def stop_at_once() -> Callable[[], None]:
    """Have the live servers made from now on look more often; return the undoing. Needs Django.

    Only those that serve as the standard library does: a project's own servers are left alone.
    """
    from django.test.testcases import LiveServerThread

    original: Callable[..., object] = LiveServerThread._create_server  # noqa: SLF001  # the seam that Django has for subclasses

    def create_server(self: object, *args: object, **more: object) -> object:
        server = original(self, *args, **more)
        if (
            isinstance(server, socketserver.BaseServer)
            and type(server).serve_forever is socketserver.BaseServer.serve_forever
        ):
            serve = server.serve_forever

            def serve_forever(poll_interval: float = POLL_INTERVAL) -> None:
                serve(poll_interval)

            server.serve_forever = serve_forever  # type: ignore[method-assign]  # of this one server
        return server

    def undo() -> None:
        LiveServerThread._create_server = original  # noqa: SLF001  # as above

    LiveServerThread._create_server = create_server  # noqa: SLF001  # as above
    return undo
