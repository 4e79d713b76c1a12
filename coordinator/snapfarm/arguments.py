"""Command lines of which most is pytest's: `farm run` and `farm compare`."""

from __future__ import annotations

import re
from collections.abc import Iterable

import click

#: Short options of pytest with more letters behind the dash: `-rA`, `-ktest_hello`, `-pno:cov`.
_CLUSTER = re.compile(r"-[^-n]..*", re.DOTALL)
#: Put before such an argument: click would look for its own `-n` and `-h` among the letters.
_PROTECTED = "\0"


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
