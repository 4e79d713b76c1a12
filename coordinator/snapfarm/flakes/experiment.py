"""An experiment: tests in a given order, under given conditions, in a process of their own.

A laboratory is a pytest process that collects once and then runs each experiment in a forked copy
of itself (`lab.py`): nothing that a test leaves in its process outlives the experiment, and an
experiment costs milliseconds beside what its tests cost. What a fork can't change (the hash seed,
the state of the process before collection) takes a laboratory of its own.

    with Laboratory(["tests"], root) as lab:
        ran = lab.run(Order(tests=("tests/test_a.py::test_a",), seed=7))
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeAlias

import msgspec

from snapfarm.errors import UserError
from snapfarm.flakes.matrix import Trait
from snapfarm.flakes.signature import CRASH, Signature
from snapfarm_worker.anomaly import AnomalyKind

#: Names the descriptors of a laboratory: orders to it, answers from it; and wishes.
VARIABLE = "FARM_LABORATORY"
#: Names the only file with tests that a laboratory collects; empty for all.
FILE = "FARM_LABORATORY_FILE"
#: Seconds that a laboratory may take to collect.
START_LIMIT = 300.0
#: Seconds beyond an experiment's own limit until its laboratory is taken for lost.
_GRACE = 15.0
#: Bytes of a laboratory's output that a message shows.
_TOLD = 3000


class Order(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Run these tests in this order, each time one stands there."""

    tests: tuple[str, ...]
    #: Seeds what is random before each test, by test: alone or after others makes no difference.
    seed: int = 0
    #: Value of the variable TZ; None leaves it.
    timezone: str | None = None
    #: Seconds between two looks of the interpreter for other threads; None leaves it.
    switch: float | None = None
    #: Whether all databases go back to the golden state before each test.
    fresh_golden: bool = False
    #: Seconds that all of it may take.
    limit: float = 120.0
    #: Opens pdb where a test fails; the laboratory has the terminal then.
    debug: bool = False


class Collected(msgspec.Struct, frozen=True, tag=True):
    """The laboratory has collected these tests."""

    tests: tuple[str, ...]
    databases: tuple[str, ...] = ()


class Begun(msgspec.Struct, frozen=True, tag=True):
    """A test begins."""

    test: str


class Ran(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A test has ended. Tables are named as database.table."""

    test: str
    outcome: str
    seconds: float = 0.0
    signature: Signature | None = None
    traits: frozenset[Trait] = frozenset()
    #: Names of state that it left different: of the process, "database …" and "table …".
    changed: tuple[str, ...] = ()
    anomalies: frozenset[AnomalyKind] = frozenset()
    #: Databases that it has changed, reset or not.
    written: tuple[str, ...] = ()
    #: Tables that it wrote to, and read, as far as sensors have seen.
    tables: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    #: Where it failed: tables that were not as in the state to which tests are reset.
    differing: tuple[str, ...] = ()
    #: Digests of the databases that it had, and of the layers on which they stood.
    golden: Mapping[str, str] = {}

    @property
    def failed(self) -> bool:
        """Whether it did not pass, a skip apart."""
        return self.outcome == "failed"


class Ended(msgspec.Struct, frozen=True, tag=True):
    """The experiment is over. `status` is negative for a signal."""

    status: int
    late: bool = False


Answer: TypeAlias = Collected | Begun | Ran | Ended

encode = msgspec.json.Encoder().encode
decode_order = msgspec.json.Decoder(Order).decode
_answers: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)


class LaboratoryError(UserError):
    """A laboratory could not collect, or ended; the message has its last output."""


class Laboratory:
    """A process that has collected a suite and runs experiments, one at a time."""

    def __init__(
        self,
        arguments: Sequence[str],
        directory: Path,
        *,
        hash_seed: int | None = None,
        environment: Mapping[str, str] | None = None,
        terminal: bool = False,
        keep_seeds: bool = False,
        options: Sequence[str] = (),
        file: str | None = None,
    ) -> None:
        """Start it. `arguments` are pytest's, `directory` is where it was called; `options` more.

        With `terminal`, tests have this process's terminal, for a debugger. With `keep_seeds`,
        pytest-randomly goes on seeding tests as it does in any run. With a `file`, relative to
        pytest's root, no other one with tests is collected.
        """
        orders, our_orders = os.pipe()
        our_answers, answers = os.pipe()
        self._orders, self._answers = our_orders, our_answers
        self._scratch = tempfile.TemporaryDirectory(prefix="farm-lab-")
        self._log = Path(self._scratch.name, "output")
        env = {**(os.environ if environment is None else environment)}
        env.pop("PYTEST_CURRENT_TEST", None)
        wishes = f"{',debug' if terminal else ''}{',seeds' if keep_seeds else ''}"
        env[VARIABLE] = f"{orders},{answers}{wishes}"
        env[FILE] = file or ""
        if hash_seed is not None:
            env["PYTHONHASHSEED"] = str(hash_seed)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "pytest",
                    *_arguments(arguments, options, self._scratch.name),
                ],
                cwd=directory,
                env=env,
                stdin=None if terminal else subprocess.DEVNULL,
                stdout=None if terminal else log,
                stderr=None if terminal else subprocess.STDOUT,
                pass_fds=(orders, answers),
                start_new_session=not terminal,
            )
        os.close(orders)
        os.close(answers)
        self._rest = b""
        self._collected: Collected | None = None
        #: How many tests it has run.
        self.executions = 0
        #: What the last experiment has run, also if it did not come to its end.
        self.ran: list[Ran] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def tests(self) -> tuple[str, ...]:
        """What it has collected; waits for that. Raises LaboratoryError."""
        if self._collected is None:
            answer = self._next(time.monotonic() + START_LIMIT)
            if not isinstance(answer, Collected):
                raise self._failed("did not collect the tests")
            self._collected = answer
        return self._collected.tests

    @property
    def databases(self) -> tuple[str, ...]:
        """The golden databases that the tests have."""
        return self.tests and self._collected.databases if self._collected else ()

    def run(self, order: Order) -> list[Ran]:
        """Run an experiment; return its tests as far as it came. Raises LaboratoryError.

        A test that ended the process has failed with the exception `CRASH`.
        """
        if unknown := [test for test in order.tests if test not in set(self.tests)]:
            raise LaboratoryError(
                f"{unknown[0]} was not collected: name it as `farm run -v` shows it, and give the "
                "arguments with which the suite is run"
            )
        try:
            os.write(self._orders, encode(order) + b"\n")
        except BrokenPipeError:
            raise self._failed("ended") from None
        deadline = None if order.debug else time.monotonic() + order.limit + _GRACE
        ran = self.ran = []
        running = ""
        while True:
            match self._next(deadline):
                case Begun(test=test):
                    running = test
                case Ran() as one:
                    ran.append(one)
                    running = ""
                case Ended(status=status, late=late):
                    # Who is abandoned is killed in the midst of a test, which says nothing of it.
                    if running and self._orders != -1:
                        ran.append(_died(running, status, late))
                    self.executions += len(ran)
                    return ran
                case _:
                    raise self._failed("ended in the midst of an experiment")

    def abandon(self) -> None:
        """Have it end what it runs, and itself; for another thread than the one that runs it."""
        with contextlib.suppress(OSError):
            os.close(self._orders)
        self._orders = -1

    def close(self) -> None:
        """End it, with whatever it runs."""
        for descriptor in (self._orders, self._answers):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._orders = self._answers = -1
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._scratch.cleanup()

    def _next(self, deadline: float | None) -> Answer | None:
        """Return its next answer; None at its end, or when the time is over."""
        while b"\n" not in self._rest:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._answers], [], [], left)[0]:
                return None
            data = os.read(self._answers, 1 << 16)
            if not data:
                return None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return _answers.decode(line)

    def _failed(self, what: str) -> LaboratoryError:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        output = self._log.read_text("utf-8", "replace").strip()[-_TOLD:]
        return LaboratoryError(f"a laboratory {what}; its output:\n{output or '(none)'}")


def divided(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Return pytest's arguments before and from "--" on: more options belong in between."""
    index = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:index], arguments[index:]


def _arguments(given: Sequence[str], options: Sequence[str], scratch: str) -> list[str]:
    """Return pytest's arguments: no farm, our plugin, and no cache that others read."""
    before, rest = divided(given)
    return [
        *("-p", "snapfarm", "-p", "snapfarm.flakes.lab"),
        *before,
        *options,
        *("--farm=0", "-o", f"cache_dir={scratch}/cache"),
        *rest,
    ]


def _died(test: str, status: int, late: bool) -> Ran:
    if late:
        return Ran(test=test, outcome="failed", signature=Signature(CRASH, "time limit"))
    if status < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-status).name
            return Ran(test=test, outcome="failed", signature=Signature(CRASH, f"signal {name}"))
    signature = Signature(CRASH, f"exit status {status}")
    return Ran(test=test, outcome="failed", signature=signature)


@contextlib.contextmanager
def load(processes: int) -> Iterator[None]:
    """Keep so many processors busy meanwhile."""
    burning = [
        subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(processes)
    ]
    try:
        yield
    finally:
        for process in burning:
            process.kill()
        for process in burning:
            process.wait()
