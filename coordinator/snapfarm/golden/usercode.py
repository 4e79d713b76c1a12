"""Code of the user in the builder process: how it is found, how it failed, what it leaves behind.

`title` is how messages name the builder, with the key that it comes from: `metadata app.models:Db`.
"""

from __future__ import annotations

import importlib
import os
import sqlite3
import sys
import traceback
from pathlib import Path

from snapfarm.errors import GoldenBuildError
from snapfarm.golden.checks import leave_wal_mode
from snapfarm.golden.sources import is_installed

#: A traceback of user code is cut to its last lines; the frame that failed is among them.
_TRACEBACK_LINES = 30

_HERE = str(Path(__file__).parent) + os.sep


def attribute(title: str, name: str, root: Path) -> object:
    """Return what `module:attribute.path` is, the module imported. Raises GoldenBuildError."""
    module_name, _, path = name.partition(":")
    try:
        found: object = importlib.import_module(module_name)
    except BaseException as error:
        if isinstance(error, ModuleNotFoundError) and error.name in _parents(module_name):
            raise GoldenBuildError(
                f"{title}: there is no module {error.name!r} in {root} nor on sys.path"
            ) from None
        raise GoldenBuildError(
            f"{title}: importing {module_name} {raised(error)}\n{user_traceback(error)}"
        ) from None
    for word in path.split("."):
        if not hasattr(found, word):
            where = getattr(sys.modules[module_name], "__file__", None) or module_name
            raise GoldenBuildError(f"{title}: {where} has no {path!r}")
        found = getattr(found, word)
    return found


def raised(error: BaseException) -> str:
    """Say in words what user code raised."""
    if isinstance(error, SystemExit):
        return f"called sys.exit({error.code!r})"
    try:
        text = str(error)
    except Exception:  # the text is code of the user too
        text = ""
    return f"raised {type(error).__name__}" + (f": {text}" if text else "")


def user_traceback(error: BaseException) -> str:
    """Return the last lines of a traceback, without the frames that led to user code."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(_HERE):
        frame = frame.tb_next
    lines = "".join(traceback.format_exception(type(error), error, frame)).rstrip().splitlines()
    return "\n".join(f"  {line}" for line in lines[-_TRACEBACK_LINES:])


def project_traceback(error: BaseException) -> str:
    """Return a traceback without the frames of libraries, which can be dozens."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [
        frame
        for frame in frames
        if not frame.filename.startswith((_HERE, "<")) and not is_installed(Path(frame.filename))
    ]
    lines = "".join(
        [*traceback.format_list(ours), *traceback.format_exception_only(error)]
    ).splitlines()
    return "\n".join(f"  {line}" for line in lines[-_TRACEBACK_LINES:])


def reclaim(conn: sqlite3.Connection, title: str) -> bool:
    """Bring the connection back to autocommit mode without handlers; return whether it committed.

    Raises GoldenBuildError where user code has closed it, or left what can't be committed.
    """
    try:
        left_open = conn.in_transaction
        # Handlers would have a say in the checks, and in the builders that follow.
        conn.set_authorizer(None)
        conn.set_progress_handler(None, 0)
        conn.set_trace_callback(None)
    except sqlite3.ProgrammingError:
        raise GoldenBuildError(
            f"{title} closed the connection that it was given: leave it open"
        ) from None
    leave_wal_mode(conn)
    try:
        conn.commit()
    except sqlite3.Error as error:
        raise GoldenBuildError(
            f"{title} left a transaction open that can't be committed: {error}"
        ) from None
    conn.isolation_level = None
    conn.row_factory = None
    conn.text_factory = str
    return left_open


def _parents(module: str) -> set[str]:
    words = module.split(".")
    return {".".join(words[: count + 1]) for count in range(len(words))}
