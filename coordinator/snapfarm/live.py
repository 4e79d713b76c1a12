"""Progress with the time left: a line under the dots of a terminal, plain lines in a CI's log.

On a terminal the line is rewritten in place and leaves nothing behind. It is there only while the
farm waits for news: before anything is handled that might print, it is taken away, so that pytest
and plugins write as if it had never been. It moves the cursor by lines and columns only, which
holds when the terminal scrolls.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from snapfarm.report.forecast import Forecast, progress, status_line
from snapfarm.telling import fresh_line
from snapfarm_worker import wire
from snapfarm_worker.texts import readable

if TYPE_CHECKING:
    import pytest
    from _pytest.terminal import TerminalReporter

#: Seconds between two changes of the line, and between two lines of a log.
_REFRESH = 0.1
_LOG = 60.0
#: Variables that say that a CI runs us; pytest asks for the same.
CI_VARIABLES = ("CI", "BUILD_NUMBER")
#: Values of `console_output_style` with which no progress is wanted.
_NO_PROGRESS = frozenset({"classic", "none"})


class Live:
    """Shows how far a run is, in one of three ways: on a terminal, in a log, not at all."""

    def __init__(
        self,
        config: pytest.Config,
        workers: int,
        history: Path | None,
        *,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._workers = workers
        self._clock = clock
        self._reporter = _reporter_of(config)
        in_ci = any(environ.get(name) for name in CI_VARIABLES)
        terminal = self._reporter is not None and _is_terminal(self._reporter, environ)
        wanted = self._reporter is not None and config.get_verbosity() > -2 and _wanted(config)
        #: Whether a line is rewritten, and whether lines are added.
        self._rewrites = wanted and terminal and not in_ci
        self._logs = wanted and in_ci and config.get_verbosity() >= 0
        self._forecast: Forecast | None = None
        self._history = history
        self._shown = False
        self._line = ""
        self._due = 0.0
        self._log_due = clock() + _LOG

    def arrived(self, worker: str, message: wire.Message) -> None:
        """Take what a message says of the progress; an item that ends here has its outcome."""
        if not (self._rewrites or self._logs):
            return
        match message:
            case wire.Collected(items=items):
                if self._forecast is None:
                    self._forecast = Forecast(self._known())
                self._forecast.collected(item.key for item in items)
            case wire.ItemStarted(key=key) if self._forecast is not None:
                self._forecast.started(worker, key, self._clock())
            case wire.ItemFinished() if self._forecast is not None:
                self._forecast.ended(
                    worker, message.key, message.seconds, failed=bool(message.failed)
                )
            case _:
                pass

    def crashed(self, worker: str, key: str, seconds: float) -> None:
        """An item that killed its worker has its outcome."""
        if self._forecast is not None:
            self._forecast.ended(worker, key, seconds, failed=True)

    def gone(self, worker: str) -> None:
        """A worker's process has ended."""
        if self._forecast is not None:
            self._forecast.gone(worker)

    def show(self) -> None:
        """Show it until something happens, or add it to the log when that is due."""
        if self._forecast is None or not self._forecast.total or self._reporter is None:
            return
        now = self._clock()
        if self._logs and now >= self._log_due:
            self._log_due = now + _LOG
            fresh_line(self._reporter)
            self._reporter.write_line(f"farm    {progress(self._forecast, now, self._workers)}")
        if self._rewrites and not self._shown:
            self._rewrite(self._reporter, self._forecast, now)

    def _rewrite(self, reporter: TerminalReporter, forecast: Forecast, now: float) -> None:
        writer = reporter._tw  # noqa: SLF001  # as all plugins that draw
        columns = writer.fullwidth
        if now >= self._due:
            self._due = now + _REFRESH
            self._line = readable(status_line(forecast, now, self._workers, columns))
        used = writer.width_of_current_line
        at = used % columns or (columns if used else 0)
        # Below what is written, and back to its end.
        below, back = ("\n", f"\x1b[1A\r\x1b[{at}C") if used else ("", "\r")
        text = writer.markup(self._line, light=True)
        _write(reporter, f"{below}\r{text}\x1b[K{back}")
        self._shown = True

    def hide(self) -> None:
        """Take the line away: something may be printed now."""
        if self._shown and self._reporter is not None:
            self._shown = False
            _write(self._reporter, "\x1b[J")

    def _known(self) -> Mapping[str, float]:
        if self._history is None or not self._history.exists():
            return {}
        from snapfarm.report.past import durations

        return durations(self._history)


def _write(reporter: TerminalReporter, text: str) -> None:
    # Not by the writer itself: it would take these for part of its line.
    file = reporter._tw._file  # noqa: SLF001  # see above
    file.write(text)
    file.flush()


def _reporter_of(config: pytest.Config) -> TerminalReporter | None:
    """Return pytest's own reporter; None where a plugin has put another in its place."""
    from _pytest.terminal import TerminalReporter

    found = config.pluginmanager.get_plugin("terminalreporter")
    return found if type(found) is TerminalReporter else None


def _is_terminal(reporter: TerminalReporter, environ: Mapping[str, str]) -> bool:
    return bool(reporter.isatty()) and environ.get("TERM", "dumb") != "dumb"


def _wanted(config: pytest.Config) -> bool:
    return str(config.getini("console_output_style")) not in _NO_PROGRESS
