"""The decorator of functions that make a declared layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

_F = TypeVar("_F", bound=Callable[..., object])


def layer(
    name: str,
    *,
    on: str | None = None,
    database: str | None = None,
    inputs: Sequence[str] = (),
    env: Sequence[str] = (),
    timeout: float = 600.0,
) -> Callable[[_F], _F]:
    """Declare that a function makes a layer: a named state that tests can begin with.

    The function gets a connection to a copy of the layer `on` (None: of the golden database), adds
    rows and commits. It is called once for many runs, in a process of its own, so it stands at the
    top level of a module that the key `layer_modules` of the configuration names. That module is
    read, not imported, to find it: the arguments have to be literal.

    `database` is the golden database, if it is not the default and there is no `on`. `inputs`,
    patterns of files relative to the project, and `env`, names of variables, tell what the function
    reads besides, and `timeout` is in seconds, as for a golden database.

    Raises TypeError where it is used without a name.
    """
    del on, database, inputs, env, timeout  # they are read from the source
    if not isinstance(name, str):
        raise TypeError('a layer needs a name: write @snapfarm.layer("with_orders")')

    def declared(function: _F) -> _F:
        return function

    return declared
