"""What commands share: command lines of which most is pytest's, times, and how they fail."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import NoReturn

import click

from snapfarm.errors import EXIT_USAGE, UserError

#: Short options of pytest with more letters behind the dash: `-rA`, `-ktest_hello`, `-pno:cov`.
_CLUSTER = re.compile(r"-[^-n]..*", re.DOTALL)
#: Put before such an argument: click would look for its own `-n` and `-h` among the letters.
_PROTECTED = "\0"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class PytestCommand(click.Command):
    """A command that leaves all short options but `-n` and `-h` to pytest."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse arguments of which most are pytest's."""
        return super().parse_args(
            ctx, [_PROTECTED + arg if _CLUSTER.fullmatch(arg) else arg for arg in args]
        )


def unprotected(arguments: Iterable[str]) -> tuple[str, ...]:
    """Return the arguments for pytest that such a command was given, as they were."""
    return tuple(arg.removeprefix(_PROTECTED) for arg in arguments)


def span(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Return a time like 90s, 10m, 2h or 30d in seconds: the callback of an option."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", value.strip())
    if found is None:
        raise click.BadParameter(f"{value!r} is no time: write 90s, 10m, 2h or 30d", ctx, param)
    return float(found[1]) * _UNITS[found[2]]


def fail(error: UserError | str) -> NoReturn:
    """End a command with what its user can mend."""
    click.echo(f"farm: {error}", err=True)
    sys.exit(EXIT_USAGE)
