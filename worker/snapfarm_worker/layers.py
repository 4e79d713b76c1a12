"""What a ring goes back to: the golden state, or a layer that was put on top of it.

A layer is a whole image, not a difference: going back to it costs what going back to the golden
state costs, and it takes as much memory. Layers stand on each other; the top one is the baseline.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from snapfarm_worker.copies import Changes
from snapfarm_worker.courier import CopyCourier, Courier, open_private
from snapfarm_worker.errors import RingError
from snapfarm_worker.ringkind import RingKind, check_size
from snapfarm_worker.snapshot import BASE, Manifest, Snapshot, take

if TYPE_CHECKING:
    from typing import Self

    from snapfarm_worker.members import Member, RingConnection
    from snapfarm_worker.sentinel import Sentinel

#: How long, in seconds, a layer waits for whoever writes: mostly that is the fixture itself.
_PATIENCE = 0.25


class Layer:
    """A state that a ring can go back to; below it, perhaps, lies another one."""

    def __init__(
        self,
        name: str,
        database: str,
        *,
        courier: Courier | None = None,
        image: bytes | bytearray | None = None,
        manifest: Manifest | None = None,
    ) -> None:
        """With a courier for a shared database, with an image where each connection has its own.

        A state that nobody goes back to has neither, but then it has a manifest.
        """
        self.name = name
        self.database = database
        self.courier = courier
        self.image = image
        self._manifest = manifest

    @classmethod
    def of(cls, snapshot: Snapshot, kind: RingKind) -> Self:
        """Return the layer of a verified snapshot."""
        manifest = snapshot.manifest
        if kind is RingKind.PRIVATE:
            open_private(snapshot.data).close()
            return cls(manifest.layer, manifest.database, image=snapshot.data, manifest=manifest)
        courier = Courier(snapshot)
        return cls(manifest.layer, manifest.database, courier=courier, manifest=manifest)

    @property
    def manifest(self) -> Manifest:
        """What the state holds. For a fixture's layer it is made when it is asked for first."""
        if self._manifest is None:
            self._manifest = self._described()
        return self._manifest

    @property
    def size(self) -> int:
        """Length of its image in bytes, which is about the memory that it takes."""
        if self.courier is not None:
            return self.courier.size
        return len(self.image) if self.image is not None else 0

    def columns(self) -> dict[str, frozenset[str]]:
        """Return the columns of each table in lower case; empty if there is no image."""
        return self.courier.columns() if self.courier is not None else {}

    def keep_no_image(self) -> None:
        """Free the image of a state that nobody goes back to."""
        if self.courier is not None:
            self.courier.close()
        self.courier = None

    def replace(self, other: Layer) -> None:
        """Become what another layer is, which is of no use after that."""
        self.close()
        self.courier, self.image, self._manifest = other.courier, other.image, None

    def close(self) -> None:
        """Free it."""
        self.keep_no_image()
        self.image = None

    def _described(self) -> Manifest:
        if self.courier is not None:
            return self.courier.describe(self.name)
        if self.image is None:
            raise RingError(f"the layer {self.name!r} is gone: ask for its manifest while it lasts")
        conn = open_private(self.image)
        try:
            return take(conn, self.database, layer=self.name).manifest
        finally:
            conn.close()


class Mark:
    """How a ring stood when somebody began who may commit what shall stay."""

    __slots__ = ("changes", "clean", "version")

    def __init__(self, *, clean: bool, version: int, changes: Changes | None = None) -> None:
        #: Whether nothing had been committed since the last reset, or layer.
        self.clean = clean
        #: Changes with each commit; 0 for a private ring.
        self.version = version
        #: What happens to the connections of a private ring.
        self.changes = changes


class LayeredRing(Protocol):
    """What layers need of their ring."""

    database: str
    uri: str
    kind: RingKind

    @property
    def sentinel(self) -> Sentinel | None:
        """None in a private ring, and unless the ring is open."""

    @property
    def lock(self) -> threading.RLock:
        """Held while the database as a whole is touched."""

    def ensure(self) -> None:
        """Restore the ring if it is still waiting."""

    def is_dirty(self) -> bool:
        """Tell whether anything was committed since the last reset."""

    def members(self) -> list[Member]:
        """Return the members whose connection still exists."""


class LayerStack:
    """The layers of one ring, from the golden state up to the baseline."""

    def __init__(self, ring: LayeredRing) -> None:
        self._ring = ring
        self._layers: list[Layer] = []
        #: The golden state, and the declared layers that were used so far, by name.
        self._grounds: dict[str, Layer] = {}
        #: Who wants to know what happens to the copies of a private ring.
        self._watching: list[Changes] = []

    def __iter__(self) -> Iterator[Layer]:
        return iter(tuple(self._layers))

    def begin(self, golden: Layer) -> None:
        """Hold nothing but a golden state from now on."""
        self.close()
        self._layers = [golden]
        self._grounds = {BASE: golden}

    def close(self) -> None:
        """Free all images."""
        for layer in (*self._layers, *self._grounds.values()):
            layer.close()
        self._watching.clear()

    @property
    def golden(self) -> Layer:
        """What lies below all others."""
        return self._grounds[BASE]

    @property
    def ground(self) -> str:
        """The name of the declared layer on which the others stand; BASE for the golden state."""
        return next(name for name, layer in self._grounds.items() if layer is self._layers[0])

    @property
    def top(self) -> Layer:
        """What the ring goes back to."""
        return self._layers[-1]

    @property
    def image(self) -> bytes | bytearray | None:
        """What each new connection of a private ring gets a copy of."""
        return self._layers[-1].image if self._layers else None

    def prepare(self, name: str, load: Callable[[], Snapshot]) -> None:
        """Have a declared layer ready for `stand_on`; `load` is called once, and may raise.

        Raises SnapshotTooLarge as well, and RingError where the ring has no images.
        """
        if name not in self._grounds:
            if self.golden.courier is None and self.golden.image is None:
                raise RingError("the ring was restored with resettable=False: it has no layers")
            snapshot = load()
            check_size(self._ring.kind, snapshot.manifest)
            self._grounds[name] = Layer.of(snapshot, self._ring.kind)

    def stand_on(self, name: str) -> None:
        """Stand on a declared layer that was prepared, with no other layer on top.

        The next reset goes there.
        """
        with self._ring.lock:
            for layer in self._layers[1:]:
                layer.close()
            self._layers = [self._grounds[name]]
            if self._ring.sentinel is not None:
                self._ring.sentinel.outdate()

    def parting(self, conn: RingConnection, member: Member) -> None:
        """A member is about to be closed."""
        for changes in self._watching:
            changes.closing(conn, member)

    @contextmanager
    def watch(self) -> Iterator[Mark]:
        """Note how the ring stands when the context begins, for `add` and `amend` at its end."""
        ring = self._ring
        ring.ensure()
        with ring.lock:
            if (sentinel := ring.sentinel) is not None:
                mark = Mark(clean=not ring.is_dirty(), version=sentinel.last_version)
            else:
                mark = Mark(clean=True, version=0, changes=Changes(ring.members()))
        if mark.changes is not None:
            self._watching.append(mark.changes)
        try:
            yield mark
        finally:
            if mark.changes in self._watching:
                self._watching.remove(mark.changes)

    def add(self, mark: Mark, name: str) -> Layer | None:
        """Put a layer with what was committed since the mark on top; None if nothing was.

        Raises RingError, whose text says why, where a copy would hold more than that, or somebody
        keeps a write transaction open.
        """
        with self._ring.lock:
            layer = self._taken(mark, name)
            if layer is not None:
                self._layers.append(layer)
            return layer

    def amend(self, mark: Mark) -> bool:
        """Let the top layer hold also what was committed since the mark; tell if that was anything.

        Raises RingError as `add` does.
        """
        with self._ring.lock:
            layer = self._taken(mark, self.top.name)
            if layer is not None:
                self.top.replace(layer)
            return layer is not None

    def drop(self, layer: Layer) -> None:
        """Take a layer away; the next reset goes back to what then is on top."""
        with self._ring.lock:
            if layer not in self._layers[1:]:
                return  # the ring was closed meanwhile
            if layer is self.top and self._ring.sentinel is not None:
                self._ring.sentinel.outdate()
            self._layers.remove(layer)
            layer.close()

    def _taken(self, mark: Mark, name: str) -> Layer | None:
        ring = self._ring
        if mark.changes is not None:
            image = mark.changes.taken(ring.members())
            return None if image is None else Layer(name, ring.database, image=image)
        if (sentinel := ring.sentinel) is None:
            raise RingError("the ring was closed")
        if not ring.is_dirty() or sentinel.last_version == mark.version:
            return None
        if not mark.clean:
            raise RingError("something else had been committed before")
        if self.top.courier is None:
            raise RingError("the ring was restored with resettable=False")
        encoding = self.golden.manifest.encoding
        copy = sentinel.settle(encoding, ring.uri, _PATIENCE)
        return Layer(name, ring.database, courier=CopyCourier(copy, ring.database, encoding))
