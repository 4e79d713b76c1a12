"""What the coordinator and the builder process write to each other, as files of one folder."""

from __future__ import annotations

import mmap
import signal
import struct
from pathlib import Path
from typing import Literal

import msgspec

from snapfarm.config_golden import GoldenConfig
from snapfarm_worker.snapshot import Manifest

#: Tells the builder to write the stacks of all its threads. A real-time signal, because programs
#: have uses of their own for the others.
STACKS_SIGNAL = signal.SIGRTMAX


class Shipped(msgspec.Struct, frozen=True):
    """A callable that the builder process can't import: it travels as data made by dill."""

    #: How messages name it.
    title: str
    data: bytes


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """What Python code adds to a configuration when it asks for a golden database itself."""

    #: What it called; messages say this instead of a configuration file.
    call: str
    #: Where its process looks for modules, in order; absolute.
    search: tuple[str, ...]
    #: The callables that travel as data, by the entry of `schema` or `seed` that stands for each.
    shipped: dict[str, Shipped]


class Below(msgspec.Struct, frozen=True, kw_only=True):
    """What a layer is built on, and how the layer is named."""

    #: The layer to build.
    layer: str
    #: Where it is declared, for messages.
    where: str
    #: How messages name what it is built on.
    title: str
    #: The digest of what it is built on.
    digest: str


def subject(golden: GoldenConfig, below: Below | None) -> str:
    """Return how messages name what is built."""
    if below is None:
        return f"golden database {golden.name!r}"
    return f"layer {below.layer!r} of database {golden.name!r}"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the builder is to build; everything that it answers goes into `folder`."""

    root: str
    source: str | None
    golden: GoldenConfig
    folder: str
    coordinator_pid: int
    caller: Caller | None = None
    below: Below | None = None
    #: Further golden databases that this process is to build: Django sets all of its up at once.
    siblings: tuple[GoldenConfig, ...] = ()

    def image_of(self, golden: GoldenConfig) -> Path:
        """Return the file for the bytes of a sibling's snapshot."""
        return Path(self.folder) / f"image-{golden.name}.sqlite"

    @property
    def ground(self) -> Path:
        """The image that a layer is built on."""
        return Path(self.folder) / "ground.sqlite"

    @property
    def image(self) -> Path:
        """The bytes of the snapshot: a file, since they may be gigabytes."""
        return Path(self.folder) / "image.sqlite"

    @property
    def answer(self) -> Path:
        """The answer; it appears last, and whole."""
        return Path(self.folder) / "answer.json"

    @property
    def output(self) -> Path:
        """What the builder and its children print."""
        return Path(self.folder) / "output.txt"

    @property
    def stacks(self) -> Path:
        """Where the builder writes its stacks on STACKS_SIGNAL."""
        return Path(self.folder) / "stacks.txt"

    @property
    def progress(self) -> Path:
        """Where the builder is; see Progress."""
        return Path(self.folder) / "progress"


class Built(msgspec.Struct, frozen=True, tag=True):
    """The database was built and checked."""

    manifest: Manifest
    notes: tuple[str, ...]
    #: The manifests of siblings, in the order in which they were asked for, and their notes.
    siblings: tuple[tuple[Manifest, tuple[str, ...]], ...] = ()


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The database could not be built; `kind` is the class of the error to raise."""

    kind: Literal["build", "check", "config"]
    message: str


Answer = Built | Failed


class Progress:
    """The builder's place in its work, in memory shared through a file.

    It can be read after the builder died, and setting it costs less than running a statement.
    """

    _FORM = struct.Struct("<ii")

    def __init__(self, path: Path, *, create: bool) -> None:
        if create:
            path.write_bytes(self._FORM.pack(-1, 0))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), self._FORM.size)
        self._step = -1

    def starts(self, step: int) -> None:
        """Note that builder number `step` (from 0) starts."""
        self._step = step
        self.reaches(0)

    def reaches(self, line: int) -> None:
        """Note the line of its script that the current builder runs."""
        self._FORM.pack_into(self._memory, 0, self._step, line)

    def read(self) -> tuple[int, int]:
        """Return step and line; step -1 means that no builder has started."""
        step, line = self._FORM.unpack_from(self._memory, 0)
        return int(step), int(line)

    def close(self) -> None:
        """Unmap the memory."""
        self._memory.close()
