"""Of the stacks of a crash, a test's own frames are shown."""

from __future__ import annotations

from snapfarm.stacktext import without_machinery

STACKS = """Fatal Python error: Aborted

Thread 0x00007f008eca66c0 (most recent call first):
  File "/site/snapfarm_worker/link.py", line 202 in _run

Thread 0x00007f008eca66c1 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 327 in wait
  File "/home/me/shop/cart.py", line 3 in pump

Current thread 0x00007f00923feb80 (most recent call first):
  File "/home/me/shop/tests/test_shop.py", line 20 in test_kills
  File "/site/_pytest/python.py", line 187 in pytest_pyfunc_call
  File "/site/pluggy/_execution.py", line 147 in _multicall
  File "/home/me/shop/conftest.py", line 8 in around
  File "/site/snapfarm_worker/items.py", line 218 in _run
  File "<string>", line 1 in <module>

Extension modules: msgspec._core (total: 1)
"""


def test_frames_of_pytest_and_the_farm_are_counted_and_idle_threads_left_out() -> None:
    assert (
        without_machinery(STACKS)
        == """Fatal Python error: Aborted

Thread 0x00007f008eca66c1 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 327 in wait
  File "/home/me/shop/cart.py", line 3 in pump

Current thread 0x00007f00923feb80 (most recent call first):
  File "/home/me/shop/tests/test_shop.py", line 20 in test_kills
  … 2 frames of pytest and the farm
  File "/home/me/shop/conftest.py", line 8 in around
  … 2 frames of pytest and the farm

Extension modules: msgspec._core (total: 1)
"""
    )


def test_the_thread_that_crashed_is_shown_whatever_it_ran() -> None:
    text = """Current thread 0x01 (most recent call first):
  File "/site/snapfarm_worker/link.py", line 202 in _run
"""
    assert (
        without_machinery(text)
        == """Current thread 0x01 (most recent call first):
  … 1 frame of pytest and the farm
"""
    )


def test_what_are_no_stacks_stays_as_it_is() -> None:
    for text in ("", "one\n", "one\n\n\ntwo", '  File "cut'):
        assert without_machinery(text) == text
