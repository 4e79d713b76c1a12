"""Simulated farms around a real dispatcher.

The workers keep the protocol as real ones do. In a `Farm` a schedule of bytes decides which of the
possible moves happens next, deaths, lost results and late messages among them; when it is used
up, moves go round and nothing dies any more, so that each farm must come to an end. In a
`Clockwork` time passes, and nothing goes wrong.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque

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
from snapfarm_worker.turns import Turn

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
        failers: frozenset[str] = frozenset(),
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
        #: Items that fail the first time that they end, and run again.
        self.failers = failers
        self.failed: set[str] = set()
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
            case ItemFinished(worker=worker, key=key, again=again):
                if self.dispatcher.awaits(worker, key):
                    self.outcomes[key] += not again or self.dispatcher.stop_reason is not None
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
                again = worker.running in self.failers - self.failed
                if again:
                    self.failed.add(worker.running)
                else:
                    worker.finished.append(worker.running)
                worker.outbox.append(ItemFinished(worker.name, worker.running, again))
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
        if key not in self.failed:
            self._check_visit(worker, self.unit[key])
        worker.outbox.append(ItemStarted(worker.name, key))
        if key in self.killers:
            self.die(worker, lost=1)

    def _check_visit(self, worker: SimWorker, unit: tuple[str, bool]) -> None:
        """Require that a unit is on one worker, without another one in between; reruns apart."""
        for other in self.workers.values():
            if other is not worker and other.alive and not other.ended and not other.stopping:
                assert unit not in self.visits.get(other.name, ()), f"{unit} was split"
        visits = self.visits.setdefault(worker.name, [])
        if not visits or visits[-1] != unit:
            assert unit not in visits, f"{unit} is not contiguous on {worker.name}"
            visits.append(unit)

    def die(self, worker: SimWorker, lost: int, *, overtaken: bool = False) -> None:
        """End a worker; its `lost` last messages never arrive, or arrive after its death did."""
        worker.alive = False
        if worker.running is not None and worker.running not in self.killers:
            self.struck.add(worker.running)
        kept = max(0, len(worker.outbox) - lost)
        tail = list(worker.outbox)[kept:]
        worker.outbox = deque(list(worker.outbox)[:kept])
        worker.outbox.append(
            WorkerLost(
                worker.name,
                () if worker.running is None else (worker.running,),
                tuple(worker.finished),
                "call",
            )
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


class Clockwork:
    """A farm in which time passes: each item takes its seconds, messages take none."""

    def __init__(
        self,
        seconds: dict[str, float],
        workers: int,
        mode: DistMode,
        layers: dict[str, str] | None = None,
        turns: dict[str, Turn] | None = None,
    ) -> None:
        self.seconds = seconds
        self.layers = layers or {}
        self.turns = turns or {}
        #: The items that each worker ran, in order.
        self.ran: dict[str, list[str]] = {f"gw{n}": [] for n in range(workers)}
        self.dispatcher = Dispatcher(workers, mode)
        self.workers = {f"gw{n}": SimWorker(f"gw{n}", flaky=False) for n in range(workers)}
        #: When each running item ends.
        self.ends: list[tuple[float, str]] = []
        self.now = 0.0

    def handle(self, event: Event) -> None:
        for action in self.dispatcher.handle(event, self.now):
            match action:
                case Run(worker=name) | Recall(worker=name) | End(worker=name):
                    self.workers[name].obey(action)
                case _:
                    raise AssertionError(action)

    def settle(self) -> None:
        """Let every worker that can begin an item do so, until nothing changes any more."""
        waiting = True
        while waiting:
            waiting = False
            for worker in self.workers.values():
                while worker.outbox:
                    waiting = True
                    self.handle(worker.outbox.popleft())
                if worker.can_start():
                    waiting = True
                    worker.running = worker.keys.popleft()
                    worker.successor = worker.keys[0] if worker.keys else None
                    self.ran[worker.name].append(worker.running)
                    heapq.heappush(
                        self.ends, (self.now + self.seconds[worker.running], worker.name)
                    )
                    self.handle(ItemStarted(worker.name, worker.running))

    def makespan(self) -> float:
        """Return when the last item ends."""
        items = tuple(
            Item(key, layer=self.layers.get(key, ""), turn=self.turns.get(key, Turn.ANY))
            for key in self.seconds
        )
        for name in self.workers:
            self.handle(WorkerLaunched(name))
        for name in self.workers:
            self.handle(WorkerCollected(name, items))
        self.settle()
        while self.ends:
            self.now, name = heapq.heappop(self.ends)
            worker = self.workers[name]
            assert worker.running is not None
            key, worker.running, worker.successor = worker.running, None, None
            self.handle(ItemFinished(name, key))
            self.settle()
        assert self.dispatcher.pending == 0
        return self.now
