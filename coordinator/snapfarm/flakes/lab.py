"""The pytest plugin of a laboratory: collects once, runs each experiment in a forked copy.

It is loaded by `experiment.Laboratory` alone. The process that has collected runs no test itself.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import select
import signal
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, SupportsIndex, cast

import pytest

from snapfarm.flakes import signature
from snapfarm.flakes.experiment import (
    FILE,
    VARIABLE,
    Begun,
    Collected,
    Ended,
    Order,
    Ran,
    decode_order,
    encode,
)
from snapfarm.flakes.lab_databases import LabDatabases, Touched
from snapfarm.flakes.matrix import Trait
from snapfarm.flakes.residue import Residue
from snapfarm_worker.fixtures import DatabasePlugin
from snapfarm_worker.keys import unique_keys

if TYPE_CHECKING:
    from snapfarm.flakes.experiment import Answer

#: Options that would change the order, run something twice, stop early, write or distribute.
_NEUTRAL: dict[str, object] = {
    "maxfail": 0, "lf": False, "failedfirst": False, "newfirst": False, "stepwise": False,
    "stepwise_skip": False, "xmlpath": None, "farm_report": None, "trace": False,
    "usepdb": False, "numprocesses": None, "dist": "no", "distload": False, "tx": [],
    "looponfail": False, "reruns": 0, "flake_finder_enable": False, "flake_runs": 0,
    "randomly_reorganize": False, "randomly_reset_seed": False, "no_cov": True, "htmlpath": None,
}  # fmt: skip
#: What a laboratory may be asked to leave as it is.
_WISHES = {"debug": "usepdb", "seeds": "randomly_reset_seed"}


class Watch:
    """Notes what a test is seen to do: starts threads, sleeps, connects."""

    def __init__(self) -> None:
        self.traits: set[Trait] = set()
        self._on = False

    def install(self) -> None:
        """Listen from now on; before anybody has imported `sleep` by name."""
        sys.addaudithook(self._heard)
        start, sleep = threading.Thread.start, time.sleep

        # Only some versions of Python have audit events for these two.
        # `self` is the thread's: a method's first parameter keeps its name.
        watch = self

        def started(self: threading.Thread) -> None:
            watch._note(Trait.THREADS)
            start(self)

        def slept(seconds: float | SupportsIndex, /) -> None:
            self._note(Trait.SLEEPS)
            sleep(seconds)

        threading.Thread.start = started  # type: ignore[method-assign]  # calls the original
        time.sleep = slept

    def begin(self) -> None:
        """Watch from now on."""
        self.traits.clear()
        self._on = True

    def end(self) -> frozenset[Trait]:
        """Watch no more; return what was seen."""
        self._on = False
        return frozenset(self.traits)

    def _note(self, trait: Trait) -> None:
        if self._on:
            self.traits.add(trait)

    def _heard(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self._on:
            return
        if event == "_thread.start_new_thread":
            self.traits.add(Trait.THREADS)
        elif event == "socket.connect" and isinstance(arguments[1], tuple):
            self.traits.add(Trait.CONNECTS)


_watch = Watch()


class Chance:
    """Makes what is random repeatable: the module random, and what asks the system for bytes."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._bytes = random.Random(0)
        self._seed = random.Random.seed

    def install(self) -> None:
        """Take the place of the system's random source in this process."""
        os.urandom = self._urandom
        vars(random)["_urandom"] = self._urandom
        chance = self

        def seed(self: random.Random, a: object = None, version: int = 2) -> None:
            chance._seed(self, chance._drawn() if a is None else a, version)  # type: ignore[arg-type]  # random's own

        random.Random.seed = seed  # type: ignore[method-assign]  # for an unseeded Random() too

    def begin(self, seed: int, test: str) -> None:
        """Begin anew for a test."""
        start = zlib.crc32(f"{seed}:{test}".encode("utf-8", "replace"))
        self._seed(self._bytes, start)
        random.seed(start)
        numpy = sys.modules.get("numpy.random")
        if numpy is not None:
            numpy.seed(start)

    def _drawn(self) -> int:
        return self._bytes.getrandbits(64)

    def _urandom(self, size: int) -> bytes:
        self._watch.traits.add(Trait.CHANCE)
        return self._bytes.randbytes(size)


class Lab:
    """The plugin object: serves orders in place of the run loop."""

    def __init__(self, orders: int, answers: int) -> None:
        self._orders, self._answers = orders, answers
        self._rest = b""
        self._watch = _watch
        self._chance = Chance(self._watch)
        self._reports: list[pytest.TestReport] = []
        self._looked: LabDatabases | None = None
        #: Whether the debugger was left.
        self._quitted = False
        #: Tables that were not as they should be when the present test failed.
        self._differing: tuple[str, ...] = ()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Fork for each order until there are no more."""
        keys = unique_keys(item.nodeid for item in session.items)
        items = dict(zip(keys, session.items, strict=True))
        plugin = session.config.pluginmanager.get_plugin("farm-databases")
        names = plugin.databases.names if isinstance(plugin, DatabasePlugin) else ()
        if isinstance(plugin, DatabasePlugin):
            self._looked = LabDatabases(plugin)
        self._tell(Collected(tuple(items), names))
        gc.collect()
        gc.freeze()
        while (order := self._next()) is not None:
            with warnings.catch_warnings():
                # Python warns where threads live; those of plugins are not ours to end.
                warnings.simplefilter("ignore")
                child = os.fork()
            if not child:
                self._work(session, items, order)
            if not self._await(child, order):
                break
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep a report until its test has ended."""
        self._reports.append(report)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Look at the databases when a test has failed, before they are reset."""
        report = yield
        if report.failed and self._looked is not None and not self._differing:
            self._differing = tuple(self._looked.differing())
        return report

    # ------------------------------------------------------------ the copy

    def _work(self, session: pytest.Session, items: dict[str, pytest.Item], order: Order) -> None:
        """Run the tests of an order, and end this process."""
        status = 70
        try:
            if not order.debug:
                os.setsid()
            status = self._run(session, items, order)
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
        finally:
            os._exit(status)

    def _run(self, session: pytest.Session, items: dict[str, pytest.Item], order: Order) -> int:
        if order.timezone is not None:
            os.environ["TZ"] = order.timezone
            time.tzset()
        if order.switch is not None:
            sys.setswitchinterval(order.switch)
        self._chance.install()
        local = session.config.pluginmanager.get_plugin("farm-local")
        if local is not None:
            local.pytest_runtestloop(session)
        residue = Residue(session.config.rootpath)
        chosen = [items[test] for test in order.tests]
        for index, (test, item) in enumerate(zip(order.tests, chosen, strict=True)):
            following = chosen[index + 1] if index + 1 < len(chosen) else None
            if following is item:
                # As its own successor it would keep its own fixtures: only those around it stay.
                following = cast("pytest.Item | None", item.parent)
            if order.fresh_golden and self._looked is not None:
                self._looked.reset()
            self._tell(Begun(test))
            self._tell(self._one(test, item, following, order, residue))
            if self._quitted:
                break
        return 0

    def _one(
        self,
        test: str,
        item: pytest.Item,
        following: pytest.Item | None,
        order: Order,
        residue: Residue,
    ) -> Ran:
        self._reports.clear()
        self._differing = ()
        before = residue.taken()
        self._chance.begin(order.seed, test)
        began = time.monotonic()
        self._watch.begin()
        try:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        except pytest.exit.Exception:
            # Who leaves the debugger has seen the test fail, which is told already.
            if not order.debug:
                raise
            self._quitted = True
        traits = self._watch.end()
        seconds = time.monotonic() - began
        changed = tuple(residue.compared(before))
        touched = Touched() if self._looked is None else self._looked.ended(item.nodeid)
        failed = next((report for report in self._reports if report.failed), None)
        skipped = any(report.skipped for report in self._reports)
        return Ran(
            test=test,
            outcome="failed" if failed else ("skipped" if skipped else "passed"),
            seconds=seconds,
            signature=(
                None if failed is None else signature.of_report(failed, item.config.rootpath)
            ),
            traits=traits,
            changed=(*changed, *touched.left),
            anomalies=touched.anomalies,
            written=touched.written,
            tables=touched.tables,
            reads=touched.reads,
            differing=self._differing,
            golden=touched.golden,
        )

    # ------------------------------------------------------------ the process that stays

    def _next(self) -> Order | None:
        while b"\n" not in self._rest:
            data = os.read(self._orders, 1 << 16)
            if not data:
                return None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return decode_order(line)

    def _await(self, child: int, order: Order) -> bool:
        """Wait for an experiment's end and tell it; return whether somebody still wants more."""
        ended = os.pidfd_open(child)
        try:
            limit = None if order.debug else order.limit
            ready, _, _ = select.select([ended, self._orders], [], [], limit)
            late = not ready
            if ended not in ready:
                # Its time is over, or nobody is there any more who could want its result.
                os.kill(child, signal.SIGKILL)
        finally:
            os.close(ended)
        _, status = os.waitpid(child, 0)
        if not order.debug:
            # What its tests have started, and not ended.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child, signal.SIGKILL)
        try:
            self._tell(Ended(os.waitstatus_to_exitcode(status), late))
        except BrokenPipeError:
            return False
        return True

    def _tell(self, answer: Answer) -> None:
        data = encode(answer) + b"\n"
        while data:
            data = data[os.write(self._answers, data) :]


class _OneFile:
    """Has nothing collected but one file, and what pytest imports on the way to it."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @pytest.hookimpl(tryfirst=True)
    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Leave out all other files."""
        named = collection_path.name in {"conftest.py", "__init__.py"}
        if named or collection_path.is_dir() or collection_path == self._file:
            return None
        return True


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Begin to listen before a conftest is imported."""
    _watch.install()


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Switch off what would change the order, write results, or distribute."""
    wishes = os.environ.get(VARIABLE, "").split(",")
    kept = {option for wish, option in _WISHES.items() if wish in wishes}
    vars(config.option).update(
        {
            name: value
            for name, value in _NEUTRAL.items()
            if hasattr(config.option, name) and name not in kept
        }
    )


def pytest_configure(config: pytest.Config) -> None:
    """Take the descriptors that the laboratory was started with."""
    given = os.environ.pop(VARIABLE, "").split(",")
    if len(given) < 2:
        raise pytest.UsageError("snapfarm.flakes.lab is for experiments of the farm only")
    orders, answers = given[:2]
    if file := os.environ.pop(FILE, ""):
        config.pluginmanager.register(_OneFile(config.rootpath / file), "farm-lab-file")
    for descriptor in (orders, answers):
        os.set_inheritable(int(descriptor), False)
    config.pluginmanager.register(Lab(int(orders), int(answers)), "farm-lab")
