"""Errors keep their class, text and fields on the way to another process."""

from __future__ import annotations

import copy
import pickle

import pytest

from snapfarm.errors import (
    ConfigError,
    DispatchError,
    FarmError,
    PoolBroken,
    SnapshotUnknown,
    StoreFull,
    TaskTimeout,
    WorkerCrashed,
)

ERRORS = [
    ConfigError("a key"),
    StoreFull("shop", 5, 3, 4),
    SnapshotUnknown("0123456789abcdef", "shop"),
    DispatchError("what", ("then", "this")),
    PoolBroken("no worker"),
    TaskTimeout("f[1]", "gw0", 2.0, "stacks"),
    WorkerCrashed("f[1]", "gw0", "signal SIGKILL", exit_code=-9, output="words", retryable=True),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_after_pickling_and_copying(error: FarmError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert again.args == error.args
        assert vars(again) == vars(error)
