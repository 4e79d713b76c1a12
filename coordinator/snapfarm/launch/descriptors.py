"""The descriptors of this process: how many are free, and that none of ours is a standard one."""

from __future__ import annotations

import errno
import os

_STANDARD = (0, 1, 2)


def take_standard_ones() -> None:
    """Open the null device where standard input, output or error was closed, as in a daemon.

    A socket of ours would get that number otherwise, and pytest puts files of its own there.
    """
    for descriptor in _STANDARD:
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest that is free.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def require_descriptors(count: int) -> None:
    """Raise OSError (EMFILE) unless this process may open so many more files.

    None is opened to find that out: it might be the last one, and ZeroMQ's thread aborts the
    process when it finds none to accept a connection by.
    """
    limit = os.sysconf("SC_OPEN_MAX")
    if limit < 0:  # there is none
        return
    free = 0
    for descriptor in range(limit):
        if free >= count:
            return
        try:
            os.get_inheritable(descriptor)
        except OSError:
            free += 1
    if free < count:
        message = f"{os.strerror(errno.EMFILE)} (the limit is {limit}, see ulimit -n)"
        raise OSError(errno.EMFILE, message)
