"""Fixtures that outlive a test: what one of them commits becomes a layer of the ring.

set up        committed something, on top of the baseline     a layer, for as long as it lives
              committed nothing                               nothing
              raised                                          nothing; the reset takes it all back
              something else had been committed before        no layer: the two can't be told apart
              keeps a write transaction open                  no layer: nobody can copy the database
torn down     its layer is on top                             dropped; the next reset goes further
              another fixture's is on top, which lives on     what the tear-down commits goes there

A fixture without a layer loses what it committed with the next reset; that is told if it happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from snapfarm_worker.errors import RingError
from snapfarm_worker.layers import Layer, Mark
from snapfarm_worker.ring import ResetPolicy, Ring


class Missing:
    """What a fixture committed to a ring, and is in no layer of its own."""

    def __init__(self, fixture: str, ring: Ring, reason: str) -> None:
        self.fixture = fixture
        self.ring = ring
        self.reason = reason
        #: The layer of another fixture that holds it, as long as there is one.
        self.covered: Layer | None = None

    def __str__(self) -> str:
        return (
            f"what the {self.fixture} committed to database {self.ring.database!r} was taken back "
            f"by a reset, though the fixture is still in use: it could not become a layer, because "
            f"{self.reason}; let the test name the fixture as an argument, so that it is set up "
            f"before anything else commits, and commit before the fixture yields or returns"
        )


class WideFixture:
    """A fixture of class, module, package or session scope, from its setup to its end."""

    def __init__(self, title: str) -> None:
        #: How messages name it.
        self.title = title
        #: Tears it down, so that it is set up again when somebody asks for it.
        self.finish: Callable[[], object] = _nothing
        #: What it added.
        self.layers: list[tuple[Ring, Layer]] = []
        self.missing: list[Missing] = []
        #: Rings on which nothing happened since its layer was taken, as its tear-down began.
        self.idle: list[Ring] = []
        #: How rings with another layer on top stood as its tear-down began.
        self.marks: dict[Ring, Mark] = {}
        #: Ends when the tear-down does.
        self.watch = ExitStack()

    @property
    def committed(self) -> bool:
        """Whether its tear-down has to be looked at."""
        return bool(self.layers or self.missing)


class WideFixtures:
    """All fixtures of wider scope, and the layers that they have added."""

    def __init__(self, rings: Mapping[str, Ring], reset: Callable[[Ring], object]) -> None:
        """`reset` brings a ring back before its time, observed like any other reset."""
        self._rings = rings
        self._reset = reset
        self._missing: list[Missing] = []
        #: Those that have committed and live, in the order in which they were set up.
        self._alive: list[WideFixture] = []
        #: The rings that are reset after the present test, once its tear-down has begun.
        self.ending: frozenset[Ring] | None = None
        #: The policy of each ring in the present test.
        self.policies: Mapping[str, ResetPolicy] = {}

    @contextmanager
    def set_up(self, fixture: WideFixture) -> Iterator[None]:
        """Set a fixture up within this context; it gets its layers at the end, unless it raises."""
        known = list(self._missing)
        with ExitStack() as stack:
            marks = {
                ring: stack.enter_context(ring.layers.watch())
                for ring in self._rings.values()
                if ring.is_open
            }
            yield
            for ring, mark in marks.items():
                if ring.is_open:
                    self._add(fixture, ring, mark, known)
        if fixture.committed:
            self._alive.append(fixture)

    def _add(self, fixture: WideFixture, ring: Ring, mark: Mark, known: list[Missing]) -> None:
        try:
            layer = ring.layers.add(mark, fixture.title)
        except RingError as error:
            missing = Missing(fixture.title, ring, str(error))
            fixture.missing.append(missing)
            self._missing.append(missing)
            return
        if layer is not None:
            fixture.layers.append((ring, layer))
            # What was set up within, too late for a layer of its own, is in this one.
            for missing in self._missing:
                if missing not in known and missing.ring is ring and missing.covered is None:
                    missing.covered = layer

    def begin_teardown(self, fixture: WideFixture) -> None:
        """A fixture is about to be torn down."""
        for ring, layer in fixture.layers:
            if not ring.is_open:
                continue
            if layer is not ring.layers.top:
                if self.ending is not None and ring in self.ending:
                    # It is the test's end: what the test left must not get into a layer.
                    self._reset(ring)
                fixture.marks[ring] = fixture.watch.enter_context(ring.layers.watch())
            elif self.ending is None and not ring.is_dirty() and ring.is_free():
                fixture.idle.append(ring)

    def end_teardown(self, fixture: WideFixture) -> list[str]:
        """A fixture was torn down; return what should be told."""
        told = []
        if fixture in self._alive:
            self._alive.remove(fixture)
        for ring, layer in fixture.layers:
            mark = fixture.marks.get(ring)
            amended = mark is not None and _amended(ring, mark)
            above = ring.layers.top if ring.is_open else layer
            ring.layers.drop(layer)
            for missing in self._missing:
                if missing.covered is layer:
                    missing.covered = None
            if above is not layer and not amended:
                told.append(
                    f"what the {layer.name} committed to database {ring.database!r} stays there as "
                    f"long as the {above.name} lives, which was set up on top of it: let the one "
                    "request the other, or delete in the tear-down what was committed"
                )
            # In the middle of a run of tests a fixture ends for the sake of its next parameter.
            if ring in fixture.idle and self.policies.get(ring.database) is ResetPolicy.TEST:
                ring.reset()
        fixture.watch.close()
        self._missing = [each for each in self._missing if each not in fixture.missing]
        return told

    def finish(self, ring: Ring) -> list[BaseException]:
        """Tear down all that have committed to a ring, the last first; return what they raise."""
        errors: list[BaseException] = []
        for fixture in self._alive[::-1]:
            held = [one for one, _ in fixture.layers] + [each.ring for each in fixture.missing]
            # Tearing down one may tear down others, which depend on it.
            if ring in held and fixture in self._alive:
                try:
                    fixture.finish()
                except BaseException as error:
                    errors.append(error)
        return errors

    def taken_back(self, ring: Ring) -> list[str]:
        """A ring was reset that was not clean: return what fixtures have lost."""
        lost = [each for each in self._missing if each.ring is ring and each.covered is None]
        if not lost:
            return []
        self._missing = [each for each in self._missing if each not in lost]
        return [str(each) for each in lost]


def _nothing() -> None:
    """Nobody can tear it down before its time."""


def _amended(ring: Ring, mark: Mark) -> bool:
    try:
        return ring.is_open and ring.layers.amend(mark)
    except RingError:
        return False
