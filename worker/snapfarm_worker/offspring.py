"""Reports threads that a test leaves running, and processes that open a ring of another one."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING

from snapfarm_worker import spawned
from snapfarm_worker.anomaly import AnomalyKind, Severity
from snapfarm_worker.guard import Switches, guarded
from snapfarm_worker.membership import Member
from snapfarm_worker.stacks import Frame, shown

if TYPE_CHECKING:
    from snapfarm_worker.findings import Findings
    from snapfarm_worker.inventory import RingWatch

#: Seconds that a thread which is about to end gets, once.
_GRACE = 0.01
_FRAMES = 5
_STATEMENT = 500


class Offspring:
    """What tests start: threads of this process, and other processes."""

    def __init__(
        self, findings: Findings, watches: Mapping[str, RingWatch], switches: Switches
    ) -> None:
        self._findings = findings
        self._watches = watches
        self.switches = switches
        self._mailbox = spawned.Mailbox()
        #: Threads that the present test has started, with the place.
        self._threads: weakref.WeakKeyDictionary[threading.Thread, tuple[Frame, ...]] = (
            weakref.WeakKeyDictionary()
        )
        #: Whether a fixture that outlives the test is being set up.
        self.in_wide_fixture = False
        #: Whether this process was forked from the one that has the rings.
        self.is_child = False

    def open(self) -> None:
        """Begin to watch."""
        self._mailbox.hang_out()
        spawned.observe(self)

    def close(self) -> None:
        """Watch no more."""
        spawned.ignore(self)
        self._mailbox.close()

    def begin(self) -> None:
        """A test begins; where a forked child runs tests, it has rings of its own."""
        self._threads.clear()
        self.is_child = False
        spawned.look_again()

    # ------------------------------------------------------------ what `spawned` tells

    @guarded
    def thread_started(self, thread: threading.Thread, frames: tuple[Frame, ...]) -> None:
        """Note a thread of the test's."""
        if frames and self._findings.test and not self.in_wide_fixture:
            self._threads[thread] = frames

    @guarded
    def process_started(self, command: str, given: tuple[str, ...]) -> None:
        """Report a process that is given the address of a ring."""
        for name, watch in self._watches.items():
            if self._findings.test and any(watch.ring.key in text for text in given):
                self._findings.add(
                    AnomalyKind.FOREIGN_PROCESS,
                    Severity.WARNING,
                    name,
                    "another process was given the address of the ring, which in it means another, "
                    f"empty database: {command}",
                    same=(command,),
                )

    @guarded
    def forked(self) -> None:
        """This is a forked child: what it does with a ring is only told to the parent."""
        self.is_child = True
        for watch in self._watches.values():
            for member in watch.ring.members():
                member.alert = True

    # ------------------------------------------------------------ what sensors ask for

    def tell_parent(self, member: Member, what: str, sql: str = "") -> None:
        """Tell the process that has the ring what this child does, once for a connection."""
        if member.notes.forked:
            return
        member.notes.forked = True
        self._mailbox.post(
            database=member.home.database if member.home is not None else "",
            test=self._findings.test,
            what=what,
            thread=member.thread,
            sql=sql[:_STATEMENT],
            stack="\n".join(shown(frame) for frame in member.opened[:_FRAMES]),
        )

    def report(self) -> None:
        """Report what the test leaves running, and what children have told."""
        for thread, frames in list(self._threads.items()):
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(_GRACE)
            if thread.is_alive():
                self._findings.add(
                    AnomalyKind.LEAKED_THREAD,
                    Severity.WARNING,
                    "",
                    f"thread {thread.name!r}, which the test has started, still runs",
                    same=(thread.ident,),
                    thread=thread.name,
                    stack=tuple(shown(frame) for frame in frames),
                )
        for note in self._mailbox.take():
            self._findings.add(
                AnomalyKind.FOREIGN_PROCESS,
                Severity.ERROR,
                note["database"],
                f"process {note['pid']}, forked by {note['test'] or 'code outside of tests'}, "
                f"{note['what']}: what it writes is seen by nobody else",
                same=(note["pid"],),
                thread=note["thread"],
                sql=note["sql"],
                stack=tuple(note["stack"].splitlines()),
                evidence=(f"its command: {note['argv']}",),
            )
