"""Build a golden database in a process of its own, so that the coordinator stays clean.

User code may import what it likes, leave threads behind, fork, crash or hang: the builder is a
process group, and all of it is gone when `build` returns or raises.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import multiprocess
import multiprocess.connection

import snapfarm
from snapfarm.config import FarmConfig
from snapfarm.config_golden import GoldenConfig
from snapfarm.errors import GoldenBuildError, GoldenError, GoldenTimeout
from snapfarm.golden import child
from snapfarm.golden.builders import builders_of
from snapfarm.golden.order import (
    STACKS_SIGNAL,
    Answer,
    Below,
    Caller,
    Failed,
    Order,
    Progress,
    subject,
)
from snapfarm.launch.spawning import without_main
from snapfarm_worker.errors import SnapshotError
from snapfarm_worker.snapshot import Manifest, Snapshot

#: Longest sleep between two looks at the builder. Its sentinel normally wakes us at once, but a
#: process that the builder forked may hold it open.
_LOOK_EVERY = 0.05

#: Seconds that a builder which ran out of time gets to write its stacks.
_STACKS_WITHIN = 1.0

#: Last lines of the builder's output that go into an error.
_OUTPUT_LINES = 10
_OUTPUT_BYTES = 16 * 1024

#: Frames of these folders are the way into the builder, not what it does.
_OWN_FOLDERS = (Path(snapfarm.__file__).parent, Path(multiprocess.__file__).parent)


class _Process(Protocol):
    """What is used of `multiprocess.Process`, which has no types of its own."""

    pid: int
    sentinel: int
    exitcode: int | None

    def start(self) -> None: ...
    def join(self) -> None: ...
    def close(self) -> None: ...


class BuiltGolden(msgspec.Struct, frozen=True):
    """A golden database fresh from its builder; `seconds` is the wall time that it took."""

    snapshot: Snapshot
    seconds: float
    notes: tuple[str, ...]


def build(
    config: FarmConfig,
    golden: GoldenConfig,
    scratch: Path | None = None,
    caller: Caller | None = None,
    below: tuple[Below, Snapshot] | None = None,
) -> BuiltGolden:
    """Build a golden database, or a layer, and return it, checked; see `build_together`."""
    return build_together(config, (golden,), scratch, caller, below)[0]


def build_together(
    config: FarmConfig,
    goldens: Sequence[GoldenConfig],
    scratch: Path | None = None,
    caller: Caller | None = None,
    below: tuple[Below, Snapshot] | None = None,
) -> tuple[BuiltGolden, ...]:
    """Build golden databases in one process, which the first of them gives its name and time.

    With what is `below` there is one, a layer on that.

    The builder's files lie in a folder inside `scratch`, with its process id in `builder.pid`: who
    guards that folder can end the build and remove its files when this process was killed.
    `caller` is the Python code that asked for the database, if any did.
    Raises ConfigError, GoldenBuildError, GoldenCheckError or GoldenTimeout.
    """
    started = time.monotonic()
    golden, *siblings = goldens
    ground = below[0] if below is not None else None
    builders = builders_of(config, golden, caller, below=ground)
    what = subject(golden, ground)
    with tempfile.TemporaryDirectory(prefix="snapfarm-build-", dir=scratch) as folder:
        order = Order(
            root=str(config.root),
            source=str(config.source) if config.source is not None else None,
            golden=golden,
            folder=folder,
            coordinator_pid=os.getpid(),
            caller=caller,
            siblings=tuple(siblings),
            below=ground,
        )
        if below is not None:
            order.ground.write_bytes(below[1].data)
        with contextlib.closing(Progress(order.progress, create=True)) as progress:
            timed_out, exit_code = _run(order, golden.timeout)
            step, line = progress.read()
        where = f" in {builders[step].title}" if step >= 0 else ""
        where += f", line {line}" if line else ""
        if timed_out:
            raise GoldenTimeout(
                f"{what}: the builder did not end within {golden.timeout:g} s; it was"
                f"{where or ' still starting'}{_stacks(order)}{_last_output(order)}"
            )
        try:
            data = order.answer.read_bytes()
        except FileNotFoundError:
            raise GoldenBuildError(
                f"{what}: the builder {_ended(exit_code)}{where}{_last_output(order)}"
            ) from None
        answer = msgspec.json.decode(data, type=Answer)
        if isinstance(answer, Failed):
            error = child.raised(answer, what)
            if isinstance(error, GoldenError):
                raise type(error)(f"{error}{_last_output(order)}")
            raise error
        seconds = time.monotonic() - started
        built = [_verified(answer.manifest, order.image, seconds, answer.notes)]
        for sibling, (manifest, notes) in zip(siblings, answer.siblings, strict=True):
            built.append(_verified(manifest, order.image_of(sibling), seconds, notes))
    return tuple(built)


def _verified(
    manifest: Manifest, image: Path, seconds: float, notes: tuple[str, ...]
) -> BuiltGolden:
    snapshot = Snapshot(manifest, image.read_bytes())
    try:
        snapshot.verify("from the builder")
    except SnapshotError as error:
        raise GoldenBuildError(str(error)) from error
    return BuiltGolden(snapshot, seconds, notes)


def _run(order: Order, timeout: float) -> tuple[bool, int]:
    """Run the builder to its end; return whether it ran out of time, and its exit code."""
    order_file = Path(order.folder) / "order.json"
    order_file.write_bytes(msgspec.json.encode(order))
    context = multiprocess.get_context("spawn")
    process: _Process = context.Process(
        target=child.main, args=(str(order_file),), name=f"golden-{order.golden.name}"
    )
    with without_main():
        process.start()
    deadline = time.monotonic() + timeout if timeout else float("inf")
    try:
        Path(order.folder, "builder.pid").write_text(str(process.pid))
        while not _has_ended(process.pid):
            left = deadline - time.monotonic()
            if left <= 0:
                _ask_for_stacks(process.pid, order.stacks)
                return True, 0
            if multiprocess.connection.wait([process.sentinel], min(left, _LOOK_EVERY)):
                # Closed, yet the process is still there: it is about to end, or closed it itself.
                time.sleep(0.001)
    finally:
        _kill_group(process.pid)
        process.join()
        exit_code = process.exitcode or 0
        process.close()
    return False, exit_code


def _has_ended(pid: int) -> bool:
    """Tell whether a child has ended, leaving it a zombie: its group's id can't be reused then."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _kill_group(pid: int) -> None:
    # Before the builder has made itself a group there is only the process.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _ask_for_stacks(pid: int, stacks: Path) -> None:
    if not stacks.exists():
        return  # the builder does not listen yet
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, STACKS_SIGNAL)
    deadline = time.monotonic() + _STACKS_WITHIN
    size = -1
    while time.monotonic() < deadline:
        before, size = size, stacks.stat().st_size
        if 0 < size == before:
            return
        time.sleep(0.01)


def _stacks(order: Order) -> str:
    """Return the stacks that the builder wrote, without the frames that start every process."""
    if not order.stacks.exists():
        return ""
    ours = ('File "<string>"', *(f'File "{folder}{os.sep}' for folder in _OWN_FOLDERS))
    lines = [
        line
        for line in order.stacks.read_text("utf-8", "replace").splitlines()
        if not line.strip().startswith(ours)
    ]
    return "\nits stacks:\n" + "\n".join(f"  {line}" for line in lines) if lines else ""


def _last_output(order: Order) -> str:
    try:
        with order.output.open("rb") as file:
            file.seek(max(0, order.output.stat().st_size - _OUTPUT_BYTES))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    lines = text.strip().splitlines()[-_OUTPUT_LINES:]
    return "\nits last output:\n" + "\n".join(f"  {line}" for line in lines) if lines else ""


def _ended(exit_code: int) -> str:
    if exit_code >= 0:
        return f"ended with exit code {exit_code} before it was done"
    try:
        return f"was killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was killed by signal {-exit_code}"
