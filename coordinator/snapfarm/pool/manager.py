"""The pool's coordinator: one thread that runs a farm, and gives every call its one outcome.

    open ──shut down──> closing ──nothing pending──> ending ──workers gone──> over
      │                    └──────────kill───────────^  │
      └────kill──────────────────────────────────────┘  │
      └────no worker left, none can be started───────────┴──> broken

Other threads only append to `_commands` and wake the hub; everything else is the manager thread's
own, so nothing here is locked but the commands and the state.
"""

from __future__ import annotations

import collections
import contextlib
import enum
import logging
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from snapfarm.broadcast import Broadcast, Frames
from snapfarm.dispatch import CollectionsDiffer, Dispatcher
from snapfarm.errors import LaunchError, PoolBroken
from snapfarm.farm import Farm
from snapfarm.happenings import Died, Overran
from snapfarm.hub import Hub
from snapfarm.launch.folder import RunFolder
from snapfarm.launch.launcher import OF_A_POOL, Launcher
from snapfarm.pool.memory import Memory
from snapfarm.pool.outcomes import crash_of, outcomes_of
from snapfarm.pool.statistics import Tally
from snapfarm.pool.work import Batch, Chunk, Raised
from snapfarm.store import SnapshotStore
from snapfarm.timekeeper import Limits
from snapfarm_worker import wire
from snapfarm_worker.anomaly import Level
from snapfarm_worker.jobs import TaskJob, WorkerFiles, WorkerSpec
from snapfarm_worker.parcels import Codec
from snapfarm_worker.wire import DatabaseOrder

if TYPE_CHECKING:
    import zmq

    from snapfarm.pool.settings import PoolSettings
    from snapfarm_worker.snapshot import Snapshot
    from snapfarm_worker.wire import FromWorker

_log = logging.getLogger("snapfarm.pool")

#: A worker is given more tasks when it has fewer than this for each of its threads.
_LOW_WATER = 3
#: Workers that die are replaced without limit, unless they die at their start.
_RESTARTS = 1 << 40
#: Seconds between two pulses of a worker.
_PULSE = 1.0


class PoolState(enum.StrEnum):
    """How far a pool is; see the module's drawing."""

    OPEN = "open"
    CLOSING = "closing"
    ENDING = "ending"
    BROKEN = "broken"
    OVER = "over"


class PoolManager:
    """The owner of a pool's farm. `open` starts the workers, `start` the thread."""

    def __init__(
        self, settings: PoolSettings, job: TaskJob, codec: Codec, snapshots: Sequence[Snapshot]
    ) -> None:
        self._settings = settings
        self._job = job
        self._codec = codec
        self._snapshots = snapshots
        self.tally = Tally(settings.threads)
        self.memory = Memory()
        #: Told after each change of the tally, in the manager's thread.
        self.on_change: Callable[[], None] | None = None
        #: Told at the very end.
        self.on_end: Callable[[PoolManager], None] | None = None
        # A lock that its holder may take again: a pool that the garbage collector finds calls
        # `finish` in whatever thread that happens.
        self._lock = threading.RLock()
        self._state = PoolState.OPEN
        self._broken = ""
        self._commands: collections.deque[Chunk] = collections.deque()
        self._cancel = False
        self._kill = ""
        #: What has no outcome yet, by the dispatcher's key.
        self._batches: dict[str, Batch] = {}
        self._next_key = 0
        #: Batches to add, and cancelled ones to take as done, once the dispatcher is free.
        self._to_add: list[Batch] = []
        self._to_skip: list[tuple[str, str]] = []
        self._thread = threading.Thread(target=self._run, name="farm-pool", daemon=True)
        self._ended = threading.Event()
        self._folder: RunFolder | None = None
        self._launcher = Launcher(settings.start_method, OF_A_POOL)

    # ------------------------------------------------------------ from any thread

    @property
    def state(self) -> PoolState:
        """How far the pool is."""
        return self._state

    @property
    def broken(self) -> str:
        """Why the pool is broken; empty if it is not."""
        return self._broken

    def submit(self, chunk: Chunk, *, continuing: bool = False) -> None:
        """Take a chunk. Raises PoolBroken, or RuntimeError once the pool was shut down.

        With `continuing` it belongs to what was submitted before, and is also taken while the pool
        is closing, unless that is to be cancelled.
        """
        with self._lock:
            if self._state is PoolState.BROKEN:
                raise PoolBroken(self._broken)
            closing = continuing and self._state is PoolState.CLOSING and not self._cancel
            if self._state is not PoolState.OPEN and not closing:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._commands.append(chunk)
            self._hub.wake()

    def finish(self, *, cancel: bool = False) -> None:
        """Take nothing more, and end once all is done; with `cancel`, forget what has not begun."""
        with self._lock:
            if self._state is PoolState.OPEN:
                self._state = PoolState.CLOSING
            self._cancel = self._cancel or cancel
        self._wake()

    def kill(self, reason: str) -> None:
        """End now: what runs is killed, and fails with `reason`."""
        with self._lock:
            if self._state is PoolState.OPEN:
                self._state = PoolState.CLOSING
            self._cancel, self._kill = True, self._kill or reason
        self._wake()

    def join(self) -> None:
        """Wait until the thread has ended; in that thread (a future's callback) there's no wait."""
        # A forked process has no such thread.
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            # Not by the thread's own join(): once Ctrl-C has interrupted that, Python up to 3.12
            # takes the thread for ended.
            self._ended.wait()

    def _wake(self) -> None:
        with self._lock:
            if self._state in (PoolState.OPEN, PoolState.CLOSING, PoolState.ENDING):
                self._hub.wake()

    # ------------------------------------------------------------ the thread

    def open(self) -> None:
        """Start the workers, and serve them the databases. Raises UserError."""
        self._folder = RunFolder()
        settings = self._settings
        try:
            self._hub = Hub(
                self._folder.path,
                self._launcher.start,
                expected=settings.workers,
                silence=settings.heartbeat_timeout,
            )
        except BaseException:
            self._folder.remove()
            raise
        dispatcher = Dispatcher(
            settings.workers,
            max_worker_restart=_RESTARTS,
            low_water=_LOW_WATER * settings.threads,
            pinned=settings.threads,
            most=_LOW_WATER * settings.threads,
            forgetful=True,
        )
        limits = Limits(
            item=settings.task_timeout, start=settings.start_timeout, stop=settings.stop_timeout
        )
        self._farm = Farm(self._hub, dispatcher, self, limits, compares=False)
        try:
            self._farm.start(settings.workers)
            if self._broken:
                raise LaunchError(self._broken)
            self._serve()
        except BaseException:
            self._close()
            raise

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def _serve(self) -> None:
        store = SnapshotStore.sized_for(each.manifest.size for each in self._snapshots)
        broadcast = Broadcast(self._settings.chunk_size)
        orders = []
        for snapshot in self._snapshots:
            store.put(snapshot)
            digest = snapshot.manifest.digest
            announce = broadcast.add(snapshot.manifest, store.image(digest))
            orders.append(DatabaseOrder(announce, self._settings.ring, "never"))
        self._hub.serve(broadcast, tuple(orders))

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            while not self._farm.done:
                self._farm.step()
                self._take_commands()
        except BaseException as raised:
            error = raised
            _log.exception("the pool's manager failed")
        finally:
            with self._lock:
                if error is not None:
                    self._broken = f"the pool's manager failed, please report it: {error!r}"
                self._state = PoolState.BROKEN if self._broken else PoolState.OVER
            try:
                self._close()
            finally:
                self._fail_all(self._broken or self._kill or "the pool was shut down")
                if self.on_end is not None:
                    self.on_end(self)
                self._ended.set()

    def _take_commands(self) -> None:
        added = self._to_add
        self._to_add = []
        while self._commands:
            chunk = self._commands.popleft()
            added.append(self._batch(chunk))
        if self._cancel:
            self._cancel_all()
        for worker, key in self._to_skip:
            self._farm.skip(worker, key)
        self._to_skip.clear()
        if added and not (self._farm.stopping or self._broken):
            self._farm.add([batch.key for batch in added])
        if self._kill:
            self._farm.kill(self._kill)
        elif self._state is PoolState.CLOSING and not self._batches and not self._commands:
            self._state = PoolState.ENDING
            self._farm.finish()
        if self._to_skip or self._to_add:
            self._hub.wake()

    def _batch(
        self, chunk: Chunk, indexes: Sequence[int] | None = None, attempts: int = 0
    ) -> Batch:
        self._next_key += 1
        batch = Batch(str(self._next_key), chunk, indexes, attempts)
        self._batches[batch.key] = batch
        return batch

    def _cancel_all(self) -> None:
        for batch in self._batches.values():
            if not batch.chunk.begun:
                batch.chunk.future.cancel()

    def _fail_all(self, reason: str) -> None:
        """Give every call that is left its outcome, in the manager's last moment."""
        chunks = {batch.chunk: None for batch in self._batches.values()}
        self._batches.clear()
        while self._commands:
            chunks[self._commands.popleft()] = None
        for chunk in chunks:
            left = chunk.left
            failed = chunk.fail(PoolBroken(f"{chunk.name(0)} was not run to its end: {reason}"))
            self.tally.count("crashed" if failed else "cancelled", left)
        self._changed()

    def _close(self) -> None:
        self._hub.close()
        self._launcher.close()
        if self._folder is not None:
            self._folder.remove()
            self._folder = None

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()

    # ------------------------------------------------------------ the farm's owner

    def specify(self, worker: str) -> WorkerSpec:
        """Describe a new worker."""
        if self._folder is None:
            raise RuntimeError("a worker was asked for before the pool was opened")
        return WorkerSpec(
            worker=worker,
            files=WorkerFiles(str(self._folder.path), worker),
            control=self._hub.control,
            broadcast=self._hub.news,
            coordinator=os.getpid(),
            pulse=min(_PULSE, self._settings.heartbeat_timeout / 4),
            sensors=Level.LIGHT if self._settings.sensors else Level.OFF,
            job=self._job,
            token=secrets.token_hex(16),
            lanes=self._settings.threads,
        )

    def order(
        self, worker: str, keys: tuple[str, ...], flush: bool
    ) -> tuple[wire.Message, Frames] | None:
        """Return the order to run some batches; those that were cancelled are left out."""
        del flush  # tasks need no successor
        orders: list[wire.TaskOrder] = []
        frames: Frames = []
        for key in keys:
            batch = self._batches.get(key)
            if batch is None:
                # It was cancelled when another worker was to get it, which died just then.
                self._to_skip.append((worker, key))
                continue
            chunk = batch.chunk
            if not chunk.begun:
                if not chunk.future.set_running_or_notify_cancel():
                    del self._batches[key]
                    self._to_skip.append((worker, key))
                    self.tally.count("cancelled", len(chunk.calls))
                    self._changed()
                    continue
                chunk.begun = True
            parcel = batch.parcel(self._codec)
            orders.append(
                wire.TaskOrder(
                    key=key,
                    function=chunk.function.id,
                    name=chunk.function.name,
                    function_frames=len(chunk.function.frames),
                    frames=len(parcel),
                    calls=len(batch),
                    first=chunk.first + batch.index(0),
                    attempts=batch.attempts,
                )
            )
            frames += chunk.function.frames
            frames += parcel
        return (wire.RunTasks(tuple(orders)), frames) if orders else None

    def arrived(self, worker: str, message: FromWorker, payload: Sequence[zmq.Frame]) -> None:
        """Take a worker's message; a result gives its calls their outcomes."""
        self.tally.arrived(worker, message)
        match message:
            case wire.TaskFinished(key=key):
                if (batch := self._batches.pop(key, None)) is not None:
                    self._finished(worker, batch, message, payload)
            case wire.WorkerFailed(stage=stage, message=text):
                self.memory.said(worker, f"in its {stage}: {text.strip()}")
            case _:
                pass

    def _finished(
        self,
        worker: str,
        batch: Batch,
        message: wire.TaskFinished,
        payload: Sequence[zmq.Frame],
        late: Sequence[Overran] = (),
    ) -> None:
        chunk = batch.chunk
        chunk.seconds += message.seconds
        self.tally.began(max(0.0, time.monotonic() - chunk.submitted - message.seconds))
        self.memory.observed(message.anomalies)
        views = [frame.buffer for frame in payload]
        outcomes, failed = outcomes_of(
            batch, message, views, self._codec, late, self._settings.task_timeout
        )
        if failed:
            self.memory.failed(batch, outcomes, worker, message.seconds)
        self.tally.count("failed", failed)
        self.tally.count("done", len(outcomes) - failed)
        if batch.indexes is None:
            chunk.close_all(outcomes, raised=failed > 0)
        else:
            for position, outcome in enumerate(outcomes):
                chunk.close(batch.index(position), outcome)
        self._changed()

    def overran(
        self,
        worker: str,
        message: FromWorker,
        payload: Sequence[zmq.Frame],
        late: Sequence[Overran],
    ) -> None:
        """Take a result of which some calls returned when their time was over: they have failed."""
        self.tally.arrived(worker, message)
        if isinstance(message, wire.TaskFinished) and (
            batch := self._batches.pop(message.key, None)
        ):
            self._finished(worker, batch, message, payload, late)

    def crashed(self, key: str, died: Died, seconds: float) -> None:
        """Give the call that ran its outcome, or run it again; the rest of its batch runs on."""
        batch = self._batches.pop(key)
        chunk = batch.chunk
        step = next((r.step for r in died.records if r.subject == key), 0)
        positions = list(range(len(batch)))
        # At step 0 it was still unpacking: that is no call's own fault, and would happen again.
        blamed = positions if step == 0 else [step - 1]
        timed_out = key in died.condemned
        again = not timed_out and batch.attempts < self._settings.retries
        for position in blamed:
            index = batch.index(position)
            if again:
                self.tally.count("retried")
                continue
            self.tally.count("crashed")
            crash = Raised(crash_of(batch, index, died, self._settings.task_timeout))
            self.memory.failed(Batch(key, chunk, [index]), [crash], died.worker, seconds)
            chunk.close(index, crash)
        if again:
            indexes = [batch.index(position) for position in blamed]
            self._to_add.append(self._batch(chunk, indexes, batch.attempts + 1))
        # Before and behind the blamed one: calls of a batch follow each other, as their names do.
        for rest in (positions[: blamed[0]], positions[blamed[-1] + 1 :]):
            if rest:
                indexes = [batch.index(position) for position in rest]
                self._to_add.append(self._batch(chunk, indexes, batch.attempts))
        if self._to_add:
            self._hub.wake()
        self._changed()

    def down(self, worker: str, died: Died, *, orderly: bool) -> None:
        """Keep how a worker ended."""
        death = "" if orderly else died.cause
        self.tally.gone(worker, death)
        if not orderly:
            self.memory.died(worker, died)

    def not_started(self, worker: str, error: LaunchError) -> None:
        """Keep why there is no such worker."""
        self.noticed(worker, str(error))

    def printed(self, worker: str, lines: tuple[str, ...]) -> None:
        """Show what tasks print, as if they had run here."""
        stream = sys.stdout
        if stream is not None:
            # Closed, nobody reads it any more, or it can't show a character: no pool ends by that.
            with contextlib.suppress(OSError, ValueError):
                stream.writelines(f"[{worker}] {line}\n" for line in lines)
                stream.flush()

    def noticed(self, worker: str, what: str) -> None:
        """Keep what is odd for the report, and log it."""
        self.memory.noticed(worker, what)

    def differ(self, difference: CollectionsDiffer) -> None:
        """Nothing is collected in a pool."""
        raise AssertionError(f"workers of a pool collect nothing: {difference}")

    def gave_up(self, reason: str, unrun: tuple[str, ...]) -> None:
        """Break the pool: nobody is left to run these batches."""
        del unrun
        with self._lock:
            self._broken = self.memory.why_broken(reason)
