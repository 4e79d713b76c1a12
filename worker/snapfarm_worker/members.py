"""The connections of a ring: what sqlite3's own do, plus patience with locks and a memory.

`RingConnection` and `RingCursor` stand directly above sqlite3's classes, below any class of the
user's (see `blend`), so that only SQLite's own work is repeated, never the user's code.

    class              waits for a shared-cache lock      tells the watcher
    RingCursor         execute, executemany, script       failures; statements while on alert
    RingConnection     the same, blobopen, backup         failures, deserialize
    SoloConnection     all but `execute`                  all but failures of `execute`
"""

from __future__ import annotations

import functools
import gc
import sqlite3
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from snapfarm_worker import patience
from snapfarm_worker.membership import Home, Member, Watcher
from snapfarm_worker.stacks import Spot

if TYPE_CHECKING:
    from sqlite3 import _Parameters as Parameters
    from types import TracebackType
    from typing import Literal, Self

__all__ = ["Home", "Member", "RingConnection", "RingCursor", "Watcher", "blend", "collect"]
__all__ += ["member_of", "newborn"]

#: What sqlite3 raises here is the test's own: pytest shows where it called.
__tracebackhide__ = True

_T = TypeVar("_T")

#: Stands in where a cursor of ours works on a connection that is none of ours.
_NOBODY = Member(None, patient=False, timeout=0.0)

#: `_birth.member` is what the next connection made by this thread becomes.
_birth = threading.local()

#: Not empty while `collect()` runs.
_collecting: list[bool] = []


class RingCursor(sqlite3.Cursor):
    """A cursor that waits for shared-cache locks as long as its connection's timeout says."""

    #: Rows that earlier runs of a repeated `executemany` changed.
    _rows_before = 0
    #: A reset closed it with rows left to fetch. These are gone; it can be used for other ones.
    farm_ended = False
    #: What it executed last and where, if a watcher has noted it.
    farm_asked: tuple[str, Spot] = ("", ())

    @property
    def rowcount(self) -> int:
        """Rows that the last statement changed; -1 where that makes no sense."""
        return patience.rows_changed(self) + self._rows_before

    def execute(self, sql: str, parameters: Parameters = (), /) -> Self:
        """Execute one statement."""
        if self._rows_before:
            self._rows_before = 0
        try:
            _execute(self, sql, parameters)
        except sqlite3.OperationalError as error:
            again = functools.partial(_execute, self, sql, parameters)
            if not _overcome(self, error, again):
                _tell(self, sql, error)
                raise
        except sqlite3.ProgrammingError as error:
            if not self._revived():
                _tell(self, sql, error)
                raise
            return self.execute(sql, parameters)
        except sqlite3.Error as error:
            _tell(self, sql, error)
            raise
        try:
            member = self.connection.farm_member  # type: ignore[attr-defined]  # else AttributeError
        except AttributeError:
            return self
        member.recent.append(sql)
        if member.alert and member.watcher is not None:
            member.watcher.executed(self, member, sql)
        return self

    def executemany(self, sql: str, parameters: Iterable[Parameters], /) -> Self:
        """Execute one statement for each set of parameters; a repeat loses and doubles none."""
        if self._rows_before:
            self._rows_before = 0
        self._revived()
        member = _member_of(self)
        if member.alert and member.watcher is not None:
            member.watcher.begins(member, sql)
        if member.patient:
            rows = patience.Rows(self, parameters)
            try:
                _executemany(self, sql, rows)
            except sqlite3.OperationalError as error:
                again = functools.partial(rows.run_again, sql)
                if not rows.met_lock(error) or not _overcome(self, error, again):
                    _tell(self, sql, error, partly=True)
                    raise
                self._rows_before = rows.changed_before
            except sqlite3.Error as error:
                _tell(self, sql, error, partly=True)
                raise
        else:
            try:
                _executemany(self, sql, parameters)
            except sqlite3.Error as error:
                _tell(self, sql, error, partly=True)
                raise
        member.recent.append(sql)
        if member.alert and member.watcher is not None:
            member.watcher.executed(self, member, sql)
        return self

    def executescript(self, sql_script: str, /) -> Self:
        """Execute a script, statement by statement where any of them may meet a lock."""
        self._revived()
        member = _member_of(self)
        if member.alert and member.watcher is not None:
            member.watcher.begins(member, sql_script)
        try:
            if member.patient and isinstance(sql_script, str) and "\0" not in sql_script:
                patience.run_script(self, sql_script, functools.partial(_overcome, self))
            else:
                _executescript(self, sql_script)
        except sqlite3.Error as error:
            _tell(self, sql_script, error, partly=True)
            raise
        member.recent.append(sql_script)
        if member.alert and member.watcher is not None:
            member.watcher.executed(self, member, sql_script, script=True)
        return self

    def _revived(self) -> bool:
        if not self.farm_ended:
            return False
        self.farm_ended = False
        factory, size = self.row_factory, self.arraysize
        sqlite3.Cursor.__init__(self, self.connection)
        self.row_factory, self.arraysize = factory, size
        return True


class RingConnection(sqlite3.Connection):
    """A connection to a ring: sqlite3's own, with patience and a record of its life."""

    farm_member: Member

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        """Give the connection its memory before a user's `__init__` can run statements."""
        self = super().__new__(cls)
        member: Member | None = getattr(_birth, "member", None)
        _birth.member = None
        self.farm_member = member or Member(None, patient=False, timeout=0.0)
        return self

    if TYPE_CHECKING:

        def cursor(self, factory: object = ..., /) -> sqlite3.Cursor:  # type: ignore[override]  # any class or function
            """Return a cursor."""
    else:

        def cursor(self, factory=RingCursor):
            """Return a cursor; a class of the user's is blended with RingCursor."""
            if factory is not RingCursor and isinstance(factory, type):
                factory = blend(factory)
            return _cursor(self, factory)

    def execute(self, sql: str, parameters: Parameters = (), /) -> sqlite3.Cursor:
        """Execute one statement on a new cursor, which is returned."""
        # As in sqlite3 itself, a user's `cursor` method is not asked. What RingCursor.execute does
        # stands here again, as far as a new cursor needs it: this is what most programs call.
        cursor = _cursor(self, RingCursor)
        try:
            _execute(cursor, sql, parameters)
        except sqlite3.OperationalError as error:
            again = functools.partial(_execute, cursor, sql, parameters)
            if not _overcome(cursor, error, again):
                _tell(cursor, sql, error)
                raise
        except sqlite3.Error as error:
            _tell(cursor, sql, error)
            raise
        member = self.farm_member
        member.recent.append(sql)
        if member.alert and member.watcher is not None:
            member.watcher.executed(cursor, member, sql)
        return cursor

    def executemany(self, sql: str, parameters: Iterable[Parameters], /) -> sqlite3.Cursor:
        """Execute one statement for each set of parameters, on a new cursor."""
        return _cursor(self, RingCursor).executemany(sql, parameters)

    def executescript(self, sql_script: str, /) -> sqlite3.Cursor:
        """Execute a script on a new cursor."""
        return _cursor(self, RingCursor).executescript(sql_script)

    def commit(self) -> None:
        """Commit; a shared cache never refuses it, a memdb may be busy."""
        try:
            super().commit()
        except sqlite3.OperationalError as error:
            _tell_of(self, "COMMIT", error)
            raise
        _tell_end(self, committed=True)

    def rollback(self) -> None:
        """Roll back."""
        super().rollback()
        _tell_end(self, committed=False)

    def __exit__(
        self,
        type: type[BaseException] | None,  # noqa: A002  # typeshed's name
        value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> Literal[False]:
        """Commit, or roll back after an exception; the connection stays open."""
        try:
            done = super().__exit__(type, value, traceback)
        except sqlite3.OperationalError as error:
            self.farm_member.explicit = False
            if error is not value:
                _tell_of(self, "COMMIT", error)
            raise
        _tell_end(self, committed=type is None)
        return done

    if not TYPE_CHECKING:

        def blobopen(self, *args, **kwargs):
            """Open a blob."""
            return _patiently(self, functools.partial(super().blobopen, *args, **kwargs))

        def backup(self, *args, **kwargs):
            """Copy the database into another connection's."""
            return _patiently(self, functools.partial(super().backup, *args, **kwargs))

        def deserialize(self, data, /, *, name="main"):
            """Replace the database by an image: in a ring, that makes this connection private."""
            super().deserialize(data, name=name)
            if name == "main" and not self.farm_member.left:
                self.farm_member.left = True
                if self.farm_member.watcher is not None:
                    self.farm_member.watcher.left(self, self.farm_member)

        def set_authorizer(self, authorizer_callback):
            """Set the user's authorizer; a watcher that has its own calls it."""
            member = self.farm_member
            member.authorizer = authorizer_callback
            if member.notes.authorized and member.watcher is not None:
                member.watcher.authorize(self, member)
            else:
                super().set_authorizer(authorizer_callback)

        def set_trace_callback(self, trace_callback):
            """Set the user's trace callback, which sees no statement of a watcher's."""
            super().set_trace_callback(trace_callback)
            self.farm_member.traced = trace_callback is not None
            self.farm_member.tracer = trace_callback

    def __del__(self) -> None:
        """Close, since the watcher reports it, and Python need not warn."""
        if _collecting or _finalize is not None:
            try:
                sqlite3.Connection.close(self)
            except sqlite3.Error:  # another thread's
                if _finalize is not None:
                    _finalize(self)

    def close(self) -> None:
        """Close the connection; an unfinished cursor that lives on keeps its locks, though."""
        member = self.farm_member
        if member.home is not None and not member.closed:
            member.home.parting(self, member)
        if member.alert and not member.closed and member.watcher is not None:
            member.watcher.closing(self, member)
        super().close()
        if not member.closed:
            member.closed = True
            if member.home is not None:
                member.home.parted(member)


class SoloConnection(RingConnection):
    """A member that has its ring to itself, so `execute` is SQLite's own: no lock can be met.

    What is executed that way and fails, the watcher learns from whoever gets the error. It becomes
    a plain RingConnection as soon as somebody else joins the ring, or it leaves the ring.
    """

    execute = sqlite3.Connection.execute

    def accompany(self) -> None:
        """Become a member among others, for good."""
        self.__class__ = RingConnection  # type: ignore[assignment]  # a superclass, same layout

    if not TYPE_CHECKING:

        def deserialize(self, data, /, *, name="main"):
            """Replace the database by an image, which the watcher follows from now on."""
            self.accompany()
            self.deserialize(data, name=name)


_execute = sqlite3.Cursor.execute
_executemany = sqlite3.Cursor.executemany
_executescript = sqlite3.Cursor.executescript
_cursor = sqlite3.Connection.cursor
#: From Python 3.13 on a connection that is freed is closed here, and not where its memory goes.
_finalize: Callable[[sqlite3.Connection], None] | None = getattr(
    sqlite3.Connection, "__del__", None
)


def blend(theirs: type) -> type:
    """Return a class that is both the user's connection or cursor class and ours.

    A class that can't be combined, or is neither, comes back as it is.
    """
    for base, ours in ((sqlite3.Connection, RingConnection), (sqlite3.Cursor, RingCursor)):
        if theirs is base:
            return ours
        if issubclass(theirs, base):
            if issubclass(theirs, ours):
                return theirs
            return _blended(theirs, ours)
    return theirs


def _blended(theirs: type, ours: type) -> type:
    known = theirs.__dict__.get("farm_blend")
    if isinstance(known, type):
        return known
    namespace = {"__module__": theirs.__module__, "__qualname__": theirs.__qualname__}
    try:
        both: type = type(theirs)(theirs.__name__, (theirs, ours), namespace)
        # Kept on the user's class, so that the two are freed together.
        theirs.farm_blend = both  # type: ignore[attr-defined]  # ours, on their class
    except (TypeError, AttributeError):
        return theirs
    return both


def collect(generation: int = 2) -> None:
    """Run the garbage collector.

    From Python 3.13 on, freeing an open connection is a ResourceWarning, which pytest would lay at
    the next test's door, whose fault it is not. So those that are freed here are closed first.
    """
    _collecting.append(True)
    try:
        gc.collect(generation)
    finally:
        _collecting.pop()


def newborn(member: Member | None) -> None:
    """Set what the next connection that this thread makes becomes."""
    _birth.member = member


def member_of(conn: sqlite3.Connection) -> Member | None:
    """Return what is known of a connection; None if it is none of a ring's."""
    return getattr(conn, "farm_member", None)


def _member_of(cursor: sqlite3.Cursor) -> Member:
    return getattr(getattr(cursor, "connection", None), "farm_member", _NOBODY)


def _ours(cursor: sqlite3.Cursor) -> RingConnection:
    conn = cursor.connection
    assert isinstance(conn, RingConnection)
    return conn


def _overcome(cursor: sqlite3.Cursor, error: BaseException, again: Callable[[], object]) -> bool:
    member = _member_of(cursor)
    if not member.patient or not patience.is_shared_lock(error):
        return False
    budget = patience.budget_of(cursor.connection, otherwise=member.timeout, traced=member.traced)
    return patience.overcome(budget, again)


def _tell(cursor: sqlite3.Cursor, sql: str, error: sqlite3.Error, *, partly: bool = False) -> None:
    """Tell the watcher of an error that is about to reach the caller."""
    member = _member_of(cursor)
    if isinstance(sql, str):
        member.recent.append(sql)
    if member.watcher is not None and isinstance(sql, str) and not member.closed:
        member.watcher.failed(_ours(cursor), member, sql, error, partly=partly)


def _tell_of(conn: RingConnection, sql: str, error: sqlite3.Error) -> None:
    if conn.farm_member.watcher is not None:
        conn.farm_member.watcher.failed(conn, conn.farm_member, sql, error, partly=False)


def _tell_end(conn: RingConnection, *, committed: bool) -> None:
    """Tell the watcher that a transaction, if there was one, is over."""
    member = conn.farm_member
    member.explicit = False
    if member.alert and member.watcher is not None:
        member.watcher.ended(conn, member, committed=committed)


def _patiently(conn: RingConnection, operation: Callable[[], _T]) -> _T:
    """Run an operation of a connection that has no cursor, waiting for locks."""
    results: list[_T] = []
    try:
        return operation()
    except sqlite3.OperationalError as error:
        member = conn.farm_member
        is_lock = patience.is_table_lock
        if member.patient and is_lock(error):
            budget = patience.budget_of(conn, otherwise=member.timeout, traced=member.traced)
            if patience.overcome(budget, lambda: results.append(operation()), is_lock):
                return results[0]
        _tell_of(conn, "", error)
        raise
