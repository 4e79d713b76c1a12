"""Parts of the standard library as they were before any test could replace them.

Our code runs beside tests, on a thread of its own and in hooks. A test that patches
`time.monotonic` with three values means its own three calls, and who replaces `os._exit` or all
locks (gevent) does not mean ours.
"""

from __future__ import annotations

import _thread
import functools
import os
import queue
import select
import time

#: Seconds of a clock that only goes forward. Made of a call that no tool for frozen time replaces,
#: and no function of `time` itself: freezegun looks for those in all modules.
monotonic = functools.partial(time.clock_gettime, time.CLOCK_MONOTONIC)

#: Waits for descriptors. pyzmq's own poller reads a clock in Python, which can be frozen.
new_poll = select.poll

exit_now = os._exit
kill = os.kill

new_lock = _thread.allocate_lock
#: A thread that `threading` does not list: tests count those that they have left behind, and gevent
#: can't patch a process that has two.
start_thread = _thread.start_new_thread
SimpleQueue = queue.SimpleQueue
