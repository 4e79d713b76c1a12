"""Turns what workers send back into pytest's own objects, and crashes into reports."""

from __future__ import annotations

import builtins
import importlib
import sys
import warnings
from typing import TYPE_CHECKING, cast

import pytest

from snapfarm.hub import Died, KillReason
from snapfarm_worker import plain
from snapfarm_worker.blackbox import Phase

if TYPE_CHECKING:
    from snapfarm.node import WorkerNode
    from snapfarm_worker.wire import Location

_PHASE_NAMES = {Phase.SETUP: "setup", Phase.CALL: "call", Phase.TEARDOWN: "teardown"}


def reports(config: pytest.Config, data: bytes) -> list[pytest.TestReport | pytest.CollectReport]:
    """Return the reports in an encoded list, made by pytest's own hook."""
    return [
        config.hook.pytest_report_from_serializable(config=config, data=serialized)
        for serialized in cast("list[dict[str, object]]", plain.decode(data))
    ]


def item_reports(
    config: pytest.Config, data: bytes, node: WorkerNode, testrun: str, index: int
) -> list[pytest.TestReport]:
    """Return the reports of an item, with the attributes that plugins know from xdist."""
    found = cast("list[pytest.TestReport]", reports(config, data))
    for report in found:
        vars(report).update(
            node=node, worker_id=node.gateway.id, testrun_uid=testrun, item_index=index
        )
    return found


def warning_message(data: bytes) -> warnings.WarningMessage:
    """Return a warning as pytest records it.

    Its category is the class that the worker saw if it can be found here, else `UserWarning`.
    """
    fields = cast("dict[str, object]", plain.decode(data))
    module, name = cast("tuple[str, str]", fields["category"])
    category = _warning_class(module, name)
    text = str(fields["message"])
    message: Warning
    try:
        message = category(*cast("tuple[object, ...]", fields["args"]))
        if str(message) != text:
            message = category(text)
    except Exception:
        message, category = UserWarning(f"{name}: {text}"), UserWarning
    return warnings.WarningMessage(
        message,
        category,
        str(fields["filename"]),
        cast("int", fields["lineno"]),
        line=cast("str | None", fields["line"]),
    )


def _warning_class(module: str, name: str) -> type[Warning]:
    """Find a warning class without importing anything new but what is in pytest or built in."""
    if module.partition(".")[0] in {"pytest", "_pytest"}:
        importlib.import_module(module)
    found: object = sys.modules.get(module, builtins)
    for part in name.split("."):
        found = getattr(found, part, None)
    if isinstance(found, type) and issubclass(found, Warning):
        return found
    return UserWarning


def crash_report(
    nodeid: str, location: Location, died: Died, seconds: float, limit: float
) -> pytest.TestReport:
    """Return the report of an item that killed its worker, with all that is known of its end."""
    phase = _PHASE_NAMES.get(died.record.phase, "run")
    lines = [f"worker {died.worker!r} crashed while running {nodeid!r}"]
    match died.killed:
        case KillReason.TIMEOUT:
            lines = [
                f"worker {died.worker!r} was killed while running {nodeid!r}",
                f"in its {phase} phase the item passed the time limit of {limit:g} s",
            ]
            if not died.stacks:
                lines.append("it wrote no stacks: its process did not react to signals")
        case KillReason.STOPPED:
            lines.append(
                f"in its {phase} phase its process was stopped (SIGSTOP?) and gave no sign of life"
            )
        case _:
            lines.append(f"in its {phase} phase its process ended with {died.cause}")
    sections = [
        (title, text)
        for title, text in (
            ("Stacks of all threads", died.stacks),
            ("Captured stdout of the last moments", died.captured_output),
            ("Captured stderr of the last moments", died.captured_errors),
            ("Uncaptured output of the worker", died.printed),
        )
        if text
    ]
    return pytest.TestReport(
        nodeid=nodeid,
        location=location,
        keywords={nodeid: 1},
        outcome="failed",
        longrepr="\n".join(lines),
        when="call",
        sections=sections,
        duration=seconds,
        start=0.0,
        stop=0.0,
    )
