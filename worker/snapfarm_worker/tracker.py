"""Keeps multiprocess's resource tracker honest in a process that was started without one."""

from __future__ import annotations

import sys


def forget_resource_tracker() -> None:
    """Let multiprocess start a tracker when somebody here first needs one.

    The farm starts its processes with a descriptor in the tracker's place that leads nowhere. Code
    that uses multiprocess's semaphores or shared memory later shall find a real one.
    """
    tracker = sys.modules.get("multiprocess.resource_tracker")
    if tracker is not None:
        # multiprocess has no public way; None is its own mark for "not running".
        tracker._resource_tracker._fd = None  # noqa: SLF001  # no public way
