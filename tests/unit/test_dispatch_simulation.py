"""Simulated farms: workers that keep the protocol, die at any moment, lose results, come late.

A schedule of bytes decides which of the possible moves happens next, deaths among them; when it
is used up, moves go round and nothing dies any more, so that each farm must come to an end.
"""

from __future__ import annotations

import random
import time
from collections import Counter, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snapfarm.dispatch import (
    Action,
    Closed,
    CollectionsDiffer,
    Dispatcher,
    DistMode,
    End,
    Event,
    Finished,
    GiveUp,
    Item,
    ItemFinished,
    ItemsAdded,
    ItemsReturned,
    ItemStarted,
    Launch,
    Recall,
    ReportCrash,
    Run,
    StopRequested,
    WorkerCollected,
    WorkerEnded,
    WorkerLaunched,
    WorkerLost,
    WorkerReady,
    WorkerStopping,
    affinity_of,
)

Move = tuple[str, str]


class SimWorker:
    """A worker process with the queue of a real one, and what its death would leave behind."""

    def __init__(self, name: str, *, flaky: bool) -> None:
        self.name = name
        self.alive = True
        self.collected = False
        self.ended = False
        self.ending = False
        self.stopping = False
        self.flush = False
        self.keys: deque[str] = deque()
        self.successor: str | None = None
        self.running: str | None = None
        #: What a record that outlives the process says.
        self.finished: list[str] = []
        self.inbox: deque[Action] = deque()
        self.outbox: deque[Event] = deque()
        #: Whether its answers to Recall overtake its other messages.
        self.flaky = flaky

    def can_start(self) -> bool:
        enough = len(self.keys) > 1 or (self.keys and (self.flush or self.ending))
        return bool(enough) and self.running is None and not self.stopping

    def can_end(self) -> bool:
        return self.ending and self.running is None and (self.stopping or not self.keys)

    def obey(self, action: Action) -> None:
        match action:
            case Run(keys=keys, flush=flush):
                if not self.stopping:
                    self.keys.extend(keys)
                self.flush = flush
            case Recall(keys=keys):
                gone = tuple(k for k in self.keys if k in keys and k != self.successor)
                self.keys = deque(k for k in self.keys if k not in gone)
                answer = ItemsReturned(self.name, gone)
                if self.flaky:
                    self.outbox.appendleft(answer)
                else:
                    self.outbox.append(answer)
            case End(drop=drop):
                self.ending = True
                if drop:
                    self.keys.clear()
            case _:
                raise AssertionError(f"{action} is no order to a worker")


class Farm:
    """A dispatcher with simulated workers; every event is followed by the dispatcher's check."""

    def __init__(
        self,
        items: tuple[Item, ...],
        workers: int,
        mode: DistMode,
        *,
        restarts: int | None = None,
        killers: frozenset[str] = frozenset(),
        flaky: bool = False,
        pool: bool = False,
        pinned: int = 2,
    ) -> None:
        self.items = items
        half = len(items) // 2
        #: A pool's units are those of one ItemsAdded.
        self.unit = {
            item.key: (affinity_of(item, mode) or item.key, pool and n >= half)
            for n, item in enumerate(items)
        }
        self.dispatcher = Dispatcher(workers, mode, max_worker_restart=restarts, pinned=pinned)
        self.restarts = 4 * workers if restarts is None else restarts
        self.killers = killers
        self.flaky = flaky
        self.pool = pool
        self.workers: dict[str, SimWorker] = {}
        self.late: deque[Event] = deque()
        self.unlaunched = workers
        self.launches = 0
        self.stopped = False
        self.last: list[Action] = []
        self.differed = 0
        self.outcomes: Counter[str] = Counter()
        self.crashed: list[str] = []
        self.executions: Counter[str] = Counter()
        #: Items that ran when their worker died by chance.
        self.struck: set[str] = set()
        #: Per worker, the units that it ran, each time it went over to another one.
        self.visits: dict[str, list[tuple[str, bool]]] = {}
        self.orders = 0
        if pool:
            self.handle(ItemsAdded(items[:half]))
            self.late.append(ItemsAdded(items[half:]))
            self.late.append(Closed())

    # -------------------------------------------------------------- the shell

    def handle(self, event: Event) -> None:
        match event:
            case ItemFinished(worker=worker, key=key):
                if self.dispatcher.awaits(worker, key):
                    self.outcomes[key] += 1
            case _:
                pass
        actions = self.dispatcher.handle(event, 0.0)
        self.dispatcher.check()
        for action in actions:
            self.orders += 1
            if self.last:
                # A process that was started too late to be told by anything earlier.
                assert isinstance(event, WorkerLaunched)
                assert isinstance(action, End)
            match action:
                case Run(worker=name) | Recall(worker=name) | End(worker=name):
                    self.workers[name].inbox.append(action)
                case Launch():
                    self.unlaunched += 1
                    self.launches += 1
                case ReportCrash(key=key):
                    self.outcomes[key] += 1
                    self.crashed.append(key)
                case CollectionsDiffer():
                    self.differed += 1
                case GiveUp() | Finished():
                    self.last.append(action)

    # -------------------------------------------------------------- moves

    def moves(self) -> list[Move]:
        """Return what can happen next without anything going wrong."""
        found: list[Move] = []
        if self.unlaunched:
            found.append(("launch", ""))
        if self.late:
            found.append(("late", ""))
        for worker in self.workers.values():
            if worker.outbox:
                found.append(("deliver", worker.name))
            if not worker.alive or worker.ended:
                continue
            if worker.inbox:
                found.append(("obey", worker.name))
            if not worker.collected and not worker.ending:
                found.append(("collect", worker.name))
            elif worker.running is not None:
                found.append(("finish", worker.name))
            elif worker.can_start():
                found.append(("start", worker.name))
            elif worker.can_end():
                found.append(("end", worker.name))
        return found

    def faults(self) -> list[Move]:
        """Return what can go wrong next."""
        living = [w for w in self.workers.values() if w.alive and not w.ended]
        return [("die", w.name) for w in living] + [
            ("stopping", w.name)
            for w in living
            if w.collected and w.running is None and not w.stopping
        ]

    def make(self, move: Move) -> None:
        what, name = move
        match what:
            case "launch":
                self.unlaunched -= 1
                new = f"gw{len(self.workers)}"
                self.workers[new] = SimWorker(new, flaky=self.flaky)
                self.handle(WorkerLaunched(new))
            case "late":
                event = self.late.popleft()
                if not (self.dispatcher.closed and isinstance(event, ItemsAdded)):
                    self.handle(event)
            case "stop":
                self.stopped = True
                self.handle(StopRequested("ctrl-c"))
            case _:
                self._make_worker_move(what, self.workers[name])

    def _make_worker_move(self, what: str, worker: SimWorker) -> None:
        match what:
            case "deliver":
                self.handle(worker.outbox.popleft())
            case "obey":
                worker.obey(worker.inbox.popleft())
            case "collect":
                worker.collected = True
                worker.outbox.append(
                    WorkerReady(worker.name)
                    if self.pool
                    else WorkerCollected(worker.name, self.items)
                )
            case "start":
                self._start(worker)
            case "finish":
                assert worker.running is not None
                worker.finished.append(worker.running)
                worker.outbox.append(ItemFinished(worker.name, worker.running))
                worker.running = worker.successor = None
            case "end":
                worker.ended = True
                worker.outbox.append(WorkerEnded(worker.name))
            case "stopping":
                worker.stopping = True
                worker.outbox.append(WorkerStopping(worker.name, "-x", tuple(worker.keys)))
                worker.keys.clear()
            case "die":
                self.die(worker, lost=0)
            case _:
                raise AssertionError(what)

    def _start(self, worker: SimWorker) -> None:
        key = worker.keys.popleft()
        worker.successor = worker.keys[0] if worker.keys else None
        worker.running = key
        self.executions[key] += 1
        unit = self.unit[key]
        for other in self.workers.values():
            if other is not worker and other.alive and not other.ended and not other.stopping:
                assert unit not in self.visits.get(other.name, ()), f"{unit} was split"
        visits = self.visits.setdefault(worker.name, [])
        if not visits or visits[-1] != unit:
            assert unit not in visits, f"{unit} is not contiguous on {worker.name}"
            visits.append(unit)
        worker.outbox.append(ItemStarted(worker.name, key))
        if key in self.killers:
            self.die(worker, lost=1)

    def die(self, worker: SimWorker, lost: int, *, overtaken: bool = False) -> None:
        """End a worker; its `lost` last messages never arrive, or arrive after its death did."""
        worker.alive = False
        if worker.running is not None and worker.running not in self.killers:
            self.struck.add(worker.running)
        kept = max(0, len(worker.outbox) - lost)
        tail = list(worker.outbox)[kept:]
        worker.outbox = deque(list(worker.outbox)[:kept])
        worker.outbox.append(
            WorkerLost(worker.name, worker.running, tuple(worker.finished), "call")
        )
        if overtaken:
            worker.outbox.extend(tail)

    # -------------------------------------------------------------- whole runs

    def run(self, schedule: bytes = b"", *, faulty: bool = True) -> None:
        """Play the schedule, then let everything that can happen happen until nothing can.

        A byte above 235 is a fault: a death that loses up to 3 messages or lets them arrive late,
        or a worker that stops by itself; 255 followed by 255 stops the run.
        """
        before = 0
        for byte in schedule:
            if self.last:
                break
            faults = self.faults() if faulty and byte > 235 else []
            if byte == before == 255 and faulty and not self.stopped:
                self.make(("stop", ""))
            elif faults:
                what, name = faults[before % len(faults)]
                if what == "die":
                    self.die(self.workers[name], lost=byte % 4, overtaken=byte % 8 > 3)
                else:
                    self.make((what, name))
            elif moves := self.moves():
                self.make(moves[byte % len(moves)])
            before = byte
        turn = 0
        while moves := self.moves():
            self.make(moves[turn % len(moves)])
            turn += 1
            assert turn < 500_000, "the farm never ends"

    def assert_sound(self) -> None:
        """Check everything that a finished farm promises."""
        story = self.dispatcher.story()
        assert len(self.last) == 1, f"nothing can happen any more, and it is not over:\n{story}"
        assert self.dispatcher.done
        assert self.launches <= self.restarts
        assert max(self.outcomes.values(), default=0) <= 1, "an item has two outcomes"
        assert set(self.crashed) <= self.killers | self.struck, "an innocent was blamed"
        for killer in self.killers:
            assert self.executions[killer] <= 1, f"{killer} ran again"
        keys = [item.key for item in self.items]
        match self.last[0]:
            case Finished() if not self.stopped:
                assert self.outcomes == Counter(keys)
                assert self.dispatcher.unrun == ()
            case GiveUp(unrun=unrun) if not self.pool:
                # Without a collection nothing is known that could be unrun.
                known = keys if self.dispatcher.total else []
                assert [key for key in known if not self.outcomes[key]] == list(unrun)
            case _:
                assert set(self.dispatcher.unrun).isdisjoint(self.outcomes)


# ---------------------------------------------------------------------------- inputs


@st.composite
def suites(draw: st.DrawFn) -> tuple[Item, ...]:
    """Return up to 5 files of up to 2 classes of up to 8 items, some of them in groups."""
    items: list[Item] = []
    for file in range(draw(st.integers(1, 5))):
        for cls in range(draw(st.integers(1, 2))):
            for test in range(draw(st.integers(0, 8))):
                group = draw(st.sampled_from(["", "", "g1", "g2"]))
                items.append(Item(f"f{file}.py::C{cls}::test_{test}[a::b]", group))
    return tuple(items)


@st.composite
def farms(draw: st.DrawFn, *, deaths: bool) -> Farm:
    """Return a farm of 1-4 workers; with `deaths`, some items kill their worker."""
    items = draw(suites())
    keys = [item.key for item in items]
    killers = draw(st.sets(st.sampled_from(keys), max_size=4)) if deaths and keys else set()
    return Farm(
        items,
        draw(st.integers(1, 4)),
        draw(st.sampled_from(DistMode)),
        restarts=draw(st.sampled_from([None, 0, 1, 5, 100])) if deaths else None,
        killers=frozenset(killers),
        flaky=draw(st.booleans()),
        pool=draw(st.booleans()),
        pinned=draw(st.sampled_from([2, 2, 1, 3])),
    )


#: Reproducible, and independent of how busy the machine is.
SETTINGS = settings(max_examples=150, deadline=None, derandomize=True, database=None)


@SETTINGS
@given(farms(deaths=False), st.binary(max_size=300))
def test_a_farm_without_deaths_finishes_every_item_once(farm: Farm, schedule: bytes) -> None:
    farm.run(schedule, faulty=False)
    farm.assert_sound()
    assert isinstance(farm.last[0], Finished)
    assert farm.outcomes == Counter(item.key for item in farm.items)
    assert farm.executions == farm.outcomes
    assert farm.launches == 0
    assert farm.dispatcher.oddities == {}


@SETTINGS
@given(farms(deaths=True), st.binary(max_size=400))
def test_whatever_dies_each_item_has_one_outcome(farm: Farm, schedule: bytes) -> None:
    farm.run(schedule)
    farm.assert_sound()


@SETTINGS
@given(
    suites(),
    st.integers(1, 4),
    st.sampled_from(DistMode),
    st.binary(max_size=300).map(lambda data: bytes(byte % 236 for byte in data)),
    st.data(),
)
def test_items_that_kill_cost_exactly_themselves(
    items: tuple[Item, ...], workers: int, mode: DistMode, schedule: bytes, data: st.DataObject
) -> None:
    keys = [item.key for item in items]
    killers = data.draw(st.sets(st.sampled_from(keys), max_size=6)) if keys else set()
    farm = Farm(items, workers, mode, restarts=100, killers=frozenset(killers))
    farm.run(schedule)
    farm.assert_sound()
    assert isinstance(farm.last[0], Finished)
    assert set(farm.crashed) == killers
    assert farm.outcomes == Counter(keys)


@pytest.mark.parametrize("mode", list(DistMode))
@pytest.mark.parametrize("seed", range(2))
def test_long_runs_with_many_deaths(mode: DistMode, seed: int) -> None:
    chance = random.Random(seed)
    items = tuple(
        Item(f"f{n // 30}.py::C{n // 10}::test_{n}", chance.choice(["", "a", "b"]))
        for n in range(300)
    )
    killers = frozenset(item.key for item in chance.sample(items, 12))
    farm = Farm(items, 5, mode, restarts=200, killers=killers, flaky=seed % 2 == 0)
    schedule = bytes(
        chance.randrange(236) if chance.random() > 0.01 else chance.randrange(236, 255)
        for _ in range(3000)
    )
    farm.run(schedule)
    farm.assert_sound()


@pytest.mark.parametrize("mode", list(DistMode))
def test_ten_thousand_items_cost_little(mode: DistMode) -> None:
    """The bound is generous; on an idle machine this takes a fraction of a second."""
    items = tuple(Item(f"f{n // 50}.py::C{n // 10}::test_{n}") for n in range(10_000))
    workers = [f"gw{n}" for n in range(8)]
    dispatcher = Dispatcher(8, mode)
    held: dict[str, deque[str]] = {name: deque() for name in workers}
    ended: list[str] = []
    orders = 0
    spent = 0.0

    def handle(event: Event) -> None:
        nonlocal orders, spent
        began = time.process_time()
        actions = dispatcher.handle(event, 0.0)
        spent += time.process_time() - began
        for action in actions:
            orders += 1
            match action:
                case Run(worker=name, keys=keys):
                    held[name].extend(keys)
                case Recall(worker=name, keys=keys):
                    gone = tuple(key for key in list(held[name])[2:] if key in frozenset(keys))
                    held[name] = deque(key for key in held[name] if key not in frozenset(gone))
                    handle(ItemsReturned(name, gone))
                case End(worker=name):
                    ended.append(name)
                case _:
                    assert isinstance(action, Finished)

    for name in workers:
        handle(WorkerLaunched(name))
    for name in workers:
        handle(WorkerCollected(name, items))
    while dispatcher.pending:
        for turn, name in enumerate(workers):
            for _ in range(1 + turn % 3):
                if held[name]:
                    key = held[name].popleft()
                    handle(ItemStarted(name, key))
                    handle(ItemFinished(name, key))
    for name in ended:
        handle(WorkerEnded(name))
    assert dispatcher.done
    assert dispatcher.total == 10_000
    assert orders < 2_000
    assert spent < 2.5
