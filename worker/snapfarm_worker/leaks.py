"""Words the anomalies of what a test leaves open, and of a ring that is locked by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from snapfarm_worker.anomaly import AnomalyKind, Severity
from snapfarm_worker.stacks import frames_of, shown

if TYPE_CHECKING:
    from snapfarm_worker.blockers import Blocker
    from snapfarm_worker.findings import Findings
    from snapfarm_worker.members import Member

_LISTED = 5


def report_cursors(findings: Findings, database: str, blockers: Sequence[Blocker]) -> None:
    """Report the cursors among what holds locks."""
    for blocker in blockers:
        if blocker.what == "cursor" and not blocker.wide:
            member = blocker.member
            findings.add(
                AnomalyKind.LEAKED_CURSOR,
                Severity.ERROR,
                database,
                f"the test leaves {blocker}",
                same=(member,),
                thread=member.thread,
                sql=blocker.sql or member.notes.last,
                stack=tuple(shown(each) for each in frames_of(blocker.where)) or member.stack,
            )


def report_blocked(findings: Findings, database: str, blockers: Sequence[Blocker]) -> None:
    """Report that a ring had to be replaced."""
    holding = [blocker for blocker in blockers if not blocker.ended]
    named = "; ".join(str(each) for each in holding[:_LISTED])
    findings.add(
        AnomalyKind.RESET_BLOCKED,
        Severity.ERROR,
        database,
        f"the ring could not be reset and was replaced by a new one, which connections made "
        f"from now on get; it is locked by {named or 'something this process can not name'}",
        thread=holding[0].member.thread if holding else "",
        stack=holding[0].member.stack if holding else (),
    )


def report_transaction(findings: Findings, database: str, member: Member, *, of_task: bool) -> None:
    """Report that a test leaves a transaction open; or a task, on the connection it was given."""
    begun = member.notes.begun
    if of_task:
        message = "the task leaves an open transaction on its connection, which was rolled back"
        same: tuple[object, ...] = (findings.test,)
    else:
        whose = "farm_db" if member.fixture else f"a connection {member.where}"
        message, same = f"the test leaves an open transaction on {whose}", (member,)
    where = () if begun is None else begun.where
    findings.add(
        AnomalyKind.LEAKED_TRANSACTION,
        Severity.ERROR,
        database,
        message,
        same=same,
        thread="" if of_task else member.thread,
        sql="" if begun is None else begun.sql,
        stack=tuple(shown(each) for each in frames_of(where)) or (() if of_task else member.stack),
        evidence=() if of_task else tuple(f"opened at {line}" for line in member.stack),
    )


def report_connection(findings: Findings, database: str, member: Member) -> None:
    """Report a connection that was freed, and that nobody has closed."""
    findings.add(
        AnomalyKind.LEAKED_CONNECTION,
        Severity.WARNING,
        database,
        f"a connection {member.where}, was never closed",
        same=(member.opened,),
        thread=member.thread,
        stack=member.stack,
    )
