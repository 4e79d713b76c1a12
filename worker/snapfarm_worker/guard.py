"""Keeps sensors from breaking tests: one that fails says so once, and is off from then on."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from snapfarm_worker.warning import warn

_P = ParamSpec("_P")


class Switches:
    """Which of the sensors of a process are off, by the name of the method that failed."""

    def __init__(self) -> None:
        self.off: set[str] = set()

    def turn_off(self, name: str, error: Exception) -> None:
        """Never call a sensor again that has failed; say so."""
        if name in self.off:
            return
        self.off.add(name)
        warn(
            f"the sensor {name!r} failed and is off from now on, please report it: "
            f"{type(error).__name__}: {error}"
        )


class Guarded(Protocol):
    """An object with sensors."""

    @property
    def switches(self) -> Switches:
        """What is off."""


_G = TypeVar("_G", bound=Guarded)


def guarded(
    method: Callable[Concatenate[_G, _P], None],
) -> Callable[Concatenate[_G, _P], None]:
    """Turn a sensor off when it raises."""
    name = method.__name__

    @functools.wraps(method)
    def guard(self: _G, *args: _P.args, **kwargs: _P.kwargs) -> None:
        if name in self.switches.off:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self.switches.turn_off(name, error)

    return guard  # type: ignore[return-value]  # functools.wraps names the first parameter
