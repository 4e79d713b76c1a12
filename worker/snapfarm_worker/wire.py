"""Every message between coordinator and worker, and the codec that they share.

Control messages travel between a worker's DEALER sockets and the coordinator's ROUTER. A worker has
two of them: one named like the worker, on which its I/O thread gets orders and sends pulses, and
one named `<worker>/results`, which only sends. `Announce` and `Chunk` travel also from the
coordinator's XPUB to the workers' SUB sockets. A message is one frame of msgpack; payload bytes
follow in frames of their own.

    message            from -> to        when                                  answered by
    Hello              worker -> coord.  it is connected                       Welcome | Refused
    Pulse              worker -> coord.  every `pulse` seconds, own socket     -
    NeedChunks         worker -> coord.  chunks are missing, or a layer is     Chunk (each)
    SnapshotRestored   worker -> coord.  a ring is ready, digest verified      -
    Capturing          worker -> coord.  its output is captured in files       -
    CollectReported    worker -> coord.  a collector failed or was skipped     -
    WarningRecorded    worker -> coord.  pytest recorded a warning             -
    Collected          worker -> coord.  its collection is complete            RunItems | EndSession
    Ready              worker -> coord.  it collects nothing; runs tasks       RunTasks | EndSession
    TaskFinished (+p.) worker -> coord.  a task ended                          -
    ItemStarted        worker -> coord.  an idle worker begins an item         -
    ItemFinished       worker -> coord.  an item ended; names the next one     -
    ReportsLogged      worker -> coord.  a plugin logged reports of no item    -
    ItemsReturned      worker -> coord.  always, once, after RecallItems       -
    Stopping           worker -> coord.  it wants no more items (-x, exit)     EndSession
    SessionEnded       worker -> coord.  its last message                      -
    WorkerFailed       worker -> coord.  it can't go on; its last message      -
    Rejected           both              a frame could not be understood       -
    Welcome            coord. -> worker  after Hello; lists the databases      SnapshotRestored
    Refused            coord. -> worker  after Hello of a foreign version      -
    Announce           coord. -> all     before the chunks of a snapshot       -
    Chunk (+payload)   coord. -> all/one broadcast, or repair of NeedChunks    -
    RunItems           coord. -> worker  items to run, in this order           ItemStarted …
    RunTasks (+payl.)  coord. -> worker  tasks to run, in this order           TaskFinished (each)
    RecallItems        coord. -> worker  give back what has not begun          ItemsReturned
    EndSession         coord. -> worker  no more items will come               SessionEnded

A worker runs its items in the order received and must know an item's successor before it begins
it, since fixtures are torn down for the successor. `RunItems.flush` says that no successor of the
last one is known, so that it may run without. Tasks need no successor; a worker runs as many at
once as it has threads, and its black boxes tell which.

The payload of tasks and results is code and pickles. It is only decoded between a worker and a
coordinator of which each has shown the other the token that the worker was started with.
"""

from __future__ import annotations

from typing import TypeAlias, TypeVar

import msgspec

from snapfarm_worker.anomaly import Anomaly
from snapfarm_worker.errors import ProtocolError
from snapfarm_worker.evidence import DatabaseEvidence
from snapfarm_worker.snapshot import Manifest
from snapfarm_worker.texts import readable_data
from snapfarm_worker.turns import Turn

#: Version of the protocol; both sides must have the same.
#: 1  first version
#: 2  tasks (Ready, RunTasks, TaskFinished), payloads of several frames, tokens
#: 3  ReportsLogged; Stopping while an item runs
PROTOCOL_VERSION = 3

#: Suffix of the name of a worker's second socket, on which it only sends.
RESULTS_SUFFIX = "/results"

#: No frame of msgpack may be longer; payload frames are limited by the announced size instead.
MESSAGE_LIMIT = 1 << 30


class Message(msgspec.Struct, frozen=True, tag=True):
    """Base of every message: frozen, and told apart by a tag."""


# ---------------------------------------------------------------- worker -> coordinator


class Hello(Message, frozen=True, tag=True):
    """A worker is connected and asks for its databases."""

    worker: str
    pid: int
    protocol: int
    python: str
    sqlite: str
    executable: str
    platform: str
    cwd: str
    #: What its WorkerSpec holds.
    token: str = ""


class Pulse(Message, frozen=True, tag=True):
    """A worker's process is alive; sent by a thread of its own, whatever the test does."""

    worker: str


class NeedChunks(Message, frozen=True, tag=True):
    """A worker lacks these chunks of a snapshot. `indexes` are counted from 0."""

    digest: str
    indexes: tuple[int, ...]


class SnapshotRestored(Message, frozen=True, tag=True):
    """A snapshot was received, its digest verified, and its ring filled. Times in seconds."""

    database: str
    digest: str
    receive_seconds: float
    restore_seconds: float
    repaired_chunks: int = 0


class Capturing(Message, frozen=True, tag=True):
    """The worker's descriptors of the files in which pytest captures output and errors.

    A coordinator on the same machine opens them too, to show the last output of a killed worker.
    """

    output: int
    errors: int


class CollectReported(Message, frozen=True, tag=True):
    """A collect report that did not pass, as plain data."""

    report: bytes


class WarningRecorded(Message, frozen=True, tag=True):
    """A warning that pytest recorded in the worker, as plain data."""

    warning: bytes
    when: str
    nodeid: str
    location: tuple[str, int, str] | None


class CollectedItem(msgspec.Struct, frozen=True, array_like=True):
    """One item of a collection. `key` is its node id, made unique; `group` its xdist_group.

    `layer` names the declared layers that it needs, joined by commas.
    """

    key: str
    group: str = ""
    layer: str = ""
    turn: Turn = Turn.ANY


class Collected(Message, frozen=True, tag=True):
    """All items of a worker in order, and the node ids that it deselected."""

    items: tuple[CollectedItem, ...]
    deselected: tuple[str, ...] = ()
    #: Failed collectors; pytest does not run tests after them unless told to.
    errors: int = 0
    seconds: float = 0.0


Location: TypeAlias = tuple[str, int | None, str]


class ItemStarted(Message, frozen=True, tag=True):
    """An idle worker begins an item. `location` is pytest's: path, line from 0, name."""

    key: str
    location: Location


class RingReset(msgspec.Struct, frozen=True, array_like=True):
    """How a ring was brought back to its baseline after an item. `seconds` of wall time."""

    database: str
    tier: str
    seconds: float


class ItemFinished(Message, frozen=True, tag=True):
    """An item ended: its reports as plain data, in the order in which pytest made them.

    `then` is the item that the worker begins with no further message, if any.
    """

    key: str
    reports: bytes
    seconds: float
    then: ItemStarted | None = None
    anomalies: tuple[Anomaly, ...] = ()
    resets: tuple[RingReset, ...] = ()
    #: Whether any of the reports has failed.
    failed: bool = False
    evidence: tuple[DatabaseEvidence, ...] = ()
    #: Tables that its statements changed, as database.table.
    written: tuple[str, ...] = ()


class ReportsLogged(Message, frozen=True, tag=True):
    """Reports as plain data that a plugin has logged outside of any item."""

    reports: bytes


class Ready(Message, frozen=True, tag=True):
    """The worker has its databases, collects nothing, and runs tasks."""


class CallFailure(msgspec.Struct, frozen=True, array_like=True):
    """A call of a task that raised, or whose result can't travel.

    `type` is the exception's full name; `frames` is how many payload frames hold the exception
    itself, 0 where it can't travel. `unshipped` says that the call returned, but not its result.
    """

    index: int
    type: str
    message: str
    traceback: str
    frames: int
    unshipped: bool = False


class TaskFinished(Message, frozen=True, tag=True):
    """A task ended. The payload: `frames` frames of results, then those of each failure in order.

    `seconds` of wall time for all calls; `calls` counts those of this order, the results are a
    list of as many values, None for those that failed. `peak_memory` of the process in bytes.
    """

    key: str
    calls: int
    frames: int
    seconds: float
    failures: tuple[CallFailure, ...] = ()
    anomalies: tuple[Anomaly, ...] = ()
    resets: tuple[RingReset, ...] = ()
    peak_memory: int = 0


class ItemsReturned(Message, frozen=True, tag=True):
    """The items of RecallItems `order` that had not begun; the worker has forgotten them."""

    order: int
    keys: tuple[str, ...]


class Stopping(Message, frozen=True, tag=True):
    """The worker's own session was told to stop; it has dropped the items in `unrun`.

    `failed` tells pytest's `shouldfail` (maxfail) from its `shouldstop`. If an item still runs,
    `key` is its key and `reports` what it has come to: they count if the worker dies before it
    ends.
    """

    reason: str
    failed: bool
    unrun: tuple[str, ...]
    key: str = ""
    reports: bytes = b""


class SessionEnded(Message, frozen=True, tag=True):
    """The worker's pytest session is over; `output` is its `workeroutput` as plain data."""

    exit_status: int
    output: bytes
    reason: str = ""


class WorkerFailed(Message, frozen=True, tag=True):
    """The worker can't go on. `stage` is where, `usage` whether the user can mend it."""

    stage: str
    message: str
    usage: bool = False


class Rejected(Message, frozen=True, tag=True):
    """The receiver could not understand or does not expect a frame."""

    reason: str


# ---------------------------------------------------------------- coordinator -> worker


class Announce(Message, frozen=True, tag=True):
    """A snapshot is about to be sent in `chunks` pieces of `chunk_size` bytes (the last: less)."""

    manifest: Manifest
    chunk_size: int
    chunks: int


class DjangoOrder(msgspec.Struct, frozen=True):
    """A database is one of a Django project: which one, and what it was made with.

    `shape` as `snapfarm_worker.django_shape` has it. With `restore`, what a flush would leave empty
    goes back to the golden state.
    """

    alias: str
    shape: dict[str, str]
    restore: bool


class DatabaseOrder(msgspec.Struct, frozen=True):
    """One database that a worker shall hold in a ring."""

    announce: Announce
    ring: str
    reset: str
    django: DjangoOrder | None = None


class Welcome(Message, frozen=True, tag=True):
    """The worker is known; these are the databases that it shall hold before it does anything.

    `patience` is how many seconds to wait for a broadcast before asking for chunks: 0 where the
    broadcast is over. `token` is the worker's own, back from the coordinator. `layers` are not
    broadcast: the worker asks for the chunks of one when a test needs it first.
    """

    databases: tuple[DatabaseOrder, ...]
    patience: float = 0.0
    token: str = ""
    layers: tuple[Announce, ...] = ()


class Refused(Message, frozen=True, tag=True):
    """The worker can't take part; it ends itself and says why."""

    reason: str


class Chunk(Message, frozen=True, tag=True):
    """One piece of a snapshot; its bytes are the next frame."""

    digest: str
    index: int


class RunItems(Message, frozen=True, tag=True):
    """Items to run after those that the worker already has."""

    keys: tuple[str, ...]
    flush: bool = False


class TaskOrder(msgspec.Struct, frozen=True, array_like=True):
    """One task: a function and the arguments of its calls.

    Its payload is `function_frames` frames of the function (the same for all tasks with the same
    `function`, which workers keep; none where that is the name of a registered task), then
    `frames` frames of the arguments. `first` is the number of its first call in its map, and
    `attempts` how often it was begun before.
    """

    key: str
    function: str
    name: str
    function_frames: int
    frames: int
    calls: int
    first: int
    attempts: int = 0


class RunTasks(Message, frozen=True, tag=True):
    """Tasks to run after those that the worker already has; their payloads follow in order."""

    tasks: tuple[TaskOrder, ...]


class RecallItems(Message, frozen=True, tag=True):
    """Give back those of these items that have not begun and are no successor of a running one."""

    order: int
    keys: tuple[str, ...]


class EndSession(Message, frozen=True, tag=True):
    """No more items will come. With `drop`, forget those that have not begun."""

    drop: bool = False
    reason: str = ""


FromWorker: TypeAlias = (
    Hello
    | Pulse
    | NeedChunks
    | SnapshotRestored
    | Capturing
    | CollectReported
    | WarningRecorded
    | Collected
    | Ready
    | TaskFinished
    | ItemStarted
    | ItemFinished
    | ReportsLogged
    | ItemsReturned
    | Stopping
    | SessionEnded
    | WorkerFailed
    | Rejected
)
ToWorker: TypeAlias = (
    Welcome | Refused | Announce | Chunk | RunItems | RunTasks | RecallItems | EndSession | Rejected
)

_M = TypeVar("_M")

_encoder = msgspec.msgpack.Encoder()
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)


def encode(message: Message) -> bytes:
    """Return the frame of a message.

    A lone surrogate in a text (a file name that is not UTF-8, a reason that a test gives) travels
    as its escape: people read it. What must be exact, keys above all, never holds one.
    """
    try:
        return _encoder.encode(message)
    except UnicodeEncodeError:
        return _encoder.encode(readable_data(msgspec.to_builtins(message, builtin_types=(bytes,))))


def decode_from_worker(frame: bytes | memoryview) -> FromWorker:
    """Return the message in a frame that a worker sent. Raises ProtocolError."""
    return _decode(_from_worker, frame)


def decode_to_worker(frame: bytes | memoryview) -> ToWorker:
    """Return the message in a frame that the coordinator sent. Raises ProtocolError."""
    return _decode(_to_worker, frame)


def _decode(decoder: msgspec.msgpack.Decoder[_M], frame: bytes | memoryview) -> _M:
    if len(frame) > MESSAGE_LIMIT:
        raise ProtocolError(f"a frame of {len(frame)} bytes is over the limit of {MESSAGE_LIMIT}")
    try:
        return decoder.decode(frame)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"not a message of protocol {PROTOCOL_VERSION}: {error}") from error
