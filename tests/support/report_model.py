"""One fixed report that has everything in it, and large ones; texts in them try to break out."""

from __future__ import annotations

import random

from snapfarm.report.model import (
    Attempt,
    Failure,
    FlakeLine,
    GoldenLine,
    History,
    ItemLine,
    Output,
    PastLine,
    RunLine,
    RunReport,
    TaskCounts,
    VerdictLine,
    WorkerLine,
)
from snapfarm.report.timeline import WallTimes, WorkerTimes
from snapfarm_worker.anomaly import Anomaly, AnomalyKind, Severity
from snapfarm_worker.evidence import (
    DatabaseDiff,
    DatabaseEvidence,
    RowDiff,
    SchemaDiff,
    Statements,
    TableDiff,
)

#: What tests may call themselves, print, and store: each tries to become markup or a command.
HOSTILE = (
    "<script>window.hacked = 1</script>",
    "</script><img src=x onerror='window.hacked = 2'>",
    '"><svg onload="window.hacked = 3">',
    "{{ 7 * 7 }}{% raw %}",
    "<!-- <script> --> ]]>",
    "javascript:window.hacked=4",
    "a | b `c` **d** [e](https://evil.example) @everyone #1 ```",
    "::error::x%0A::warning::y\r\n::debug::z",
    "\x00\x1b[31mred\x1b[0m\ufffe\ud800\u2028",
    "[[PROPERTY|farm.worker=evil]]",
    "&lt;b&gt; &amp; é 漢字 \N{RIGHT-TO-LEFT OVERRIDE}txt.exe",
)


def failure(text: str, *, phase: str = "call") -> Failure:
    """Return a failure that says a text everywhere."""
    return Failure(
        phase=phase,
        kind="ValueError",
        message=text,
        text=f"    raise ValueError\nE   ValueError: {text}\n\ntest_shop.py:12: ValueError",
        path="tests/test_shop.py",
        line=12,
    )


def evidence(text: str) -> DatabaseEvidence:
    """Return the evidence of a failure in which a text is a table, a column and a value."""
    return DatabaseEvidence(
        database="default",
        file=".farm/failures/20260102-030405-abcdef/test_shop-1a2b3c4d/default.sqlite",
        size=12_288,
        diff=DatabaseDiff(
            schema=(SchemaDiff(kind="index", name="by_name", after=f"CREATE INDEX x -- {text}"),),
            tables=(
                TableDiff(
                    table="customer",
                    columns=("id", "name", text),
                    key=("id",),
                    added=1,
                    removed=1,
                    changed=31,
                    rows=(
                        RowDiff((7, "Hopper", None), None),
                        RowDiff(None, (9, text, 2.5)),
                        RowDiff((8, "Ada", "x'00ff'"), (8, text, "x'00ff'")),
                    ),
                ),
            ),
        ),
        statements=(
            Statements(
                connection="opened at shop.py:3 in connect, thread MainThread",
                statements=("BEGIN", f"INSERT INTO customer VALUES (9, '{text}')"),
                in_transaction=True,
            ),
        ),
    )


def fixed(value: str = "<b>Grace</b>") -> RunReport:
    """Return a small report with all there is, always the same; rows have a value in them."""
    bad = "expected <7>, got 8"
    report = RunReport(
        run="20260102-030405-abcdef",
        snapfarm="0.1.0",
        python="3.11.7",
        sqlite="3.40.1",
        started=1_767_323_045.0,
        seconds=12.5,
        wall=WallTimes(start=0.5, databases=0.25, collection=1.0, tests=10.0, end=0.75),
        coordinator_cpu=1.5,
        exit_status=1,
        seed="4711",
        history_run="0a1b2c3d",
        dist="load",
        planned_workers=2,
        golden=[
            GoldenLine(
                name="default",
                digest="0123456789abcdef" * 4,
                size=1_250_000,
                tables=12,
                fingerprint="f" * 64,
                cached=True,
                build_seconds=3.25,
            )
        ],
        anomalies=[
            Anomaly(
                kind=AnomalyKind.LEAKED_TRANSACTION,
                severity=Severity.ERROR,
                test="tests/test_shop.py::test_price",
                database="default",
                message="the test leaves an open transaction on farm_db",
                sql="UPDATE price SET cents = 1 WHERE name = '<b>'",
                stack=("shop.py:3 in connect",),
                count=2,
                evidence=("rows before: 3", "rows now: 4"),
                polluter="tests/test_shop.py::test_cart",
            ),
            Anomaly(
                kind=AnomalyKind.LEAKED_CONNECTION,
                severity=Severity.WARNING,
                test="tests/test_shop.py::test_stock[a|b]",
                database="default",
                message="a connection was never closed",
            ),
        ],
        flakes=[
            FlakeLine(
                nodeid="tests/test_shop.py::test_stock[a|b]",
                failures=1,
                attempts=2,
                signature="ValueError: database is locked at tests/test_shop.py:12",
            )
        ],
        verdicts=[
            VerdictLine(
                nodeid="tests/test_shop.py::test_price",
                cause="order-dependent",
                confidence="high",
                role="victim",
                signature="ValueError: expected <n>, got <n> at tests/test_shop.py:12",
                culprits=(("tests/test_shop.py::test_cart",),),
                evidence=("alone: never fails (4 runs)",),
                advice="undo what the polluter leaves behind in a fixture's teardown",
            )
        ],
        unrun=["tests/test_late.py::test_never"],
        unrun_reason="stopping after 3 failures",
        notices=["gw1: silent for 3 s"],
    )
    for name, busy in (("gw0", 6.0), ("gw1", 7.5)):
        line = report.worker(name)
        line.pid = 100
        line.items, line.busy_seconds, line.launched = 3, busy, 0.1
        line.setup_seconds, line.call_seconds, line.teardown_seconds = 0.5, busy - 1.0, 0.5
        line.resets, line.reset_seconds = {"clean": 2, "in-place": 1}, 0.25
        line.receive_seconds, line.restore_seconds = {"default": 0.125}, {"default": 0.125}
        line.times = WorkerTimes(
            start=0.4, databases=0.25, collection=1.0, waiting=10.35 - busy, end=0.2
        )
    report.workers["gw1"].death = "signal SIGKILL in the call of tests/test_shop.py::test_kills"
    once = {"path": "tests/test_shop.py", "setup": 0.125, "call": 0.5, "teardown": 0.125}
    report.items = [
        _item("test_cart", "passed", 2.0, 0.75, **once),
        _item(
            "test_price", "failed", 2.75, 1.5, line=10, attempts=(_try(bad, "gw0", 2.75, value),)
        ),
        _item(
            "test_stock[a|b]",
            "passed",
            4.5,
            2.0,
            attempts=(
                _try("database is locked", "gw0", 4.5, value),
                Attempt(outcome="passed", worker="gw0", began=5.5, seconds=1.0),
            ),
        ),
        _item(
            "test_setup",
            "failed",
            2.0,
            1.0,
            worker="gw1",
            attempts=(_try("no such fixture", "gw1", 2.0, value, phase="setup", outcome="error"),)
            * 2,
        ),
        _item(
            "test_kills",
            "failed",
            3.0,
            0.5,
            worker="gw1",
            crashed=True,
            attempts=(
                Attempt(
                    outcome="crashed",
                    worker="gw1",
                    began=3.0,
                    seconds=0.5,
                    failures=(
                        Failure(
                            phase="crash",
                            message="its process ended with signal SIGKILL",
                            text="worker 'gw1' crashed while running it",
                        ),
                    ),
                    output=(Output(title="Captured stdout call", text="last words"),),
                ),
            ),
        ),
        _item("test_later", "skipped", 3.5, 0.0, worker="gw1", detail="needs a network"),
    ]
    report.history = _history()
    return report


def _history() -> History:
    """Return five earlier runs and this one."""
    nodeid = "tests/test_shop.py::test_"
    return History(
        runs=tuple(
            RunLine(
                run=f"0a1b2c{number:02x}",
                started=1_767_323_045.0 - 3600 * (5 - number),
                seconds=11.0 + number / 4,
                tests=6,
                failed=(1, 1, 2, 1, 2, 3)[number],
                flaky=number % 2,
                commit="" if number == 5 else f"{number}" * 10,
            )
            for number in range(6)
        ),
        outcomes={
            f"{nodeid}price": "ppfpff",
            f"{nodeid}stock[a|b]": "pkpkpk",
            f"{nodeid}setup": "fffppf",
            f"{nodeid}kills": "--ppcc",
            f"{nodeid}cart": "pppppp",
        },
        tests={
            f"{nodeid}price": PastLine(
                failures=3,
                attempts=6,
                seconds=(0.5, 0.75, 1.0, 0.75, 1.25, 1.5),
                tables=("default.customer", "default.<i>price"),
            ),
            f"{nodeid}stock[a|b]": PastLine(
                failures=3, attempts=9, seconds=(1.0, 1.0, 1.5, None, 2.0, 2.0)
            ),
        },
        only_troubled=True,
    )


def _item(name: str, outcome: str, began: float, seconds: float, **more: object) -> ItemLine:
    fields: dict[str, object] = {"worker": "gw0", "path": "tests/test_shop.py", "line": 5, **more}
    return ItemLine(
        nodeid=f"tests/test_shop.py::{name}",
        outcome=outcome,
        began=began,
        seconds=seconds,
        **fields,  # type: ignore[arg-type]  # the fields of an item
    )


def _try(
    text: str,
    worker: str,
    began: float,
    value: str,
    *,
    phase: str = "call",
    outcome: str = "failed",
) -> Attempt:
    return Attempt(
        outcome=outcome,
        worker=worker,
        began=began,
        seconds=0.75,
        failures=(failure(text, phase=phase),),
        output=(Output(title="Captured stderr call", text="a <warning>"),),
        evidence=(evidence(value),) if phase == "call" else (),
    )


def hostile() -> RunReport:
    """Return a report in which every text tries to become something else."""
    report = fixed()
    for number, text in enumerate(HOSTILE):
        nodeid = f"tests/test_evil.py::test_{number}[{text}]"
        report.items.append(
            ItemLine(
                nodeid=nodeid,
                outcome="failed" if number % 2 else "passed",
                worker="gw0",
                seconds=0.5,
                path=f"tests/{text}.py",
                line=3,
                detail=text,
                attempts=(
                    Attempt(
                        outcome="failed",
                        worker="gw0",
                        failures=(failure(text),),
                        output=(Output(title=f"Captured stdout {text}", text=text),),
                        evidence=(evidence(text),),
                    ),
                ),
            )
        )
        report.anomalies.append(
            Anomaly(
                kind=AnomalyKind.LOCK_ERROR,
                severity=Severity.ERROR,
                test=nodeid,
                database=text,
                message=text,
                sql=text,
                stack=(text,),
                evidence=(text,),
                polluter=text,
            )
        )
        report.notices.append(text)
        report.verdicts.append(
            VerdictLine(
                nodeid=nodeid,
                cause=text,
                confidence="low",
                role=text,
                signature=text,
                culprits=((text, nodeid),),
                evidence=(text,),
                advice=text,
            )
        )
    report.unrun_reason = HOSTILE[0]
    report.unrun = list(HOSTILE)
    return report


def of_a_pool(text: str = HOSTILE[0]) -> RunReport:
    """Return the report of a worker pool of which two calls failed; they say a text."""
    report = fixed()
    report.history, report.history_run, report.verdicts, report.flakes = History(), "", [], []
    report.unrun, report.unrun_reason = [], ""
    report.tasks = TaskCounts(
        submitted=1_000,
        done=996,
        failed=1,
        crashed=1,
        cancelled=2,
        retried=3,
        threads=2,
        isolation="worker",
        queue_median=0.002,
        queue_max=0.5,
    )
    report.items = [
        ItemLine(
            nodeid=f"shop.check_invoice[{number}]",
            outcome="failed",
            worker="gw0",
            seconds=0.25,
            crashed=crashed,
            attempts=(
                Attempt(
                    outcome="crashed" if crashed else "failed",
                    worker="gw0",
                    failures=(failure(text, phase="crash" if crashed else "call"),),
                ),
            ),
        )
        for number, crashed in ((7, False), (8, True))
    ]
    return report


def large(tests: int, runs: int, *, workers: int = 8, seed: int = 1) -> RunReport:
    """Return a report of many tests with a long history; some of them failed or flaked."""
    rng = random.Random(seed)
    report = fixed()
    report.items, report.anomalies, report.unrun, report.unrun_reason = [], [], [], ""
    report.history, report.verdicts, report.flakes = History(), [], []
    report.planned_workers, report.workers = workers, {}
    clock = [2.0] * workers
    outcomes: dict[str, str] = {}
    for number in range(tests):
        file, function = divmod(number, 40)
        nodeid = f"tests/area_{file % 25}/test_module_{file}.py::test_case_{function}[{number}]"
        lane = min(range(workers), key=clock.__getitem__)
        seconds = min(30.0, rng.lognormvariate(-3.5, 1.2))
        troubled = rng.random() < 0.01
        odds = rng.random() * 0.2 if troubled else 0.0
        letters = "".join(
            rng.choice("ffk") if rng.random() < odds else "p" for _ in range(max(runs, 1))
        )
        state = letters[-1]
        tries: tuple[Attempt, ...] = ()
        if state != "p":
            tries = (_try("it is not so", f"gw{lane}", clock[lane], "Grace"),)
        if state == "k":
            tries += (Attempt(outcome="passed", worker=f"gw{lane}"),)
        report.items.append(
            ItemLine(
                nodeid=nodeid,
                outcome="failed" if state == "f" else "passed",
                worker=f"gw{lane}",
                seconds=seconds,
                began=clock[lane],
                setup=seconds * 0.2,
                call=seconds * 0.7,
                teardown=seconds * 0.1,
                reset=seconds * 0.05,
                path=nodeid.partition("::")[0],
                line=function * 7 + 1,
                attempts=tries,
            )
        )
        outcomes[nodeid] = letters
        clock[lane] += seconds
    report.seconds = max(clock) + 0.5
    for lane in range(workers):
        line: WorkerLine = report.worker(f"gw{lane}")
        line.busy_seconds = clock[lane] - 2.0
        line.setup_seconds = line.busy_seconds * 0.2
        line.call_seconds = line.busy_seconds * 0.7
        line.teardown_seconds, line.reset_seconds = [
            line.busy_seconds * part for part in (0.1, 0.05)
        ]
        line.launched = 0.1
        line.times = WorkerTimes(
            start=0.4, databases=0.3, collection=1.2, waiting=max(clock) - clock[lane], end=0.2
        )
        line.items = sum(item.worker == f"gw{lane}" for item in report.items)
    report.wall = WallTimes(
        start=0.5, databases=0.3, collection=1.2, tests=report.seconds - 2.5, end=0.5
    )
    if runs:
        report.history = History(
            runs=tuple(
                RunLine(
                    run=f"202601{number // 24 + 1:02}-{number % 24:02}0000-{number:06x}",
                    started=1_767_225_600.0 + 3600 * number,
                    seconds=report.seconds * (0.9 + 0.2 * rng.random()),
                    tests=tests,
                    failed=sum(row[number] == "f" for row in outcomes.values()),
                    flaky=sum(row[number] == "k" for row in outcomes.values()),
                )
                for number in range(runs)
            ),
            outcomes=outcomes,
            tests={
                nodeid: PastLine(
                    failures=row.count("f") + row.count("k"),
                    attempts=len(row) + row.count("k"),
                    seconds=tuple(round(rng.lognormvariate(-3.5, 0.3), 4) for _ in row),
                )
                for nodeid, row in outcomes.items()
                if set(row) != {"p"}
            },
        )
    return report
