"""Whether there is room for more files, asked without taking it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from snapfarm.launch.descriptors import require_descriptors


def test_nobody_else_goes_short_while_it_is_asked() -> None:
    """Not for a moment: where there is no descriptor left, ZeroMQ aborts the process."""
    program = textwrap.dedent(
        """
        import os, resource, sys, threading
        from snapfarm.launch.descriptors import require_descriptors

        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        sys.setswitchinterval(1e-6)
        asked = threading.Event()
        short = []

        def opens_files():
            while not asked.is_set():
                try:
                    os.close(os.dup(0))
                except OSError as error:
                    short.append(error)

        other = threading.Thread(target=opens_files)
        other.start()
        refused = 0
        for _ in range(2_000):
            try:
                require_descriptors(100)
            except OSError:
                refused += 1
        asked.set()
        other.join()
        print(refused, len(short))
        """
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout.split() == ["2000", "0"], ran.stderr


def test_it_counts_what_is_free_between_open_ones() -> None:
    program = textwrap.dedent(
        """
        import os, resource
        from snapfarm.launch.descriptors import require_descriptors

        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        room = 0
        while True:
            try:
                require_descriptors(room + 1)
            except OSError:
                break
            room += 1
        taken = []
        while True:
            try:
                taken.append(os.dup(0))
            except OSError:
                break
        os.close(taken.pop(3))
        os.close(taken.pop(5))
        require_descriptors(2)
        try:
            require_descriptors(3)
        except OSError as error:
            print(room == len(taken) + 2, error)
        """
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout == (
        "True [Errno 24] Too many open files (the limit is 64, see ulimit -n)\n"
    ), ran.stderr


def test_without_a_limit_there_is_room_for_any_number(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="Too many open files"):
        require_descriptors(os.sysconf("SC_OPEN_MAX"))
    monkeypatch.setattr(os, "sysconf", {"SC_OPEN_MAX": -1}.__getitem__)
    require_descriptors(10**9)
