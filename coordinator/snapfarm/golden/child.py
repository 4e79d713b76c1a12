"""The builder process: builds one golden database in memory and answers through files."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Literal

import msgspec

from snapfarm.config import FarmConfig
from snapfarm.config_golden import GoldenConfig
from snapfarm.errors import ConfigError, GoldenBuildError, GoldenCheckError, GoldenError
from snapfarm.golden.builders import builders_of
from snapfarm.golden.checks import checked_snapshot, refuse_strays
from snapfarm.golden.order import STACKS_SIGNAL, Answer, Built, Failed, Order, Progress
from snapfarm.golden.sources import project_search
from snapfarm_worker.errors import SnapshotError
from snapfarm_worker.snapshot import BASE, Snapshot
from snapfarm_worker.tracker import forget_resource_tracker

_PR_SET_PDEATHSIG = 1


def main(order_file: str) -> None:
    """Carry out the order in a file; the target of the builder process. Does not return."""
    order = msgspec.json.decode(Path(order_file).read_bytes(), type=Order)
    forget_resource_tracker()
    _settle(order)
    answer = _answer(order)
    written = order.answer.with_suffix(".part")
    written.write_bytes(msgspec.json.encode(answer))
    written.rename(order.answer)
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    # Threads that user code left running must not keep the builder from ending.
    os._exit(0)


def _settle(order: Order) -> None:
    """Make this process a group of its own that prints into a file and dies with its parent."""
    # A session of its own: Ctrl-C goes to the coordinator alone, which then ends the whole group.
    os.setsid()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != order.coordinator_pid:
        os._exit(1)
    output = os.open(order.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(nothing)
    os.close(output)
    # Left open for the life of the process: a signal handler writes to it.
    stacks = order.stacks.open("wb")
    faulthandler.register(STACKS_SIGNAL, file=stacks, all_threads=True)
    os.chdir(order.root)
    sys.path[:] = order.caller.search if order.caller else project_search(Path(order.root))


def _answer(order: Order) -> Answer:
    try:
        snapshot, notes = _build(order, order.golden)
        order.image.write_bytes(snapshot.data)
        siblings = []
        for golden in order.siblings:
            sibling, more = _build(order, golden)
            order.image_of(golden).write_bytes(sibling.data)
            siblings.append((sibling.manifest, more))
        return Built(snapshot.manifest, notes, tuple(siblings))
    except GoldenCheckError as error:
        return _failed("check", error)
    except ConfigError as error:
        return _failed("config", error)
    except (GoldenError, SnapshotError, sqlite3.Error) as error:
        return _failed("build", error)
    except MemoryError:
        return Failed("build", "there is not enough memory for the database")
    except OSError as error:
        return Failed("build", f"the image can't be written: {error}")


def _failed(kind: Literal["build", "check", "config"], error: Exception) -> Failed:
    # A message may quote a file's name that is no Unicode; JSON could not carry that.
    return Failed(kind, str(error).encode("utf-8", "backslashreplace").decode())


def _build(order: Order, golden: GoldenConfig) -> tuple[Snapshot, tuple[str, ...]]:
    config = FarmConfig(
        root=Path(order.root),
        source=Path(order.source) if order.source is not None else None,
        golden=(golden,),
    )
    notes: list[str] = []
    progress = Progress(order.progress, create=False)
    builders = builders_of(
        config,
        golden,
        order.caller,
        below=order.below,
        ground=order.ground,
        scratch=Path(order.folder),
    )
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        for step, builder in enumerate(builders):
            progress.starts(step)
            notes += builder.build(conn, progress.reaches)
        # A script made by the shell's .dump writes virtual tables straight into sqlite_schema;
        # this connection sees them only once it reads its schema again.
        conn.execute("PRAGMA writable_schema = RESET").fetchall()
        notes += refuse_strays(conn)
        layer = order.below.layer if order.below is not None else BASE
        snapshot, found = checked_snapshot(conn, golden.name, layer)
    return snapshot, (*notes, *found)


def raised(failed: Failed, subject: str) -> GoldenError | ConfigError:
    """Return the error that an answer stands for; `subject` is what was to be built."""
    message = f"{subject}: {failed.message}"
    match failed.kind:
        case "check":
            return GoldenCheckError(message)
        case "config":
            return ConfigError(failed.message)
        case "build":
            return GoldenBuildError(message)
