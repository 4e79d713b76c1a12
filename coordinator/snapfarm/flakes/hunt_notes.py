"""Writes the rounds of a hunt into the history, so that its failures can be replayed."""

from __future__ import annotations

import json
import platform
import sqlite3
import sys
import time
import uuid
from collections import Counter

import click
import msgspec

from snapfarm.config import FarmConfig
from snapfarm.flakes.diagnosis import Suite
from snapfarm.flakes.history import Attempt, HistoryError, Run, open_or_set_aside
from snapfarm.flakes.hunt import Round
from snapfarm.flakes.signature import Signature


class HuntNotes:
    """One hunt in the history; a history that can't be written is a warning."""

    def __init__(self, config: FarmConfig, suite: Suite) -> None:
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
        self._history = None
        if config.history == "off":
            return
        try:
            self._history, warning = open_or_set_aside(config.history_path)
            self._history.begin(self._run)
        except HistoryError as error:
            self._give_up(error)
        else:
            if warning:
                click.echo(f"farm: note: {warning}", err=True)

    def add(self, found: Round) -> None:
        """Write a round: each of its processes is a worker of its own."""
        if self._history is None:
            return
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
                        seed=str(found.seed),
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
            self._history.begin(msgspec.structs.replace(self._run, finished=time.time()))
        except HistoryError as error:
            self._give_up(error)
        if self._history is not None:
            self._history.close()

    def _give_up(self, error: HistoryError) -> None:
        click.echo(f"farm: note: the history is not kept: {error}", err=True)
        self._history = None
