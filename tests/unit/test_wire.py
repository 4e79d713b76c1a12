"""Every message survives its codec, and every message of the wire has a place in its table."""

from __future__ import annotations

import typing
from pathlib import Path

import msgspec
import pytest

import snapfarm
import snapfarm_worker
from snapfarm_worker import wire
from snapfarm_worker.anomaly import Anomaly, AnomalyKind, Severity
from snapfarm_worker.errors import ProtocolError

FROM_WORKER = typing.get_args(wire.FromWorker)
TO_WORKER = typing.get_args(wire.ToWorker)
ALL = sorted({*FROM_WORKER, *TO_WORKER}, key=lambda kind: kind.__name__)


def _sources(package: object) -> str:
    folder = Path(str(getattr(package, "__file__", ""))).parent
    return "\n".join(
        path.read_text() for path in sorted(folder.rglob("*.py")) if path.name != "wire.py"
    )


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_message_stands_in_the_table_of_the_docstring(kind: type) -> None:
    assert f"\n    {kind.__name__} " in str(wire.__doc__)


def test_table_of_the_docstring_names_no_other_message() -> None:
    rows = [line.split()[0] for line in str(wire.__doc__).splitlines() if " -> " in line]
    assert set(rows) - {"message"} <= {kind.__name__ for kind in ALL}


@pytest.mark.parametrize("kind", FROM_WORKER, ids=lambda kind: kind.__name__)
def test_worker_message_is_sent_by_the_worker_and_handled_by_the_coordinator(kind: type) -> None:
    assert f"{kind.__name__}(" in _sources(snapfarm_worker)
    assert f"wire.{kind.__name__}(" in _sources(snapfarm)


@pytest.mark.parametrize("kind", TO_WORKER, ids=lambda kind: kind.__name__)
def test_order_is_sent_by_the_coordinator_and_known_to_the_worker(kind: type) -> None:
    assert f"{kind.__name__}(" in _sources(snapfarm)
    assert kind.__name__ in _sources(snapfarm_worker)


def test_item_finished_round_trip() -> None:
    message = wire.ItemFinished(
        "a.py::test",
        b"reports",
        0.5,
        wire.ItemStarted("a.py::test_2", ("a.py", 3, "test_2")),
        (),
        (wire.RingReset("default", "in-place", 0.003),),
    )
    assert wire.decode_from_worker(wire.encode(message)) == message


def test_order_round_trip() -> None:
    message = wire.RunItems(("a", "b"), flush=True)
    assert wire.decode_to_worker(wire.encode(message)) == message


ODD = "odd \udcff"
SHOWN = "odd \\udcff"


def test_texts_that_are_not_valid_travel_readable() -> None:
    hello = wire.Hello("gw0", 1, 2, "3", "3", "/bin/python", "linux", f"/{ODD}")
    assert wire.decode_from_worker(wire.encode(hello)) == msgspec.structs.replace(
        hello, cwd=f"/{SHOWN}"
    )
    anomaly = Anomaly(
        kind=AnomalyKind.LOCK_ERROR,
        severity=Severity.ERROR,
        database="default",
        test=ODD,
        message=ODD,
    )
    finished = wire.ItemFinished(
        "a.py::test",
        b"\xff reports",
        0.5,
        wire.ItemStarted("a.py::test_2", (f"{ODD}.py", 3, "test_2")),
        (anomaly,),
        (wire.RingReset("default", "in-place", 0.003),),
    )
    assert wire.decode_from_worker(wire.encode(finished)) == msgspec.structs.replace(
        finished,
        then=wire.ItemStarted("a.py::test_2", (f"{SHOWN}.py", 3, "test_2")),
        anomalies=(msgspec.structs.replace(anomaly, test=SHOWN, message=SHOWN),),
    )
    stopping = wire.Stopping(ODD, False, ("a.py::test",))
    assert wire.decode_from_worker(wire.encode(stopping)) == wire.Stopping(
        SHOWN, False, ("a.py::test",)
    )


@pytest.mark.parametrize("frame", [b"", b"junk", wire.encode(wire.RunItems(("a",)))[:-2]])
def test_torn_or_foreign_frame_is_a_protocol_error(frame: bytes) -> None:
    with pytest.raises(ProtocolError, match="not a message of protocol"):
        wire.decode_to_worker(frame)


def test_message_of_the_other_direction_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match="not a message"):
        wire.decode_from_worker(wire.encode(wire.RunItems(("a",))))


def test_oversized_frame_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MESSAGE_LIMIT", 3)
    with pytest.raises(ProtocolError, match="over the limit of 3"):
        wire.decode_to_worker(wire.encode(wire.EndSession()))
