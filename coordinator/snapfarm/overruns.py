"""The reports of a test that passed its time limit, and then ended after all: it has failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import msgspec

from snapfarm.happenings import Overran
from snapfarm_worker import plain, wire


def failed(message: wire.ItemFinished, limit: float, late: Sequence[Overran]) -> wire.ItemFinished:
    """Return the message with its call, or what there is instead, failed for its time.

    A report that had failed by itself keeps its own reason. The stacks of the moment in which the
    limit was passed go with it.
    """
    reports = cast("list[dict[str, object]]", plain.decode(message.reports))
    calls = [report for report in reports if report.get("when") == "call"]
    report = next(iter(calls or reports), None)
    if report is None:
        return message
    if report["outcome"] != "failed":
        report["outcome"] = "failed"
        report["longrepr"] = (
            f"the item passed the time limit of {limit:g} s: it ended after {message.seconds:.3g} s"
        )
        report.pop("wasxfail", None)
    stacks = "\n".join(each.stacks for each in late if each.stacks)
    sections = [*cast("Sequence[object]", report.get("sections") or ())]
    if stacks:
        sections.append(("Stacks of all threads when its time was over", stacks))
    report["sections"] = sections
    return msgspec.structs.replace(message, reports=plain.encode(reports, plain.describe))
