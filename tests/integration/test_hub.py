"""The hub over real sockets: greetings, odd frames, deaths, and what a dead worker had sent."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import msgspec
import pytest
import zmq

from snapfarm import deadlines
from snapfarm.broadcast import Broadcast
from snapfarm.deadlines import Deadline, Kind
from snapfarm.errors import LaunchError
from snapfarm.happenings import Arrived, Died, KillReason, Oddity, Overran, Printed, Silent
from snapfarm_worker import agent, wire
from snapfarm_worker.blackbox import BlackBox, Phase
from snapfarm_worker.jobs import EXIT_FAILED, STACKS_SIGNAL, WorkerSpec
from support.hub import HubStage, PlayedProcess, hub_stage


def _hello(worker: str, protocol: int = wire.PROTOCOL_VERSION) -> bytes:
    hello = msgspec.structs.replace(agent._hello(worker), protocol=protocol)
    return wire.encode(hello)


def _greeted(stage: HubStage, name: str) -> zmq.Socket[bytes]:
    """Return the socket of a worker that has been welcomed."""
    stage.launch(name)
    socket = stage.socket(name)
    socket.send(_hello(name))
    assert isinstance(stage.answer(socket), wire.Welcome)
    return socket


def test_a_worker_is_welcomed_once_there_is_something_to_serve() -> None:
    with hub_stage(expected=1) as stage:
        stage.launch("gw0")
        socket = stage.socket("gw0")
        socket.send(_hello("gw0"))
        stage.until(lambda: stage.messages(wire.Hello))
        assert socket.poll(0) == 0
        stage.serve(Broadcast(4096))
        assert isinstance(stage.answer(socket), wire.Welcome)


def test_a_foreign_protocol_version_is_refused() -> None:
    with hub_stage(expected=1) as stage:
        stage.serve(Broadcast(4096))
        stage.launch("gw0")
        socket = stage.socket("gw0")
        socket.send(_hello("gw0", protocol=999))
        answer = stage.answer(socket)
        assert isinstance(answer, wire.Refused)
        assert f"it speaks protocol 999, this farm {wire.PROTOCOL_VERSION}" in answer.reason
        assert "install the same version of snapfarm for both" in answer.reason


GARBAGE = {
    "no msgpack": b"\xc1 garbage",
    "an empty frame": b"",
    "another type": b"\x93\x01\x02\x03",
    "an unknown tag": b"\x81\xa4type\xa7Unknown",
    "a message for workers": wire.encode(wire.EndSession()),
    "a field of a wrong type": b"\x82\xa4type\xa5Pulse\xa6worker\x05",
}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_is_counted_named_and_answered(what: str) -> None:
    with hub_stage(expected=1) as stage:
        stage.serve(Broadcast(4096))
        socket = _greeted(stage, "gw0")
        socket.send(GARBAGE[what])
        assert isinstance(stage.answer(socket), wire.Rejected)
        assert stage.hub.oddities == {"gw0": 1}
        (oddity,) = stage.seen(Oddity)
        assert oddity.worker == "gw0"
        # It is still a worker like any other.
        socket.send(_hello("gw0"))
        assert isinstance(stage.answer(socket), wire.Welcome)


def test_a_stranger_is_told_so() -> None:
    with hub_stage(expected=1) as stage:
        stage.serve(Broadcast(4096))
        socket = stage.socket("gw9")
        socket.send(_hello("gw9"))
        answer = stage.answer(socket)
        assert answer == wire.Rejected("this farm has no worker 'gw9'")
        assert stage.hub.oddities == {"gw9": 1}


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (wire.NeedChunks("0" * 64, (0,)), "no snapshot 000000000000 is being broadcast"),
    ],
)
def test_a_question_without_answer_is_rejected(question: wire.NeedChunks, reason: str) -> None:
    with hub_stage(expected=1) as stage:
        stage.serve(Broadcast(4096))
        socket = _greeted(stage, "gw0")
        socket.send(wire.encode(question))
        assert stage.answer(socket) == wire.Rejected(reason)


def test_a_flood_does_not_keep_the_caller_from_its_turn() -> None:
    with hub_stage(expected=1) as stage:
        stage.serve(Broadcast(4096))
        socket = _greeted(stage, "gw0")
        for number in range(1200):
            socket.send(wire.encode(wire.ItemsReturned(number, ())))
        stage.until(lambda: len(stage.messages(wire.ItemsReturned)) == 1200)
        orders = [message.order for _, message in stage.messages(wire.ItemsReturned)]
        assert orders == list(range(1200))
        batches = [len(stage.hub.poll(0)) for _ in range(3)]
        assert batches == [0, 0, 0]


# ---------------------------------------------------------------- silence


def test_a_silent_worker_that_lives_is_reported_once() -> None:
    with hub_stage(expected=1, silence=5) as stage:
        stage.serve(Broadcast(4096))
        socket = _greeted(stage, "gw0")
        stage.pass_time(6)
        stage.until(lambda: stage.seen(Silent))
        stage.events += stage.hub.poll(0)
        assert len(stage.seen(Silent)) == 1
        # It speaks, and is silent once more.
        socket.send(wire.encode(wire.Pulse("gw0")))
        stage.until(lambda: not stage.hub._peers["gw0"].warned)
        stage.pass_time(6)
        stage.until(lambda: len(stage.seen(Silent)) == 2)


def test_a_silent_worker_that_is_stopped_is_killed() -> None:
    with hub_stage(expected=1, silence=5) as stage:
        stage.serve(Broadcast(4096))
        _greeted(stage, "gw0")
        stage.processes["gw0"].stopped = True
        stage.pass_time(6)
        died = stage.until(lambda: stage.seen(Died))[0]
        assert died.killed is KillReason.STOPPED
        assert died.cause == "signal SIGKILL"
        assert stage.processes["gw0"].signals == []


def test_nobody_is_silent_while_messages_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "_PAUSE", 1e9)
    with hub_stage(expected=2, silence=5) as stage:
        stage.serve(Broadcast(4096))
        loud, quiet = _greeted(stage, "gw0"), _greeted(stage, "gw1")
        for _ in range(2000):
            loud.send(wire.encode(wire.Pulse("gw0")))
        quiet.send(wire.encode(wire.Pulse("gw1")))
        stage.until(lambda: stage.hub._router.poll(0))
        stage.clock.ahead += 6
        stage.until(lambda: stage.hub._drained and not stage.hub._router.poll(0))
        assert stage.seen(Silent) == []


def test_time_in_which_nobody_looked_does_not_count() -> None:
    # 1. A worker is heard of, another is sentenced. 2. The coordinator is stopped for an hour.
    # 3. It goes on before ZeroMQ has read what came meanwhile.
    with hub_stage(expected=2, silence=5) as stage:
        stage.serve(Broadcast(4096))
        _greeted(stage, "gw0")
        stage.launch("gw1")
        stage.hub.kill("gw1", KillReason.TIMEOUT, stacks=True)
        stage.hub.deadlines.set(Kind.EXIT, stage.clock() + 2, "gw0")
        stage.clock.ahead += 3600
        for _ in range(3):
            stage.events += stage.hub.poll(0)
            assert stage.hub.due() == []
        assert stage.events[1:] == []
        assert not stage.processes["gw1"].killed
        stage.pass_time(3)
        stage.until(lambda: stage.seen(Died))
        assert stage.hub.due() == [Deadline(Kind.EXIT, "gw0")]


def test_limits_hold_though_every_look_is_late() -> None:
    with hub_stage(expected=1) as stage:
        stage.serve(Broadcast(4096))
        _greeted(stage, "gw0")
        stage.hub.deadlines.set(Kind.STOP, stage.clock() - 1)
        found = []
        for _ in range(2):
            stage.clock.ahead += 60
            stage.hub.poll(0)
            found.append(stage.hub.due())
            stage.hub.deadlines.set(Kind.STOP, stage.clock() - 1)
        assert found == [[], [Deadline(Kind.STOP)]]


# ---------------------------------------------------------------- deaths


def _finished(key: str) -> bytes:
    return wire.encode(wire.ItemFinished(key, b"", 0.0))


def test_a_death_is_told_after_the_results_that_are_on_their_way() -> None:
    # 1. the worker finishes "a" and begins "b"
    # 2. it is killed; its result of "a" is still in a buffer
    # 3. the hub sees the process end first
    with hub_stage(expected=1) as stage:
        stage.serve(Broadcast(4096))
        process = stage.launch("gw0")
        box = BlackBox(process.spec.files.box)
        box.write(Phase.CALL, "a")
        box.item_finished()
        box.write(Phase.CALL, "b")
        process.end(-9)
        stage.until(lambda: stage.hub._peers["gw0"].ended)
        socket = stage.socket("gw0/results")
        socket.send(_finished("a"))
        died = stage.until(lambda: stage.seen(Died))[0]
        assert [type(event) for event in stage.events] == [Arrived, Died]
        assert (died.record.subject, died.missing) == ("b", 0)


def test_a_result_that_never_comes_is_waited_for_and_counted() -> None:
    with hub_stage(expected=1) as stage:
        stage.serve(Broadcast(4096))
        process = stage.launch("gw0")
        box = BlackBox(process.spec.files.box)
        box.write(Phase.CALL, "a")
        box.item_finished()
        process.end(-9)
        stage.until(lambda: stage.hub._peers["gw0"].ended)
        stage.pass_time(0.5)
        assert stage.hub.poll(0.02) == []
        stage.pass_time(0.6)
        died = stage.until(lambda: stage.seen(Died))[0]
        assert died.missing == 1


@pytest.mark.parametrize(
    ("exit_code", "goodbye"),
    [(0, wire.SessionEnded(0, b"")), (EXIT_FAILED, wire.WorkerFailed("start", "no"))],
)
def test_the_goodbye_of_a_worker_is_waited_for(exit_code: int, goodbye: wire.Message) -> None:
    with hub_stage(expected=1) as stage:
        stage.serve(Broadcast(4096))
        process = stage.launch("gw0")
        BlackBox(process.spec.files.box).write(Phase.ENDING, "")
        process.end(exit_code)
        stage.until(lambda: stage.hub._peers["gw0"].ended)
        # Longer than what need not come is waited for.
        stage.pass_time(0.5)
        assert stage.hub.poll(0.02) == []
        stage.socket("gw0/results").send(wire.encode(goodbye))
        stage.until(lambda: stage.seen(Died))
        assert [type(event) for event in stage.events] == [Arrived, Died]


def test_what_a_worker_printed_last_comes_before_its_death() -> None:
    with hub_stage(expected=1) as stage:
        stage.serve(Broadcast(4096))
        process = stage.launch("gw0")
        process.spec.files.output.write_text("a line\nno line end")
        process.end(-11)
        died = stage.until(lambda: stage.seen(Died))[0]
        lines = [line for event in stage.seen(Printed) for line in event.lines]
        assert lines == ["a line", "no line end"]
        assert died.cause == "signal SIGSEGV"
        assert died.printed == "a line\nno line end\n"


def test_stacks_are_asked_for_before_the_kill() -> None:
    with hub_stage(expected=1) as stage:
        stage.serve(Broadcast(4096))
        _greeted(stage, "gw0")
        process = stage.processes["gw0"]
        stage.hub.kill("gw0", KillReason.TIMEOUT, stacks=True)
        process.spec.files.stacks.write_text("the stacks")
        assert process.signals == [STACKS_SIGNAL]
        assert not process.killed
        stage.pass_time(2)
        died = stage.until(lambda: stage.seen(Died))[0]
        assert (died.killed, died.stacks) == (KillReason.TIMEOUT, "the stacks")


def test_a_worker_is_killed_for_an_item_only_while_that_runs() -> None:
    # 1. "a" passes its limit, and the worker is asked for stacks. 2. It ends "a" and begins "b".
    # 3. The time for the stacks is over.
    with hub_stage(expected=1) as stage:
        stage.serve(Broadcast(4096))
        _greeted(stage, "gw0")
        process = stage.processes["gw0"]
        box = BlackBox(process.spec.files.box)
        box.write(Phase.CALL, "a")
        stage.hub.kill("gw0", KillReason.TIMEOUT, key="a", stacks=True)
        process.spec.files.stacks.write_text("the stacks of a")
        box.item_finished()
        box.write(Phase.CALL, "b")
        late = stage.until(lambda: stage.seen(Overran))
        assert late == [Overran("gw0", "a", 0, "the stacks of a")]
        assert not process.killed
        assert stage.hub.deadlines.at(Kind.KILL, "gw0") is None
        # The next one is killed with stacks of its own.
        stage.hub.kill("gw0", KillReason.TIMEOUT, key="b", stacks=True)
        with process.spec.files.stacks.open("a") as file:
            file.write("the stacks of b")
        (died,) = stage.until(lambda: stage.seen(Died))
        assert (died.killed, died.condemned) == (KillReason.TIMEOUT, ("b",))
        assert died.stacks == "the stacks of b"


def test_a_sentence_for_items_ends_with_the_last_of_them() -> None:
    with hub_stage(expected=1) as stage:
        stage.serve(Broadcast(4096))
        process = stage.launch("gw0", lanes=2)
        for lane, key in enumerate("ab"):
            BlackBox(process.spec.files.lane_box(lane)).write(Phase.CALL, key)
            stage.hub.kill("gw0", KillReason.TIMEOUT, key=key, stacks=True)
        assert process.signals == [STACKS_SIGNAL]
        assert stage.hub.spare("gw0", "c") is None
        assert stage.hub.spare("gw0", "a") == Overran("gw0", "a", 0, "")
        assert stage.hub.deadlines.at(Kind.KILL, "gw0") is not None
        assert stage.hub.spare("gw0", "b") is not None
        assert stage.hub.deadlines.at(Kind.KILL, "gw0") is None
        # Another reason is final.
        stage.hub.kill("gw0", KillReason.TIMEOUT, key="a", stacks=True)
        stage.hub.kill("gw0", KillReason.ENDING)
        assert stage.hub.spare("gw0", "a") is None
        (died,) = stage.until(lambda: stage.seen(Died))
        assert (died.killed, died.condemned) == (KillReason.ENDING, ())


def test_an_order_to_nobody_is_dropped() -> None:
    with hub_stage(expected=1) as stage:
        stage.hub.send("gw0", wire.EndSession())
        stage.hub.kill("gw0", KillReason.ENDING)
        stage.hub.interrupt("gw0")
        assert stage.hub.poll(0) == []


def test_an_interrupt_goes_to_the_worker_alone() -> None:
    with hub_stage(expected=1) as stage:
        process = stage.launch("gw0")
        stage.hub.interrupt("gw0")
        assert process.signals == [signal.SIGINT]


def test_nothing_is_left_of_a_dead_worker() -> None:
    with hub_stage(expected=1) as stage:
        stage.serve(Broadcast(4096))
        before = {path.name for path in stage.folder.iterdir()}
        process = stage.launch("gw0")
        BlackBox(process.spec.files.box)
        process.end(-9)
        stage.until(lambda: stage.seen(Died))
        assert {path.name for path in stage.folder.iterdir()} == before
        assert stage.hub.workers == ()


# ---------------------------------------------------------------- starts


def _descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


@pytest.mark.parametrize("nth", range(3))
def test_a_start_without_room_is_a_launch_error_and_leaves_nothing(
    nth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The pipe's two ends, then the process's own: with each, the system may be out of descriptors.
    with hub_stage(expected=1) as stage:
        before, files = _descriptors(), set(stage.folder.iterdir())
        real = os.open
        opened: list[Path] = []

        def scarce(path: Path, flags: int) -> int:
            if len(opened) == nth:
                raise OSError(errno.EMFILE, "Too many open files")
            opened.append(path)
            return real(path, flags)

        def start(spec: WorkerSpec) -> PlayedProcess:
            os.close(os.open(spec.files.folder, os.O_RDONLY))
            raise AssertionError("the third open fails")

        stage.hub._start = start
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", scarce)
            with pytest.raises(LaunchError, match=r"gw0 could not be started: OSError: .*Too many"):
                stage.launch("gw0")
        assert _descriptors() == before
        assert set(stage.folder.iterdir()) == files
        assert stage.hub.workers == ()


def test_a_process_whose_id_can_not_be_noted_does_not_live_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with hub_stage(expected=1) as stage:
        before, files = _descriptors(), set(stage.folder.iterdir())

        def full(path: Path, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "write_text", full)
        with pytest.raises(LaunchError, match="No space left"):
            stage.launch("gw0")
        assert stage.processes["gw0"].killed
        assert _descriptors() == before
        assert set(stage.folder.iterdir()) == files
        assert stage.hub.workers == ()
