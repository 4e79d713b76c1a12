"""The fork server: imports once what every worker imports, then each worker is a copy of it.

    order                     answer
    Import                    none: nobody waits for it
    Fork                      the process id of a worker
    Look                      its exit code, and it is collected; None while it runs

It has one thread, opens no database and no ZeroMQ socket, and imports nothing of the user's: so a
copy is like a process that was spawned and has just imported what a worker needs. Where something
starts threads in each process, as a tracer's `sitecustomize` does, it makes none. It ends with the
coordinator, which holds the other end of its channel; its workers go on, and see that themselves.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import os
import pickle
import select
import socket
import struct
import sys
import threading
import traceback
from pathlib import Path
from typing import NoReturn, TypeAlias, cast

import msgspec

from snapfarm_worker import boot

#: How often the server looks whether the coordinator is still there, seconds: a process that was
#: forked from the coordinator may hold the channel open.
_LOOK = 1.0
_LENGTH = struct.Struct("!Q")


class Import(msgspec.Struct, frozen=True):
    """Import more, before the next worker is made."""

    modules: tuple[str, ...]


class Fork(msgspec.Struct, frozen=True):
    """Make a worker; `preparation` is that of a spawned process.

    `role` is what a spawned process would read: only the copy unpacks it, which may import what is
    the user's.
    """

    preparation: boot.Preparation
    role: bytes
    umask: int


class Look(msgspec.Struct, frozen=True):
    """Collect a worker that has ended."""

    pid: int


class Serving(msgspec.Struct, frozen=True):
    """What a server is started with: its end of the channel, and what to import."""

    channel: int
    coordinator: int
    modules: tuple[str, ...]

    def run(self) -> NoReturn:
        """Serve until the coordinator hangs up."""
        # Ctrl-C goes to all processes of a terminal: what it means, the coordinator decides.
        os.setsid()
        _import(self.modules)
        fresh = True
        # Who hangs up with an answer unread, or is killed then, has hung up all the same.
        with socket.socket(fileno=self.channel) as channel, contextlib.suppress(ConnectionError):
            while _readable(channel, self.coordinator) and (data := receive(channel)) is not None:
                order = cast("Order", pickle.loads(data))
                if isinstance(order, Import):
                    _import(order.modules)
                    fresh = True
                    continue
                if fresh:
                    # What is here stays: no copy has to look through it for garbage.
                    gc.collect()
                    gc.freeze()
                    fresh = False
                send(channel, pickle.dumps(_answer(order, channel)))
        os._exit(0)


Order: TypeAlias = Import | Fork | Look


def _import(modules: tuple[str, ...]) -> None:
    for name in modules:
        # What can't be imported is told by the worker that needs it.
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def send(channel: socket.socket, data: bytes) -> None:
    """Send an order or an answer, pickled. Raises OSError."""
    channel.sendall(_LENGTH.pack(len(data)) + data)


def receive(channel: socket.socket) -> bytes | None:
    """Return what was sent; None if the other side has hung up. Raises OSError."""
    length = _exactly(channel, _LENGTH.size)
    return None if length is None else _exactly(channel, _LENGTH.unpack(length)[0])


def _exactly(channel: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        piece = channel.recv(min(size - len(data), 1 << 20))
        if not piece:
            return None
        data += piece
    return bytes(data)


def _readable(channel: socket.socket, coordinator: int) -> bool:
    """Wait for an order; return False once the coordinator is gone."""
    poller = select.poll()
    poller.register(channel, select.POLLIN)
    while not poller.poll(_LOOK * 1000):
        if os.getppid() != coordinator:
            return False
    return True


def _answer(order: Fork | Look, channel: socket.socket) -> object:
    match order:
        case Fork():
            if _threads() > 1:
                # A copy would lack them, and have their locks as they are at this moment.
                return OSError(errno.ENOTSUP, "the fork server has threads")
            try:
                pid = os.fork()
            except OSError as error:
                return error
            if pid == 0:
                channel.close()
                _be(order)
            return pid
        case Look(pid=pid):
            try:
                found, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError as error:
                return error
            return os.waitstatus_to_exitcode(status) if found else None


def _threads() -> int:
    """Return how many threads this process has, those that Python knows nothing of among them."""
    try:
        return sum(1 for _ in Path("/proc/self/task").iterdir())
    except OSError:
        return threading.active_count()


def _be(order: Fork) -> NoReturn:
    """Be a worker."""
    try:
        os.umask(order.umask)
        boot.prepare(order.preparation)
        # The server may have looked into folders whose files are others by now.
        importlib.invalidate_caches()
        boot.work(cast("boot.Role", pickle.loads(order.role)).run)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(1)
