"""What becomes of a run's report at its end: kept, written as asked for, shown by a forge.

Whatever fails or takes too long here is a warning, and changes no exit code.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from snapfarm.config import FarmConfig
from snapfarm.report import formats, model, runs
from snapfarm.report.model import RunReport
from snapfarm_worker.texts import readable

Step = tuple[str, Callable[[], None]]


def publish(
    report: RunReport,
    config: FarmConfig,
    environ: Mapping[str, str],
    say: Callable[[str], None],
) -> list[str]:
    """Do all that the configuration and the environment ask for; return warnings.

    `say` prints a line to the job's log.
    """
    warnings: list[str] = []
    doing = [""]
    done = threading.Event()

    def work() -> None:
        for what, step in _steps(report, config, environ, say):
            doing[0] = what
            try:
                step()
            except Exception as error:
                told = f"{type(error).__name__}: {error}"
                warnings.append(f"{what} could not be written: {readable(told)}")
        done.set()

    # A daemon: a reporter that never ends must not keep the process from ending.
    threading.Thread(target=work, name="farm-reports", daemon=True).start()
    if not done.wait(config.reports.timeout):
        warnings.append(
            f"{doing[0]} was not ready after {config.reports.timeout:g} s, and was left out"
        )
    return list(warnings)


def _steps(
    report: RunReport,
    config: FarmConfig,
    environ: Mapping[str, str],
    say: Callable[[str], None],
) -> Iterator[Step]:
    if config.keep_runs:
        yield "the kept report", _keeper(report, config)
    files = config.reports.files
    if "html" in files or "json" in files:
        report = runs.with_history(report, config.cache_path, config.history_path)
    for name, file in files.items():
        yield f"the {name} report", _writer(report, name, Path(file))
    if config.github == "auto":
        if summary := environ.get("GITHUB_STEP_SUMMARY"):
            yield "the job's summary", lambda: _append(report, Path(summary))
        if environ.get("GITHUB_ACTIONS") == "true":
            yield "the annotations", lambda: _annotate(report, say)


def _keeper(report: RunReport, config: FarmConfig) -> Callable[[], None]:
    def keep() -> None:
        runs.save(report, config.cache_path, config.keep_runs)

    return keep


def _writer(report: RunReport, name: str, file: Path) -> Callable[[], None]:
    return lambda: model.write_text(formats.render(report, name), file)


def _append(report: RunReport, file: Path) -> None:
    """Add to the summary of a step, to which others may have written."""
    from snapfarm.report.markdown import LIMIT, markdown

    taken = file.stat().st_size if file.exists() else 0
    with file.open("a", encoding="utf-8") as summary:
        summary.write(markdown(report, max(0, LIMIT - taken)))


def _annotate(report: RunReport, say: Callable[[str], None]) -> None:
    from snapfarm.report.forges import annotation_lines

    for line in annotation_lines(report):
        say(line)
