"""A worker's job of running tasks: calls of functions on its threads, each on a ready database.

    isolation   rings                        between two calls
    worker      one, shared by all threads   an open transaction is rolled back
    thread      one for each thread          the same
    task        one for each thread          the ring is reset, the connection is a new one

A thread, or *lane*, has a black box of its own: which task it is at, and which of its calls. When
the process dies, exactly those calls are to blame; what had ended or not begun is not.
"""

from __future__ import annotations

import importlib
import os
import resource
import sqlite3
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from time import perf_counter
from typing import NamedTuple, NoReturn, TypeAlias, cast

import msgspec

from snapfarm_worker import wire
from snapfarm_worker.anomaly import Anomaly, Level
from snapfarm_worker.blackbox import BlackBox, Phase
from snapfarm_worker.courier import give_back_freed_memory, keep_freed_memory
from snapfarm_worker.databases import Databases
from snapfarm_worker.errors import ParcelError, RingError
from snapfarm_worker.failures import pack_failure
from snapfarm_worker.findings import LaneFindings
from snapfarm_worker.jobs import EXIT_FAILED, TaskJob, enter
from snapfarm_worker.link import Link
from snapfarm_worker.members import RingConnection
from snapfarm_worker.parcels import Codec, Parcel, PickleCodec, PlainCodec, size_of
from snapfarm_worker.ring import ResetPolicy, Ring, RingKind
from snapfarm_worker.snapshot import Snapshot
from snapfarm_worker.taskqueue import Task, TaskQueue
from snapfarm_worker.wire import CallFailure, RingReset

Function = Callable[..., object]
_Rows: TypeAlias = list[object]
_Options: TypeAlias = dict[str, object]

#: So many functions are kept unpacked.
_KEPT_FUNCTIONS = 64

#: True in a process that a task has forked: it must not go on as if it were the worker.
_forked = False


def _note_fork() -> None:
    global _forked  # as global as the process
    _forked = True


def _end_child(error: BaseException) -> NoReturn:
    """End a forked process whose copy of the task raised, as a script would end."""
    status = 1
    if not isinstance(error, SystemExit):
        traceback.print_exception(error)
    elif error.code is None or isinstance(error.code, int):
        status = (error.code or 0) & 0xFF
    else:
        sys.stderr.write(f"{error.code}\n")
    os._exit(status)


class _Calls(NamedTuple):
    """What to call a function with: positional arguments of each call, keywords of all.

    Where `flat`, every call has one argument, and `rows` holds these, else tuples of them.
    """

    rows: _Rows
    options: _Options
    flat: bool

    def arguments(self, index: int) -> tuple[object, ...]:
        """Return the positional arguments of a call."""
        row = self.rows[index]
        return (row,) if self.flat else cast("tuple[object, ...]", row)


class TaskContext(msgspec.Struct, frozen=True):
    """What a running task can ask of its surroundings; see `current_task`."""

    #: Its name with the number of the call, as reports and anomalies have it.
    name: str
    #: 1, or more where its worker died before and it was submitted again.
    attempt: int
    worker: str
    #: Number of the thread, counted from 0.
    thread: int
    #: The address of each database, for `sqlite3.connect(uri, uri=True)`, by name.
    uris: Mapping[str, str]


_here = threading.local()


def current_task() -> TaskContext:
    """Return the context of the task that the calling thread runs. Raises LookupError elsewhere."""
    lane: Lane | None = getattr(_here, "lane", None)
    if lane is None or lane.task is None:
        raise LookupError("this thread runs no task of a worker pool")
    return TaskContext(
        lane.name(),
        lane.task.order.attempts + 1,
        lane.worker,
        lane.number,
        {name: lane.databases.get(name).uri for name in lane.databases.names},
    )


class TaskRunner:
    """Runs tasks on as many threads as the job says, until the coordinator ends the session."""

    stage = "initializer"

    def __init__(
        self, job: TaskJob, link: Link, boxes: Sequence[BlackBox], *, sensors: Level
    ) -> None:
        self.job = job
        self.link = link
        self.codec: Codec = PickleCodec() if job.names is None else PlainCodec()
        self._boxes = boxes
        self._queue = TaskQueue()
        #: The functions of the last tasks, by the id that the coordinator gave them.
        self._functions: dict[str, Function] = {}
        self._functions_lock = threading.Lock()
        count = job.threads if job.isolation != "worker" else 1
        self._databases = [
            Databases(
                policy=ResetPolicy.TEST if job.isolation == "task" else ResetPolicy.NEVER,
                sensors=sensors,
                findings=None if job.isolation == "task" else LaneFindings(),
            )
            for _ in range(count)
        ]
        global _forked
        _forked = False  # this process may itself come from a task that has forked
        os.register_at_fork(after_in_child=_note_fork)

    def prepare(self) -> None:
        """Let modules be found where the coordinator finds them."""
        enter(self.job)

    def hold(self, order: wire.DatabaseOrder, snapshot: Snapshot) -> None:
        """Restore a snapshot into a ring for all threads, or into one for each."""
        resettable = self.job.isolation == "task"
        if resettable and not self._databases[0].names:
            keep_freed_memory()
        for databases in self._databases:
            ring = Ring.restore(
                snapshot, kind=RingKind(order.ring), verified=True, resettable=resettable
            )
            databases.add(ring)

    def offer(self, layers: tuple[wire.Announce, ...]) -> None:
        """Tasks know of no layers."""

    def run(self) -> bool:
        """Run the initializer, then tasks; return whether the session ended in order."""
        if self.job.isolation != "task":
            give_back_freed_memory()
        if len(self._databases) == 1:
            os.environ.update(self._databases[0].environment())
        if self.job.initializer is not None:
            function, args = cast(
                "tuple[Function, tuple[object, ...]]",
                PickleCodec().unpack(self.job.initializer),
            )
            function(*args)
        for name, path in (self.job.names or {}).items():
            self._functions[name] = _imported(path)
        lanes = [
            Lane(self, number, box, self._databases[number % len(self._databases)])
            for number, box in enumerate(self._boxes)
        ]
        for box in self._boxes:
            box.write(Phase.IDLE, "")
        self.link.take_orders(self._queue.handle)
        self.link.send(wire.Ready())
        # With one thread that is the main one, where signals arrive.
        threads = [
            threading.Thread(target=lane.run, args=(self._queue,), name=f"farm-task-{lane.number}")
            for lane in lanes[1:]
        ]
        for thread in threads:
            thread.start()
        lanes[0].run(self._queue)
        for thread in threads:
            thread.join()
        self._boxes[0].write(Phase.ENDING, "")
        self.link.send(wire.SessionEnded(0, b""))
        return True

    def close(self) -> None:
        """Close the rings."""
        for databases in self._databases:
            databases.close()

    def function(self, task: Task) -> Function:
        """Return a task's function; raises whatever unpacking it raises."""
        with self._functions_lock:
            known = self._functions.get(task.order.function)
        if known is not None:
            return known
        found = cast("Function", self.codec.unpack(task.function))
        with self._functions_lock:
            while len(self._functions) >= _KEPT_FUNCTIONS:
                del self._functions[next(iter(self._functions))]
            return self._functions.setdefault(task.order.function, found)


class Connections(Mapping[str, sqlite3.Connection]):
    """A task's connections by the name of their database, each opened when it is first used."""

    def __init__(self, databases: Databases, *, alone: bool) -> None:
        self._databases = databases
        #: Whether nobody but this task's own code can join the rings.
        self._alone = alone
        self.open: dict[str, sqlite3.Connection] = {}

    def __getitem__(self, name: str) -> sqlite3.Connection:
        conn = self.open.get(name)
        if conn is None:
            try:
                ring = self._databases.get(name)
                conn = ring.connect_alone() if self._alone else ring.connect()
                self.open[name] = conn
            except RingError as error:
                raise KeyError(str(error)) from None
        return conn

    def __iter__(self) -> Iterator[str]:
        return iter(self._databases.names)

    def __len__(self) -> int:
        return len(self._databases.names)

    def close(self, *, broken_only: bool = False) -> None:
        """Close them, or only those that can't be given to another task."""
        for name, conn in list(self.open.items()):
            usable = self._databases.end_call(conn)
            if not (usable and broken_only):
                del self.open[name]
                conn.close()


class Lane:
    """One thread that runs tasks, with its connections and its black box."""

    def __init__(
        self, runner: TaskRunner, number: int, box: BlackBox, databases: Databases
    ) -> None:
        self.number = number
        self.databases = databases
        self.worker = runner.link.worker
        #: The task that runs.
        self.task: Task | None = None
        self._runner = runner
        self._box = box
        self._per_task = runner.job.isolation == "task"
        alone = runner.job.isolation == "thread" or runner.job.threads == 1
        self._connections = Connections(databases, alone=alone)
        self._anomalies: list[Anomaly] = []
        self._resets: list[RingReset] = []

    def name(self) -> str:
        """Return the name of the call that runs, or of the last one."""
        if self.task is None:
            return ""
        order = self.task.order
        return f"{order.name}[{order.first + max(0, self._box.steps[1] - 1)}]"

    def run(self, queue: TaskQueue) -> None:
        """Run tasks until there are no more."""
        _here.lane = self
        findings = self.databases.findings
        if isinstance(findings, LaneFindings):
            findings.enter(self.name)
        task: Task | None = None
        try:
            while (task := queue.next()) is not None:
                self._run(task)
                task = None  # what it holds is free while the lane waits
            self._connections.close()
        except BaseException:
            # Without this lane its task would never end. A dead process is noticed, and the task
            # is to blame, lest it is run again and again.
            traceback.print_exc()
            if task is not None:
                self._box.write(Phase.CALL, task.order.key)
            os._exit(EXIT_FAILED)

    # ------------------------------------------------------------ one task

    def _run(self, task: Task) -> None:
        order, codec = task.order, self._runner.codec
        self.task = task
        self._box.write(Phase.CALL, order.key)
        began = perf_counter()
        values: list[object] = []
        failures: list[tuple[CallFailure, Parcel]] = []
        try:
            function = self._runner.function(task)
            calls = _Calls(*cast("tuple[_Rows, _Options, bool]", codec.unpack(task.arguments)))
        except BaseException as error:  # what is unpacked is code of the user's
            failure, parcel = pack_failure(0, error, codec)
            failures = [
                (msgspec.structs.replace(failure, index=index), parcel)
                for index in range(order.calls)
            ]
            values = [None] * order.calls
        else:
            self._call(function, calls, values, failures)
        seconds = perf_counter() - began
        results = self._packed(values, failures)
        findings = self.databases.findings
        if isinstance(findings, LaneFindings):
            self._anomalies += findings.take()
        message = wire.TaskFinished(
            key=order.key,
            calls=order.calls,
            frames=len(results),
            seconds=seconds,
            failures=tuple(failure for failure, _ in failures),
            anomalies=tuple(self._anomalies),
            resets=tuple(self._resets),
            peak_memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        )
        payload = [*results, *(frame for _, parcel in failures for frame in parcel)]
        self._anomalies, self._resets, self.task = [], [], None
        self._box.item_finished()
        self._runner.link.send(message, payload)

    def _call(
        self,
        function: Function,
        calls: _Calls,
        values: list[object],
        failures: list[tuple[CallFailure, Parcel]],
    ) -> None:
        """Call the function for each set of arguments."""
        steps = self._box.steps
        while (index := len(values)) < len(calls.rows):
            first, conn = self._given()
            if self._per_task:
                steps[1] = index + 1  # which also names it
                self.databases.begin_test(self.name())
            try:
                if conn is not None:
                    _call_many(function, conn, calls, values, steps)
                else:
                    steps[1] = index + 1
                    values.append(function(first, *calls.arguments(index), **calls.options))
            except BaseException as error:  # whatever it is, it is the task's
                if _forked:
                    _end_child(error)
                for each in self._connections.open.values():
                    self.databases.call_failed(each, error)
                # Else it had returned, and closed its connection.
                if len(values) < steps[1]:
                    failures.append(pack_failure(len(values), error, self._runner.codec))
                    values.append(None)
            if _forked:
                # A child of a task that came back here: it has nothing to report.
                os._exit(0)
            self._end_call()

    def _given(self) -> tuple[object, RingConnection | None]:
        """Return a task's first parameter, also as what can be given to many in a row."""
        if self._runner.job.mapping:
            return self._connections, None
        conn = self._connections[self.databases.get().database]
        if isinstance(conn, RingConnection) and not self._per_task:
            return conn, conn
        return conn, None

    def _end_call(self) -> None:
        """Leave nothing of a call to the next one."""
        self._connections.close(broken_only=not self._per_task)
        if self._per_task:
            ended = self.databases.end_test(self.name(), None, "test")
            self._anomalies += ended.anomalies
            self._resets += [
                RingReset(name, outcome.tier, outcome.seconds)
                for name, outcome in ended.resets.items()
            ]

    # ------------------------------------------------------------ results

    def _packed(self, values: list[object], failures: list[tuple[CallFailure, Parcel]]) -> Parcel:
        """Return the frames of the results; those that can't travel become failures."""
        codec, limit = self._runner.codec, self._runner.job.result_limit
        try:
            parcel = codec.pack(values)
            if size_of(parcel) <= limit:
                return parcel
        except ParcelError:
            pass
        for index, value in enumerate(values):
            what = _unshippable(value, codec, limit)
            if what:
                values[index] = None
                kind = f"{type(value).__module__}.{type(value).__qualname__}"
                failures.append((CallFailure(index, kind, what, "", 0, unshipped=True), []))
        return codec.pack(values)


def _call_many(
    function: Function,
    conn: RingConnection,
    calls: _Calls,
    values: list[object],
    steps: memoryview,
) -> None:
    """Call until one raises, or leaves something behind: the pool's hot path.

    `values` gets what each call returned that did.
    """
    append, member, index, options = values.append, conn.farm_member, len(values), calls.options
    rows: Iterable[object] = calls.rows[index:] if index else calls.rows
    # The step is the loop's own variable: a tenth of a point query faster than to count it.
    if calls.flat and not options:
        # The same as below, for what most maps do.
        for steps[1], value in enumerate(rows, index + 1):
            append(function(conn, value))
            if conn.in_transaction or member.left or _forked:
                return
        return
    for number in range(index, len(calls.rows)):
        steps[1] = number + 1
        append(function(conn, *calls.arguments(number), **options))
        if conn.in_transaction or member.left or _forked:
            return


def _unshippable(value: object, codec: Codec, limit: int) -> str:
    try:
        size = size_of(codec.pack(value))
    except ParcelError as error:
        return str(error)
    if size > limit:
        return f"it takes {size} bytes, and max_result_size allows {limit}"
    return ""


def _imported(path: str) -> Function:
    module, _, name = path.partition(":")
    found: object = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return cast("Function", found)
