"""Sees threads and processes that tests start.

    what                  how it is seen
    a thread              `threading.Thread.start` notes where it was started
    a forked process      Python itself calls us in the child, which tells of rings through a pipe
    any other process     `subprocess.Popen`, `os.system`, `os.posix_spawn`, multiprocessing's
                          `Process` and `ProcessPoolExecutor.submit` show what it is given

An audit hook would see all of it, but Python then calls the hook for every `id()`, too.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import ParamSpec, Protocol, TypeVar

from snapfarm_worker.stacks import Frame, place

_P = ParamSpec("_P")
_T = TypeVar("_T")

#: A pipe takes so many bytes in one piece, whoever else writes.
_LINE = 4000
#: How far inside of its arguments an address is looked for.
_DEPTH = 4
_SHOWN = 200
#: Who ends threads when it wants to: the threads of a pool's connections, and the one on which
#: asgiref runs what is not asynchronous, for the rest of the process.
_KEEPERS = (f"{os.sep}sqlalchemy{os.sep}", f"{os.sep}asgiref{os.sep}")


class Observer(Protocol):
    """What is told of threads and processes; nothing that it does may raise."""

    def thread_started(self, thread: threading.Thread, frames: tuple[Frame, ...]) -> None:
        """A thread is about to start; without frames no code of the project's has to do with it."""

    def process_started(self, command: str, given: tuple[str, ...]) -> None:
        """A process is about to start, other than by fork; `given` are its new texts."""

    def forked(self) -> None:
        """This is a forked child."""


_observers: weakref.WeakSet[Observer] = weakref.WeakSet()
_installs = 0
_install_lock = threading.Lock()
#: What was patched: whose, its name, what it was, what it is.
_patched: list[tuple[object, str, object, object]] = []


def observe(observer: Observer) -> None:
    """Tell an observer from now on; each call needs its `ignore()`."""
    global _installs  # the patch is as global as what it patches
    with _install_lock:
        _observers.add(observer)
        _installs += 1
        if _installs == 1:
            _patch(threading.Thread, "start", _start)
            _patch(subprocess.Popen, "__init__", _popen)
            for name in ("system", "posix_spawn", "posix_spawnp"):
                if hasattr(os, name):
                    _patch(os, name, _system if name == "system" else _spawn)
            _watch_late_modules()


def look_again() -> None:
    """Look for modules that a program has imported since, and that start processes."""
    if any(module in sys.modules for module in _unwatched):
        with _install_lock:
            if _installs:
                _watch_late_modules()


def _watch_late_modules() -> None:
    """Patch what is too expensive to import for those who don't need it."""
    for module, (owner, name, make) in _LATE.items():
        if module in _unwatched and (found := getattr(sys.modules.get(module), owner, None)):
            _unwatched.discard(module)
            _patch(found, name, make)


def ignore(observer: Observer) -> None:
    """Tell an observer no more; what somebody else has patched since stays."""
    global _installs
    with _install_lock:
        _observers.discard(observer)
        _installs = max(0, _installs - 1)
        if _installs == 0:
            while _patched:
                owner, name, original, ours = _patched.pop()
                if vars(owner).get(name) is ours:
                    setattr(owner, name, original)
            _unwatched.update(_LATE)


def _patch(
    owner: object, name: str, make: Callable[[Callable[..., object]], Callable[..., object]]
) -> None:
    original = vars(owner)[name]
    ours = make(original)
    setattr(owner, name, ours)
    _patched.append((owner, name, original, ours))


def _told(observers: Iterator[Observer], tell: Callable[[Observer], None]) -> None:
    for observer in observers:
        with contextlib.suppress(Exception):
            tell(observer)


def _everybody() -> Iterator[Observer]:
    return iter(list(_observers))


def _start(original: Callable[_P, _T]) -> Callable[_P, _T]:
    @functools.wraps(original)
    def start(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        thread = args[0] if args else None
        if isinstance(thread, threading.Thread):
            frames = place(unless=_KEEPERS)
            _told(_everybody(), lambda observer: observer.thread_started(thread, frames))
        return original(*args, **kwargs)

    return start


def _popen(original: Callable[_P, _T]) -> Callable[_P, _T]:
    @functools.wraps(original)
    def init(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        command = args[1] if len(args) > 1 else kwargs.get("args", "")
        # Its place among the positional arguments is that of the documentation.
        environment = args[11] if len(args) > 11 else kwargs.get("env")
        _tell_command(command, environment)
        return original(*args, **kwargs)

    return init


def _system(original: Callable[_P, _T]) -> Callable[_P, _T]:
    @functools.wraps(original)
    def system(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        _tell_command(args[0] if args else kwargs.get("command", ""), None)
        return original(*args, **kwargs)

    return system


def _spawn(original: Callable[_P, _T]) -> Callable[_P, _T]:
    @functools.wraps(original)
    def spawn(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        if len(args) > 2:
            _tell_command(args[1], args[2])
        return original(*args, **kwargs)

    return spawn


def _tell_command(command: object, environment: object) -> None:
    try:
        words = [command] if isinstance(command, str | bytes | os.PathLike) else list(command)  # type: ignore[call-overload]  # whatever Popen takes
        texts = [os.fsdecode(word) for word in words]
        given = list(texts)
        if isinstance(environment, Mapping):
            # What it would inherit anyway says nothing of what it is for.
            given += [
                os.fsdecode(value)
                for name, value in environment.items()
                if os.environ.get(os.fsdecode(name)) != os.fsdecode(value)
            ]
    except (TypeError, ValueError):
        return
    shown = " ".join(texts)[:_SHOWN]
    _told(_everybody(), lambda observer: observer.process_started(shown, tuple(given)))


def _process(original: Callable[_P, _T]) -> Callable[_P, _T]:
    @functools.wraps(original)
    def start(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        with contextlib.suppress(Exception):
            process = vars(args[0])
            method = getattr(args[0], "_start_method", None)
            _tell_python(method, process["_name"], (process["_args"], process["_kwargs"]))
        return original(*args, **kwargs)

    return start


def _submit(original: Callable[_P, _T]) -> Callable[_P, _T]:
    @functools.wraps(original)
    def submit(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        with contextlib.suppress(Exception):
            context = vars(args[0])["_mp_context"]
            _tell_python(context.get_start_method(), "ProcessPoolExecutor", (args[1:], kwargs))
        return original(*args, **kwargs)

    return submit


def _tell_python(method: str | None, name: str, given: object) -> None:
    """Tell of what a process of multiprocessing's is given; one that is forked tells itself."""
    from multiprocessing import get_start_method

    if (method or get_start_method()) != "fork":
        texts = tuple(_texts(given, _DEPTH))
        _told(_everybody(), lambda observer: observer.process_started(name, texts))


def _texts(given: object, depth: int) -> Iterator[str]:
    """Return the texts in plain containers, as far inside as is worth it."""
    if isinstance(given, str | bytes | os.PathLike):
        yield os.fsdecode(given)
    elif depth and isinstance(given, tuple | list | dict):
        for each in given.values() if isinstance(given, dict) else given:
            yield from _texts(each, depth - 1)


#: By module: the class and the method of it that start processes, and what stands in.
_LATE: dict[str, tuple[str, str, Callable[[Callable[..., object]], Callable[..., object]]]] = {
    "multiprocessing.process": ("BaseProcess", "start", _process),
    "concurrent.futures.process": ("ProcessPoolExecutor", "submit", _submit),
}
#: Those that are not patched, as nobody has imported them yet.
_unwatched = set(_LATE)


class Mailbox:
    """A pipe from forked children to the process that has the ring."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._ends: tuple[int, int] | None = None

    def hang_out(self) -> None:
        """Open it when this process forks, until it is closed."""
        _mailboxes.add(self)

    def open(self) -> None:
        """Make the pipe, if there is none yet."""
        if self._ends is None and os.getpid() == self._owner:
            self._ends = os.pipe()
            for end in self._ends:
                os.set_blocking(end, False)

    def post(self, **facts: str) -> None:
        """Send from a child; what the pipe has no room for is lost."""
        if self._ends is None:
            return
        line = json.dumps(facts | {"pid": str(os.getpid()), "argv": _argv()}) + "\n"
        if len(line) < _LINE:
            with contextlib.suppress(OSError):
                os.write(self._ends[1], line.encode())

    def take(self) -> list[dict[str, str]]:
        """Return what children have sent."""
        if self._ends is None:
            return []
        data = b""
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self._ends[0], 1 << 16):
                data += piece
        return [json.loads(line) for line in data.splitlines()]

    def close(self) -> None:
        """Close the pipe."""
        _mailboxes.discard(self)
        ends, self._ends = self._ends, None
        for end in ends or ():
            with contextlib.suppress(OSError):
                os.close(end)


_mailboxes: weakref.WeakSet[Mailbox] = weakref.WeakSet()


def _argv() -> str:
    return " ".join(sys.argv)[:_SHOWN]


def _before_fork() -> None:
    for mailbox in list(_mailboxes):
        with contextlib.suppress(OSError):
            mailbox.open()


def _after_fork() -> None:
    _told(_everybody(), lambda observer: observer.forked())


os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
