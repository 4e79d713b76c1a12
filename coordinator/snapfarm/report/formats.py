"""The formats of a report by name: each a pure function from the model to text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath

from snapfarm.errors import ReportError
from snapfarm.report.model import RunReport

#: File name endings by format; the first one is the usual one.
SUFFIXES = {
    "text": (".txt",),
    "json": (".json",),
    "html": (".html", ".htm"),
    "junit": (".xml",),
    "markdown": (".md",),
    "gitlab": (),
    "github": (),
}

FORMATS = tuple(SUFFIXES)


def render(report: RunReport, format_name: str) -> str:
    """Return a report in one of `FORMATS`. Raises ReportError for another one."""
    return _renderer(format_name)(report)


def format_of(path: PurePath) -> str | None:
    """Return the format that the ending of a file's name stands for, or None."""
    suffix = path.suffix.lower()
    return next((name for name, suffixes in SUFFIXES.items() if suffix in suffixes), None)


def _renderer(name: str) -> Callable[[RunReport], str]:
    # Each is imported when it is asked for: a run that writes none should not pay for Jinja2.
    match name:
        case "text":
            from snapfarm.report.text import text

            return text
        case "json":
            from snapfarm.report.model import as_json

            return as_json
        case "html":
            from snapfarm.report.html import page

            return page
        case "junit":
            from snapfarm.report.junit import xml

            return xml
        case "markdown":
            from snapfarm.report.markdown import markdown

            return markdown
        case "gitlab":
            from snapfarm.report.forges import code_quality

            return code_quality
        case "github":
            from snapfarm.report.forges import annotation_lines

            return lambda report: "".join(f"{line}\n" for line in annotation_lines(report))
        case _:
            raise ReportError(f"there is no format {name!r}: choose one of {', '.join(FORMATS)}")
