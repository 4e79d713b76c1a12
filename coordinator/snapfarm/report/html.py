"""One self-contained page of a report: nothing from the network, everything escaped.

What tests say is hostile input. It reaches the page in two ways only: through Jinja2, which escapes
it, and as JSON in a script element that no browser runs, in which `<` can't occur. The page's own
script puts it into text nodes, never into markup; a policy in the page lets no other script run.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
from importlib import resources

import jinja2
import msgspec
from markupsafe import Markup

from snapfarm.report import payload, summary
from snapfarm.report.model import RunReport
from snapfarm_worker.texts import readable_data

_environment = jinja2.Environment(
    loader=jinja2.PackageLoader("snapfarm.report", ""),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)

#: What HTML or JavaScript would take for the end of the data, or for something else.
_ESCAPES = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def page(report: RunReport) -> str:
    """Return the page of a run of tests, or of a worker pool."""
    started = dt.datetime.fromtimestamp(report.started).astimezone()
    pool = report.tasks is not None
    script, style = _asset("page.js"), _asset("page.css")
    data = readable_data(msgspec.to_builtins(payload.payload(report)))
    return _environment.get_template("page.html.j2").render(
        report=report,
        title="Worker pool" if pool else "Test run",
        verdict=_pool_verdict(report) if pool else summary.count_line(report),
        good=not any(kind == "error" for _, _, kind in _figures(report)),
        unit="tasks" if pool else "tests",
        started=started.strftime("%Y-%m-%d %H:%M:%S %Z"),
        figures=_figures(report),
        bad_items=[item for item in report.items if item.outcome == "failed"],
        first_line=summary.first_line,
        duration=summary.duration,
        style=Markup(style),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=Markup(msgspec.json.encode(data).decode().translate(_ESCAPES)),
    )


def _asset(name: str) -> str:
    return resources.files("snapfarm.report").joinpath(name).read_text("utf-8")


def _pool_verdict(report: RunReport) -> str:
    tasks = report.tasks
    return "" if tasks is None else f"{tasks.done} of {tasks.submitted} tasks done"


def _figures(report: RunReport) -> list[tuple[str, str, str]]:
    """Return the numbers that matter: name, value, and a class where it is a bad one."""
    tasks = report.tasks
    anomalies = len(report.anomalies)
    if tasks is not None:
        return [
            ("tasks", str(tasks.submitted), ""),
            ("done", str(tasks.done), ""),
            ("failed", str(tasks.failed), "error" if tasks.failed else ""),
            ("crashed", str(tasks.crashed), "error" if tasks.crashed else ""),
            ("retried", str(tasks.retried), "warning" if tasks.retried else ""),
            ("waited (median)", f"{tasks.queue_median * 1000:.1f} ms", ""),
            ("anomalies", str(anomalies), "warning" if anomalies else ""),
        ]
    counts = summary.counts(report)
    figures = [("tests", f"{len(report.items):,}".replace(",", "\u202f"), "")]
    bad = ("crashed", "failed")
    figures += [(name, str(counts[name]), "error") for name in bad if counts[name]]
    if report.unrun:
        figures.append(("not run", str(len(report.unrun)), "error"))
    if not any(kind == "error" for _, _, kind in figures):
        figures.append(("failed", "0", ""))
    figures.append(("flaky", str(counts["flaky"]), "warning" if counts["flaky"] else ""))
    figures.append(("anomalies", str(anomalies), "warning" if anomalies else ""))
    figures.append(("wall time", summary.duration(report.seconds), ""))
    return figures
