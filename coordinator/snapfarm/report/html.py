"""One self-contained page of a report: no script, nothing from the network, everything escaped."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import jinja2

if TYPE_CHECKING:
    from snapfarm.report.model import RunReport

_environment = jinja2.Environment(
    loader=jinja2.PackageLoader("snapfarm.report", ""),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
)


def page(report: RunReport) -> str:
    """Return the page of a run of tests, or of a worker pool."""
    started = dt.datetime.fromtimestamp(report.started).astimezone()
    pool = report.tasks is not None
    return _environment.get_template("page.html.j2").render(
        report=report,
        title="Worker pool" if pool else "Test run",
        unit="tasks" if pool else "tests",
        started=started.strftime("%Y-%m-%d %H:%M:%S %Z"),
        figures=_figures(report),
        bad_items=[item for item in report.items if item.outcome == "failed"],
    )


def _figures(report: RunReport) -> list[tuple[str, str, str]]:
    """Return the numbers that matter: name, value, and a class where it is a bad one."""
    tasks = report.tasks
    if tasks is not None:
        return [
            ("tasks", str(tasks.submitted), ""),
            ("done", str(tasks.done), ""),
            ("failed", str(tasks.failed), "error" if tasks.failed else ""),
            ("crashed", str(tasks.crashed), "error" if tasks.crashed else ""),
            ("retried", str(tasks.retried), "warning" if tasks.retried else ""),
            ("waited (median)", f"{tasks.queue_median * 1000:.1f} ms", ""),
            ("anomalies", str(len(report.anomalies)), "warning" if report.anomalies else ""),
        ]
    failed = sum(item.outcome == "failed" for item in report.items)
    crashed = sum(item.crashed for item in report.items)
    return [
        ("tests", str(len(report.items)), ""),
        ("failed", str(failed), "error" if failed else ""),
        ("of these crashed", str(crashed), "error" if crashed else ""),
        ("not run", str(len(report.unrun)), "error" if report.unrun else ""),
        ("anomalies", str(len(report.anomalies)), "warning" if report.anomalies else ""),
    ]
