"""How many more files this process may open, found out without opening any.

Taking them for a moment would tell as well, and take the last one from another thread: ZeroMQ's
aborts the process when it finds none to accept a connection by.
"""

from __future__ import annotations

import errno
import os


def require_descriptors(count: int) -> None:
    """Raise OSError (EMFILE) unless this process may open so many more files."""
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
