"""Writes the rounds of a hunt into the history, so that its failures can be replayed."""

from __future__ import annotations

import json
import platform
import sqlite3
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable

import msgspec

from snapfarm.config import FarmConfig
from snapfarm.flakes.diagnosis import Suite
from snapfarm.flakes.history import Attempt, History, HistoryError, Run, open_or_set_aside
from snapfarm.flakes.rounds import Round
from snapfarm.flakes.signature import Signature


class HuntNotes:
    """One hunt in the history; a history that can't be written is a warning."""

    def __init__(
        self, config: FarmConfig, suite: Suite, *, keep: bool, warn: Callable[[str], None]
    ) -> None:
        self._warn = warn
        self._run = Run(
            id=uuid.uuid4().hex,
            source="hunt",
            started=time.time(),
            host=platform.node(),
            python=sys.version.split()[0],
            sqlite=sqlite3.sqlite_version,
            ring=config.ring,
            arguments=json.dumps(suite.arguments),
            directory=str(suite.directory),
        )
        self._count = 0
        self._history: History | None = None
        self._kept = False
        #: Digests of the golden databases, once a round has met them.
        self._golden: dict[str, str] = {}
        if config.history == "off" or not keep:
            return
        try:
            self._history, warning = open_or_set_aside(config.history_path)
            self._history.begin(self._run)
            self._kept = True
        except HistoryError as error:
            self._give_up(error)
        else:
            if warning:
                warn(warning)

    @property
    def run_id(self) -> str:
        """The id of the hunt in the history; "" where it is not kept."""
        return self._run.id if self._kept else ""

    def add(self, found: Round) -> None:
        """Write a round: each of its processes is a worker of its own."""
        if self._history is None:
            return
        for process in found.processes:
            for ran in process:
                self._golden.update(ran.golden)
        attempts = []
        tries: Counter[str] = Counter()
        for number, process in enumerate(found.processes):
            for position, ran in enumerate(process):
                signature = ran.signature or Signature("")
                tries[ran.test] += 1
                attempts.append(
                    Attempt(
                        id=f"{self._run.id}-{self._count}",
                        run=self._run.id,
                        test=ran.test,
                        attempt=tries[ran.test],
                        worker=f"{found.number + 1}.{number}",
                        position=position,
                        ended=time.time(),
                        seconds=ran.seconds,
                        outcome=ran.outcome,
                        exception=signature.exception,
                        message=signature.message,
                        frame=signature.frame,
                        anomalies=" ".join(sorted(ran.anomalies)),
                        written=" ".join(ran.written),
                        tables="\n".join(ran.tables),
                        seed=str(found.circumstances),
                    )
                )
                self._count += 1
        try:
            self._history.add(attempts)
        except HistoryError as error:
            self._give_up(error)

    def close(self) -> None:
        """Write that the hunt has ended."""
        if self._history is None:
            return
        try:
            golden = json.dumps(self._golden, sort_keys=True)
            ended = msgspec.structs.replace(self._run, finished=time.time(), golden=golden)
            self._history.begin(ended)
        except HistoryError as error:
            self._give_up(error)
        if self._history is not None:
            self._history.close()

    def _give_up(self, error: HistoryError) -> None:
        self._warn(f"the history is not kept: {error}")
        self._history = None
        self._kept = False
