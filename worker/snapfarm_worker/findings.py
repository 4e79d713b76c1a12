"""The anomalies of the present test, each kind of observation once with its count."""

from __future__ import annotations

import threading
from collections.abc import Callable

import msgspec

from snapfarm_worker.anomaly import Anomaly, AnomalyKind, Severity
from snapfarm_worker.stacks import callers, shown

_SQL_LIMIT = 2000


class Findings:
    """Collects anomalies from all threads."""

    def __init__(self) -> None:
        self._test = ""
        self._found: dict[tuple[object, ...], Anomaly] = {}
        self._lock = threading.Lock()

    @property
    def test(self) -> str:
        """Node id of the test that runs; empty between tests."""
        return self._test

    def _all(self) -> dict[tuple[object, ...], Anomaly]:
        """Return where the calling thread's observations go."""
        return self._found

    def begin(self, test: str) -> None:
        """Start with nothing for a test."""
        with self._lock:
            self._found.clear()
        self._test = test

    def peek(self) -> tuple[Anomaly, ...]:
        """Return what was found so far in this test."""
        with self._lock:
            return tuple(self._found.values())

    def add(
        self,
        kind: AnomalyKind,
        severity: Severity,
        database: str,
        message: str,
        *,
        same: tuple[object, ...] = (),
        thread: str = "",
        sql: str = "",
        table: str = "",
        stack: tuple[str, ...] | None = None,
        evidence: tuple[str, ...] = (),
        polluter: str = "",
    ) -> None:
        """Add an observation; one of the same kind, database and `same` is counted, not added.

        Without a `stack`, it is the caller's.
        """
        key = (kind, database, *same)
        found = self._all()
        with self._lock:
            known = found.get(key)
            if known is not None:
                found[key] = msgspec.structs.replace(known, count=known.count + 1)
                return
        if stack is None:
            stack = tuple(shown(frame) for frame in callers()[0])
        anomaly = Anomaly(
            kind=kind,
            severity=severity,
            test=self.test,
            database=database,
            message=message,
            thread=thread or threading.current_thread().name,
            sql=sql[:_SQL_LIMIT],
            table=table,
            stack=stack,
            evidence=evidence,
            polluter=polluter,
        )
        with self._lock:
            found.setdefault(key, anomaly)

    def withdraw(self, kind: AnomalyKind, database: str, *same: object) -> None:
        """Forget an observation that something later has shown to be none."""
        with self._lock:
            self._all().pop((kind, database, *same), None)

    def soften(self, note: str, kind: AnomalyKind, database: str, *same: object) -> None:
        """Make an observation mere information, and add why."""
        key = (kind, database, *same)
        with self._lock:
            found = self._all()
            if (known := found.get(key)) is not None and known.severity is not Severity.INFO:
                message = f"{known.message}; {note}"
                found[key] = msgspec.structs.replace(known, severity=Severity.INFO, message=message)


class LaneFindings(Findings):
    """The same for a process in which several threads, its lanes, run a task each.

    What another thread observes, one that a task has started, is nobody's: the next lane to ask
    takes it along.
    """

    def __init__(self) -> None:
        super().__init__()
        self._local = threading.local()

    def enter(self, name: Callable[[], str]) -> None:
        """Make the calling thread a lane; `name` returns what it is at."""
        self._local.name = name
        self._local.found = {}

    @property
    def test(self) -> str:
        """The name of what the calling thread is at; empty in a thread that is no lane."""
        name: Callable[[], str] | None = getattr(self._local, "name", None)
        return "" if name is None else name()

    def _all(self) -> dict[tuple[object, ...], Anomaly]:
        found: dict[tuple[object, ...], Anomaly] | None = getattr(self._local, "found", None)
        return self._found if found is None else found

    def take(self) -> tuple[Anomaly, ...]:
        """Return, and forget, what was found by this lane, and by no lane."""
        own = self._all()
        if not own and not self._found:
            return ()
        with self._lock:
            taken = (*own.values(), *(self._found.values() if own is not self._found else ()))
            own.clear()
            self._found.clear()
        return taken
