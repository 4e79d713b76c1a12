"""Progress of a run: where it is shown, where it is not, and what it leaves behind."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from _pytest.config import _prepareconfig
from _pytest.terminal import TerminalReporter

from snapfarm.flakes.history import Attempt, History, Run
from snapfarm.live import Live
from snapfarm.report.past import durations
from snapfarm_worker import wire
from support.terminal import Screen

Started = Callable[..., tuple[Live, io.StringIO]]


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def started(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Started:
    """A display of a run on a terminal, of two tests on one worker."""
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("PY_COLORS", "0")

    def make(
        *args: str, file: io.StringIO | None = None, kind: type = TerminalReporter, **environ: str
    ) -> tuple[Live, io.StringIO]:
        config = _prepareconfig(["-p", "no:cacheprovider", "-c", "/dev/null", *args])
        shown = Terminal() if file is None else file
        config.pluginmanager.unregister(name="terminalreporter")
        config.pluginmanager.register(kind(config, shown), "terminalreporter")
        made = Live(
            config,
            1,
            tmp_path / "history.sqlite",
            environ={"TERM": "xterm", **environ},
            clock=clock,
        )
        items = tuple(wire.CollectedItem(f"test_a.py::test_{n}") for n in range(2))
        made.arrived("gw0", wire.Collected(items))
        made.arrived("gw0", wire.ItemStarted(items[0].key, ("test_a.py", 1, "test_0")))
        return made, shown

    return make


def ended(key: str, *, failed: bool = False) -> wire.ItemFinished:
    return wire.ItemFinished(key, b"", 2.0, failed=failed)


def test_the_line_is_rewritten_in_place_and_gone_before_anything_is_written(
    started: Started, clock: Clock
) -> None:
    live, file = started()
    screen = Screen(60)

    def seen() -> list[str]:
        text = file.getvalue().replace("\n", "\r\n")
        file.seek(0)
        file.truncate()
        screen.feed(text)
        return [line for line in screen.lines if line]

    live.show()
    live.show()
    assert seen() == ["0 of 2 tests"]
    live.hide()
    live.hide()
    assert seen() == []
    clock.now += 20.0
    live.show()
    assert seen() == ["0 of 2 tests   test_a.py::test_0 (20 s)"]
    live.hide()
    live.arrived("gw0", ended("test_a.py::test_0", failed=True))
    live.show()
    # What it said is good for a tenth of a second.
    assert seen() == ["0 of 2 tests   test_a.py::test_0 (20 s)"]
    live.hide()
    clock.now += 0.2
    live.crashed("gw0", "test_a.py::test_1", 1.0)
    live.gone("gw0")
    live.show()
    assert seen() == ["2 of 2 tests, 2 failed"]


def test_it_stands_below_what_pytest_has_written_of_a_line(started: Started) -> None:
    live, file = started()
    reporter = live._reporter
    assert reporter is not None
    for used in (1, 59, 60, 61, 119, 120):
        screen = Screen(60)
        reporter._tw._current_line = ""
        file.seek(0)
        file.truncate()
        reporter.write("." * used)
        live.show()
        live.hide()
        reporter.write("x")
        screen.feed(file.getvalue().replace("\n", "\r\n"))
        assert "".join(screen.lines).replace("x", ".", 1).rstrip() == "." * (used + 1), used


@pytest.mark.parametrize(
    ("args", "environ"),
    [
        (("-qq",), {}),
        (("-o", "console_output_style=classic"), {}),
        ((), {"TERM": "dumb"}),
        ((), {"CI": "true"}),
    ],
)
def test_nobody_is_shown_a_line_who_can_or_will_not_see_it(
    started: Started, args: tuple[str, ...], environ: dict[str, str]
) -> None:
    live, file = started(*args, **environ)
    live.show()
    live.hide()
    assert file.getvalue() == ""


def test_a_file_and_a_reporter_of_somebody_elses_get_none(started: Started) -> None:
    live, file = started(file=io.StringIO())
    live.show()
    assert file.getvalue() == ""

    class Sugar:
        def __init__(self, config: pytest.Config, file: io.StringIO) -> None:
            del config, file

    live, file = started(kind=Sugar)
    live.show()
    live.hide()
    assert file.getvalue() == ""


def test_the_log_of_a_ci_gets_a_line_each_minute(started: Started, clock: Clock) -> None:
    live, file = started(file=io.StringIO(), CI="true")
    live.show()
    clock.now += 59.0
    live.show()
    assert file.getvalue() == ""
    clock.now += 1.0
    live.show()
    live.show()
    live.arrived("gw0", ended("test_a.py::test_0", failed=True))
    assert live._reporter is not None
    live._reporter.write("F")
    clock.now += 60.0
    live.show()
    assert file.getvalue().splitlines() == [
        "farm    0 of 2 tests",
        "F",
        "farm    1 of 2 tests, 1 failed",
    ]
    live, file = started("-q", file=io.StringIO(), CI="true")
    clock.now += 120.0
    live.show()
    assert file.getvalue() == ""


def test_the_time_left_is_known_from_earlier_runs(
    started: Started, clock: Clock, tmp_path: Path
) -> None:
    path = tmp_path / "history.sqlite"
    assert durations(path) == {}
    with History(path) as kept:
        for number, seconds in enumerate((900.0, 30.0, 40.0, 50.0)):
            name = f"run{number}"
            kept.begin(Run(id=name, source="farm", started=float(number), finished=9.0))
            kept.add(
                [
                    Attempt(
                        id=f"{name}-{test}",
                        run=name,
                        test=f"test_a.py::test_{test}",
                        attempt=1,
                        worker="gw0",
                        position=test,
                        ended=1.0,
                        seconds=seconds,
                        outcome="passed",
                    )
                    for test in range(2)
                ]
            )
    assert durations(path) == {"test_a.py::test_0": 40.0, "test_a.py::test_1": 40.0}
    live, file = started()
    live.show()
    assert "0 of 2 tests, 80 s left" in file.getvalue()
    clock.now += 4.0
    live.hide()
    live.show()
    assert "0 of 2 tests, 75 s left" in file.getvalue()
    path.write_bytes(b"no database")
    assert durations(path) == {}
