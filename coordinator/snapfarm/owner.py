"""What a farm wants of whoever uses it: a pytest session, a pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

from snapfarm import dispatch
from snapfarm.happenings import Died, Overran
from snapfarm_worker import wire
from snapfarm_worker.jobs import WorkerSpec

if TYPE_CHECKING:
    import zmq

    from snapfarm.broadcast import Frames
    from snapfarm.errors import LaunchError
    from snapfarm_worker.wire import FromWorker

#: A message with the frames that follow it.
Order: TypeAlias = "tuple[wire.Message, Frames]"


class Owner(Protocol):
    """Who uses a farm. Every method is called from the thread that runs `Farm.step`."""

    def specify(self, worker: str) -> WorkerSpec:
        """Return what a new worker of this name is started with."""

    def order(self, worker: str, keys: tuple[str, ...], flush: bool) -> Order | None:
        """Return the order to run these items; None where there is nothing to order."""

    def arrived(self, worker: str, message: FromWorker, payload: Sequence[zmq.Frame]) -> None:
        """Take a message; an ItemFinished or TaskFinished only if it is the item's one outcome."""

    def overran(
        self,
        worker: str,
        message: FromWorker,
        payload: Sequence[zmq.Frame],
        late: Sequence[Overran],
    ) -> None:
        """Take the one outcome of an item that passed its time limit, and then ended after all.

        `late` names the steps that did.
        """

    def crashed(self, key: str, died: Died, seconds: float) -> None:
        """Take an item's outcome: it killed its worker after so many seconds."""

    def down(self, worker: str, died: Died, *, orderly: bool) -> None:
        """A worker is gone; `orderly` if its session had ended."""

    def not_started(self, worker: str, error: LaunchError) -> None:
        """There is no worker of this name: it could not be started."""

    def printed(self, worker: str, lines: tuple[str, ...]) -> None:
        """A worker wrote lines past pytest's capture."""

    def noticed(self, worker: str, what: str) -> None:
        """Something is odd; nobody needs to act."""

    def differ(self, difference: dispatch.CollectionsDiffer) -> None:
        """Two workers collected different items; the farm stops."""

    def gave_up(self, reason: str, unrun: tuple[str, ...]) -> None:
        """Nobody is left to run these items."""
