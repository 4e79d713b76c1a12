"""The anomalies of the present test, each kind of observation once with its count."""

from __future__ import annotations

import threading

import msgspec

from snapfarm_worker.anomaly import Anomaly, AnomalyKind, Severity
from snapfarm_worker.stacks import callers, shown

_SQL_LIMIT = 2000


class Findings:
    """Collects anomalies from all threads."""

    def __init__(self) -> None:
        #: Node id of the test that runs; empty between tests.
        self.test = ""
        self._found: dict[tuple[object, ...], Anomaly] = {}
        self._lock = threading.Lock()

    def begin(self, test: str) -> None:
        """Start with nothing for a test."""
        with self._lock:
            self._found.clear()
        self.test = test

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
    ) -> None:
        """Add an observation; one of the same kind, database and `same` is counted, not added.

        Without a `stack`, it is the caller's.
        """
        key = (kind, database, *same)
        with self._lock:
            known = self._found.get(key)
            if known is not None:
                self._found[key] = msgspec.structs.replace(known, count=known.count + 1)
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
        )
        with self._lock:
            self._found.setdefault(key, anomaly)
