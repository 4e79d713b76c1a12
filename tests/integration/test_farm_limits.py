"""Who is blamed when a time limit passes: the item that passed it, and nobody else."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
import zmq

from snapfarm.broadcast import Broadcast
from snapfarm.deadlines import Kind
from snapfarm.dispatch import CollectionsDiffer, Dispatcher
from snapfarm.errors import LaunchError
from snapfarm.farm import Farm
from snapfarm.happenings import Died, KillReason, Overran
from snapfarm.owner import Order
from snapfarm.timekeeper import Limits
from snapfarm_worker import agent, wire
from snapfarm_worker.blackbox import BlackBox, Phase
from snapfarm_worker.jobs import STACKS_SIGNAL, WorkerSpec
from snapfarm_worker.wire import FromWorker
from support.hub import HubStage, PlayedProcess, hub_stage

LIMIT = 5.0
#: Seconds after which the farm is taken for stuck.
WAIT = 30.0


class Played:
    """A farm of one worker that is played, and its owner."""

    def __init__(self, stage: HubStage) -> None:
        self.stage = stage
        self.outcomes: list[tuple[str, str]] = []
        self.late: list[Overran] = []
        self.died: list[Died] = []
        self.notices: list[str] = []
        limits = Limits(item=LIMIT, start=0, stop=60)
        self.farm = Farm(
            stage.hub, Dispatcher(1, max_worker_restart=0), self, limits, clock=stage.clock
        )
        self.farm.start(1)
        stage.serve(Broadcast(4096))
        self.process: PlayedProcess = stage.processes["gw0"]
        self.box = BlackBox(self.process.spec.files.box)
        self.box.write(Phase.IDLE, "")
        self.socket: zmq.Socket[bytes] = stage.socket("gw0")
        self.results: zmq.Socket[bytes] = stage.socket("gw0/results")
        self.socket.send(wire.encode(agent._hello("gw0")))
        # Until then, an order could find no way to it.
        self.until(wire.Welcome)
        self.send(wire.Collected(tuple(map(wire.CollectedItem, "abcd", ("",) * 4)), (), 0, 0.1))
        self.until(wire.RunItems)

    def send(self, message: wire.Message) -> None:
        self.results.send(wire.encode(message))

    def begin(self, key: str) -> None:
        self.box.write(Phase.CALL, key)

    def end(self, key: str, seconds: float, then: str | None = None) -> None:
        self.box.item_finished()
        start = None if then is None else wire.ItemStarted(then, ("x.py", 1, then))
        self.send(wire.ItemFinished(key, b"", seconds, start))

    def until(self, kind: type[wire.Message]) -> None:
        """Run the farm until the worker got an order of this kind."""
        deadline = time.monotonic() + WAIT
        while True:
            while not self.socket.poll(0):
                assert time.monotonic() < deadline, self.notices
                self.farm.step(0.02)
            if isinstance(wire.decode_to_worker(self.socket.recv_multipart()[0]), kind):
                return

    def run_until(self, state: Callable[[], bool]) -> None:
        """Run the farm until something holds."""
        deadline = time.monotonic() + WAIT
        while not state():
            assert time.monotonic() < deadline, (self.outcomes, self.notices)
            self.farm.step(0.02)

    def pass_time(self, seconds: float) -> None:
        """Let time pass in which the farm looks now and then."""
        for _ in range(int(seconds / 0.5)):
            self.stage.clock.ahead += 0.5
            self.farm.step(0)

    def specify(self, worker: str) -> WorkerSpec:
        return self.stage.spec(worker)

    def order(self, worker: str, keys: tuple[str, ...], flush: bool) -> Order:
        del worker
        return wire.RunItems(keys, flush), []

    def arrived(self, worker: str, message: FromWorker, payload: Sequence[zmq.Frame]) -> None:
        del worker, payload
        if isinstance(message, wire.ItemFinished):
            self.outcomes.append((message.key, "finished"))

    def overran(
        self,
        worker: str,
        message: FromWorker,
        payload: Sequence[zmq.Frame],
        late: Sequence[Overran],
    ) -> None:
        del worker, payload
        assert isinstance(message, wire.ItemFinished)
        self.outcomes.append((message.key, "late"))
        self.late += late

    def crashed(self, key: str, died: Died, seconds: float) -> None:
        del died, seconds
        self.outcomes.append((key, "crashed"))

    def down(self, worker: str, died: Died, *, orderly: bool) -> None:
        del worker, orderly
        self.died.append(died)

    def not_started(self, worker: str, error: LaunchError) -> None:
        raise AssertionError(error)

    def printed(self, worker: str, lines: tuple[str, ...]) -> None:
        pass

    def noticed(self, worker: str, what: str) -> None:
        self.notices.append(f"{worker}: {what}")

    def differ(self, difference: CollectionsDiffer) -> None:
        raise AssertionError(difference)

    def gave_up(self, reason: str, unrun: tuple[str, ...]) -> None:
        pass


@pytest.fixture
def played() -> Iterator[Played]:
    with contextlib.ExitStack() as stack:
        yield Played(stack.enter_context(hub_stage(expected=1, silence=1e6)))


def _condemned(played: Played) -> None:
    """Let "a" pass its limit."""
    played.begin("a")
    played.send(wire.ItemStarted("a", ("x.py", 1, "a")))
    while STACKS_SIGNAL not in played.process.signals:
        played.pass_time(0.5)
    played.process.spec.files.stacks.write_text("stacks of a")


def test_an_item_that_ends_in_its_last_moment_is_late_and_its_worker_lives(played: Played) -> None:
    _condemned(played)
    played.end("a", LIMIT + 0.4, then="b")
    played.begin("b")
    played.run_until(lambda: bool(played.outcomes))
    played.pass_time(3)
    assert played.outcomes == [("a", "late")]
    assert [each.stacks for each in played.late] == ["stacks of a"]
    assert not played.process.killed
    assert played.died == []


def test_the_clock_of_the_worker_has_the_last_word(played: Played) -> None:
    _condemned(played)
    played.end("a", LIMIT - 0.1)
    played.run_until(lambda: bool(played.outcomes))
    played.pass_time(3)
    assert played.outcomes == [("a", "finished")]
    assert not played.process.killed


def test_a_stuck_item_is_blamed(played: Played) -> None:
    _condemned(played)
    while not played.died:
        played.pass_time(0.5)
    assert played.outcomes == [("a", "crashed")]
    assert (played.died[0].killed, played.died[0].stacks) == (KillReason.TIMEOUT, "stacks of a")


def test_what_began_in_the_moment_of_the_kill_is_not_blamed(played: Played) -> None:
    # 1. "a" is stuck: its worker is killed. 2. In that moment "a" ends and "b" begins.
    _condemned(played)
    peer = played.stage.hub._peers["gw0"]
    peer.execute()
    played.end("a", LIMIT + 1)
    played.begin("b")
    played.run_until(lambda: bool(played.died))
    assert played.outcomes == [("a", "late")]
    assert "b" in played.farm.unrun


def test_an_item_that_was_announced_and_dropped_does_not_pass_a_limit(played: Played) -> None:
    # 1. "b" is announced with the end of "a". 2. It is dropped by the end of the session.
    # 3. The session's fixtures take longer to be torn down than an item may run.
    played.begin("a")
    played.end("a", 0.1, then="b")
    played.run_until(lambda: bool(played.outcomes))
    played.farm.stop("enough")
    played.until(wire.EndSession)
    played.box.write(Phase.ENDING, "")
    played.pass_time(3 * LIMIT)
    assert played.process.signals == []
    assert not played.process.killed
    assert played.stage.hub.deadlines.at(Kind.ITEM, "gw0", "b") is None
