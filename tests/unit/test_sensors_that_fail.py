"""A sensor that fails says so once and is off; what a program sees is what it would have seen."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import threading
import warnings

import pytest

from snapfarm_worker.anomaly import AnomalyKind, Level
from snapfarm_worker.guard import Guarded, guarded
from snapfarm_worker.offspring import Offspring
from snapfarm_worker.outsiders import Outsiders
from snapfarm_worker.ring import ResetPolicy, RingKind
from snapfarm_worker.sensors import Sensors
from snapfarm_worker.statements import Recording
from support.sensor_rig import EMPTY_SCHEMA, Rig

SENSORS = [
    *((Sensors, name) for name, method in vars(Sensors).items() if hasattr(method, "__wrapped__")),
    *(
        (Offspring, name)
        for name, method in vars(Offspring).items()
        if hasattr(method, "__wrapped__")
    ),
]
#: Those that are called elsewhere than in a test of one thread, without a program's doing.
UNCALLED = {"forked", "accept", "remember", "leaked_transaction"}
#: What is guarded in a way of its own: what is broken, and the name that is told.
OTHERS = {
    "executed": (Sensors, "_look"),
    "outside": (Outsiders, "recognize"),
    "authorizer": (Recording, "note"),
}


def use(rig: Rig) -> list[object]:
    """Do all that a sensor may want to look at; return what a program sees of it."""
    seen: list[object] = []
    with contextlib.closing(rig.ring.connect()) as conn:
        seen.append(conn.execute("DELETE FROM orders WHERE id > 150").rowcount)
        seen.append(conn.executemany("DELETE FROM orders WHERE id > ?", [(150,)]).rowcount)
        conn.commit()
        seen.append(conn.execute("SELECT count(*) FROM orders").fetchone())
        with contextlib.closing(rig.ring.connect(timeout=0)) as other:
            conn.execute("DELETE FROM pairs")
            seen.append(refused(other, "INSERT INTO pairs VALUES ('c', 'd')"))
            conn.rollback()
        seen.append(refused(conn, "SELECT * FROM nowhere"))
    with contextlib.closing(rig.ring.connect()) as conn:
        conn.deserialize(EMPTY_SCHEMA)
        seen.append(conn.execute("SELECT * FROM orders").fetchall())
    with contextlib.closing(sqlite3.connect(":memory:")) as conn:
        seen.append(refused(conn, "SELECT * FROM orders"))
    thread = threading.Thread(target=seen.append, args=("thread",))
    thread.start()
    thread.join()
    seen.append(subprocess.run(["true", rig.ring.uri], check=False).returncode)
    return seen


def refused(conn: sqlite3.Connection, statement: str) -> str:
    """Return what a statement that has to fail raises."""
    with pytest.raises(sqlite3.OperationalError) as caught:
        conn.execute(statement)
    return str(caught.value)


def break_sensor(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
    def broken(_: Guarded, /, *more: object, **named: object) -> None:
        raise LookupError("a bug")

    broken.__name__ = name
    keeps_guard = hasattr(vars(owner)[name], "__wrapped__")
    monkeypatch.setattr(owner, name, guarded(broken) if keeps_guard else broken)


@pytest.mark.parametrize(
    ("owner", "method", "told"),
    [
        *((owner, name, name) for owner, name in SENSORS),
        *((owner, method, name) for name, (owner, method) in OTHERS.items()),
    ],
)
def test_any_sensor_may_fail(
    owner: type, method: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = Rig(RingKind.SHARED_CACHE, ResetPolicy.MODULE, level=Level.OFF)
    expected = use(without)
    without.databases.close()
    assert expected[2] == (150,)

    break_sensor(monkeypatch, owner, method)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rig = Rig(RingKind.SHARED_CACHE, ResetPolicy.MODULE)
        assert use(rig) == expected
        rig.end()
        rig.databases.end_test("t.py::two", None, "module")
        with contextlib.closing(rig.ring.connect()) as conn:
            assert conn.execute("SELECT count(*) FROM orders").fetchone() == (200,)
        rig.databases.close()
    said = [str(each.message) for each in caught if each.category is RuntimeWarning]
    note = f"the sensor {told!r} failed and is off from now on, please report it: "
    assert said == ([] if told in UNCALLED else [f"{note}LookupError: a bug"])


def test_what_does_not_fail_is_reported_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    break_sensor(monkeypatch, Sensors, "left")
    rig = Rig(RingKind.SHARED_CACHE)
    with pytest.warns(RuntimeWarning, match="'left' failed and is off"):
        use(rig)
    kinds = set(rig.kinds())
    rig.databases.close()
    assert AnomalyKind.LEFT_RING not in kinds
    assert {AnomalyKind.LOCK_ERROR, AnomalyKind.WRONG_DATABASE} <= kinds
