"""Scenarios: numbered steps of event -> actions, played on a new dispatcher.

Items are single letters, or `file::letter` where affinity matters; workers are gw0, gw1, …
"""

from __future__ import annotations

from dataclasses import dataclass, field

from snapfarm.dispatch import (
    Action,
    Dispatcher,
    DistMode,
    Event,
    Finished,
    GiveUp,
    Item,
    ItemFinished,
    ItemStarted,
    Run,
    WorkerCollected,
    WorkerLaunched,
)

Step = tuple[Event, list[Action]]


@dataclass(frozen=True)
class Scenario:
    """A farm, and what happens in it; `unrun` are the items that have no outcome at the end."""

    title: str
    workers: int
    steps: list[Step]
    mode: DistMode = DistMode.LOAD
    max_worker_restart: int | None = None
    unrun: str = ""
    oddities: dict[str, int] = field(default_factory=dict)


def up(worker: str) -> Event:
    """A worker was launched."""
    return WorkerLaunched(worker)


def has(worker: str, keys: str) -> Event:
    """A worker's collection; its items are separated by blanks."""
    return WorkerCollected(worker, tuple(Item(key) for key in keys.split()))


def began(worker: str, key: str) -> Event:
    """A worker began an item."""
    return ItemStarted(worker, key)


def did(worker: str, key: str) -> Event:
    """A worker finished an item."""
    return ItemFinished(worker, key)


def run(worker: str, keys: str, *, flush: bool = False) -> Action:
    """An order to run items, separated by blanks."""
    return Run(worker, tuple(keys.split()), flush)


def play(scenario: Scenario) -> None:
    """Tell a new dispatcher what happens, and compare its answers with those of the scenario."""
    dispatcher = Dispatcher(
        scenario.workers, scenario.mode, max_worker_restart=scenario.max_worker_restart
    )
    for number, (event, expected) in enumerate(scenario.steps, start=1):
        actions = dispatcher.handle(event, float(number))
        assert actions == expected, f"step {number}, {event}: {actions}, not {expected}"
        dispatcher.check()
    assert dispatcher.unrun == tuple(scenario.unrun.split())
    assert dispatcher.oddities == scenario.oddities
    ends = {type(actions[-1]) for _, actions in scenario.steps if actions}
    assert dispatcher.done == bool(ends & {Finished, GiveUp})
