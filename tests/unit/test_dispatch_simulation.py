"""Simulated farms: workers that die at any moment, lose results, come late, in every mode."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snapfarm.dispatch import (
    Dispatcher,
    DistMode,
    End,
    Event,
    Finished,
    Item,
    ItemFinished,
    ItemsReturned,
    ItemStarted,
    Recall,
    Run,
    WorkerCollected,
    WorkerEnded,
    WorkerLaunched,
    affinity_of,
)
from snapfarm.dispatch.lanes import Lanes
from snapfarm.dispatch.ledger import Unit
from snapfarm_worker.turns import Turn
from support.dispatch_farm import Clockwork, Farm

# ---------------------------------------------------------------------------- inputs


@st.composite
def suites(draw: st.DrawFn) -> tuple[Item, ...]:
    """Return up to 5 files of up to 2 classes of up to 8 items, some in groups or on layers."""
    layers = st.sampled_from(draw(st.sampled_from([("",), ("", "a", "b")])))
    items: list[Item] = []
    for file in range(draw(st.integers(1, 5))):
        for cls in range(draw(st.integers(1, 2))):
            for test in range(draw(st.integers(0, 8))):
                group = draw(st.sampled_from(["", "", "g1", "g2"]))
                key = f"f{file}.py::C{cls}::test_{test}[a::b]"
                items.append(Item(key, group, draw(layers)))
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
@given(farms(deaths=False), st.data(), st.binary(max_size=300))
def test_what_fails_once_runs_twice_and_has_one_outcome(
    farm: Farm, data: st.DataObject, schedule: bytes
) -> None:
    keys = [item.key for item in farm.items]
    if keys:
        farm.failers = data.draw(st.frozensets(st.sampled_from(keys), max_size=6))
    farm.run(schedule, faulty=False)
    assert isinstance(farm.last[0], Finished)
    assert farm.outcomes == Counter(keys)
    assert farm.executions == Counter(keys) + Counter(farm.failers)


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
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_two_killers_in_three_files(mode: DistMode, workers: int) -> None:
    """24 items in 3 files, two of which kill their worker: 22 pass and 2 crash in every mode."""
    items = tuple(Item(f"test_{file}.py::test_{n}", f"g{file}") for file in "abc" for n in range(8))
    killers = frozenset({"test_a.py::test_3", "test_b.py::test_5"})
    farm = Farm(items, workers, mode, killers=killers)
    farm.run()
    farm.assert_sound()
    assert isinstance(farm.last[0], Finished)
    assert set(farm.crashed) == killers
    assert sum(farm.executions.values()) == 24


@SETTINGS
@given(
    st.tuples(*[st.integers(0, 30)] * 3),
    st.integers(2, 4),
    st.lists(st.sampled_from([0.1, 0.1, 0.1, 1.0, 30.0]), min_size=90, max_size=90),
)
def test_no_worker_is_given_an_early_item_after_a_late_one(
    counts: tuple[int, int, int], workers: int, lengths: list[float]
) -> None:
    """Even where one is still busy with the first items when the others have done the last."""
    items = [
        (f"{turn.name}[{n}]", turn)
        for turn, count in zip((Turn.EARLY, Turn.LATE, Turn.ANY), counts, strict=True)
        for n in range(count)
    ]
    seconds = {key: length for (key, _), length in zip(items, lengths, strict=False)}
    clockwork = Clockwork(seconds, workers, DistMode.LOAD, turns=dict(items))
    clockwork.makespan()
    assert sum(map(len, clockwork.ran.values())) == len(items)
    for ran in clockwork.ran.values():
        ordered = [key for key in ran if not key.startswith("ANY")]
        assert ordered == sorted(ordered, key=lambda key: key.startswith("LATE")), ran


def test_what_may_run_anywhere_is_still_taken_from_a_busy_worker() -> None:
    seconds = {f"EARLY[{n}]": 10.0 if n == 0 else 1.0 for n in range(8)}
    seconds |= {"LATE": 1.0} | {f"ANY[{n}]": 1.0 for n in range(31)}
    turns = {key: Turn[key.partition("[")[0]] for key in seconds}
    limit = sum(seconds.values()) / 2 + 2
    assert Clockwork(seconds, 2, DistMode.LOAD, turns=turns).makespan() <= limit


@pytest.mark.parametrize("mode", list(DistMode))
@pytest.mark.parametrize("seed", range(5))
def test_all_workers_end_about_together(mode: DistMode, seed: int) -> None:
    """None has more to do, once the others are idle, than a running unit and its successor."""
    chance = random.Random(seed)
    seconds = {
        f"f{n // 6}.py::test_{n}": chance.choice([0.1, 1.0, 1.0, 20.0 if seed else 1.0])
        for n in range(240)
    }
    units: dict[str, float] = {}
    for key, length in seconds.items():
        unit = affinity_of(Item(key), mode) or key
        units[unit] = units.get(unit, 0.0) + length
    best = sum(seconds.values()) / 4
    assert Clockwork(seconds, 4, mode).makespan() <= best + 2 * max(units.values())
    # Layers are no reason to leave anybody idle: a worker goes where there is something to do.
    layers = {key: chance.choice(["", "a", "b", "c", "d"]) for key in seconds}
    assert Clockwork(seconds, 4, mode, layers).makespan() <= best + 2 * max(units.values())


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
@pytest.mark.parametrize("seed", range(3))
def test_tests_of_one_layer_stay_together(workers: int, seed: int) -> None:
    """However they are mixed in the collection, few workers need a layer, and they need it once."""
    chance = random.Random(seed)
    names = ["", "reference", "orders", "returns", "archive", "audit"]
    layers = {f"f{n // 6}.py::test_{n}": chance.choice(names) for n in range(240)}
    seconds = {key: chance.choice([0.5, 1.0, 1.5]) for key in layers}
    farm = Clockwork(seconds, workers, DistMode.LOAD, layers)
    farm.makespan()
    ran = {name: [layers[key] for key in keys] for name, keys in farm.ran.items()}
    changes = sum(
        sum(before != after for before, after in itertools.pairwise(each)) for each in ran.values()
    )
    needed = sum(len(set(each)) for each in ran.values())
    # The least that is possible is one for each layer, or for each worker. Those who have nothing
    # left share what others still have: two more for each worker at most.
    assert max(len(names), workers) <= needed <= len(names) + 2 * (workers - 1)
    assert changes <= len(names) - 1 + 3 * (workers - 1)


def test_a_lane_of_its_own_for_each_layer() -> None:
    lanes = Lanes()
    units = {key: Unit([key], key[0]) for key in ["a1", "b1", "a2", "b2", "b3", "a3"]}
    for unit in units.values():
        lanes.append(unit)
    standing: Counter[str] = Counter(a=1)

    def taken(count: int, stands: str | None) -> list[str]:
        return [key for unit in lanes.take(count, stands, lambda: standing) for key in unit.items]

    # Never of two lanes at once, and of its own as long as there is something.
    assert taken(2, "a") == ["a1", "a2"]
    assert taken(5, "a") == ["a3"]
    assert taken(1, "a") == ["b1"]
    lanes.put_back([units["a2"], units["b1"], units["a3"]])
    assert len(lanes) == len(list(lanes)) == 5
    # a has two for each of two workers that will stand there, b three for one.
    assert taken(1, None) == ["b1"]
    assert taken(9, "c") == ["b2", "b3"]
    assert taken(9, "b") == ["a2", "a3"]
    assert not lanes


@pytest.mark.parametrize("mode", list(DistMode))
@pytest.mark.parametrize("seed", range(2))
def test_long_runs_with_many_deaths(mode: DistMode, seed: int) -> None:
    chance = random.Random(seed)
    items = tuple(
        Item(
            f"f{n // 30}.py::C{n // 10}::test_{n}",
            chance.choice(["", "a", "b"]),
            chance.choice(["", "x", "y"]),
        )
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
    items = tuple(
        Item(f"f{n // 50}.py::C{n // 10}::test_{n}", layer=f"layer {n % 7}") for n in range(10_000)
    )
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
