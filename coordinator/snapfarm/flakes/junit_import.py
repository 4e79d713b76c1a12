"""Takes over what other runners have written as JUnit XML into the history."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

from snapfarm.flakes.history import Attempt, HistoryError, Run
from snapfarm.flakes.signature import Signature, last_line, named, normalized

#: Elements of attempts before the last one, as Surefire writes them.
_EARLIER = frozenset({"rerunFailure", "rerunError", "flakyFailure", "flakyError"})


def read(path: Path, root: Path) -> tuple[Run, list[Attempt]]:
    """Return the run in a JUnit file. The same file makes the same ids. Raises HistoryError.

    Tests are named as node ids where their file can be found under `root`.
    """
    try:
        data = path.read_bytes()
        tree = ET.fromstring(data)
    except OSError as error:
        raise HistoryError(f"{path}: can't be read: {error.strerror or error}") from error
    except ET.ParseError as error:
        raise HistoryError(f"{path}: is no XML: {error}") from error
    if tree.tag not in {"testsuites", "testsuite"}:
        raise HistoryError(f"{path}: is no JUnit file: its root is <{tree.tag}>")
    suite = tree if tree.tag == "testsuite" else tree.find("testsuite")
    started = _time(suite) or path.stat().st_mtime
    identity = hashlib.sha256(data).hexdigest()[:32]
    attempts: list[Attempt] = []
    ended = started
    for case in tree.iter("testcase"):
        test = _nodeid(case, root)
        outcomes = list(_outcomes(case))
        for number, (outcome, signature) in enumerate(outcomes, start=1):
            seconds = _seconds(case)
            ended += seconds
            attempts.append(
                Attempt(
                    id=f"{identity}-{len(attempts)}",
                    run=identity,
                    test=test,
                    attempt=number,
                    worker="junit",
                    position=len(attempts),
                    ended=ended,
                    seconds=seconds,
                    outcome=outcome,
                    exception=signature.exception,
                    message=signature.message,
                )
            )
    host = "" if suite is None else suite.get("hostname", "")
    return Run(id=identity, source="junit", started=started, finished=ended, host=host), attempts


def _outcomes(case: ET.Element) -> Iterator[tuple[str, Signature]]:
    """Yield the outcome of each attempt at a test, the last one last."""
    for child in case:
        if child.tag in _EARLIER:
            yield "failed", _signature(child)
    for child in case:
        if child.tag in {"failure", "error"}:
            yield "failed", _signature(child)
            return
        if child.tag == "skipped":
            yield "skipped", Signature("")
            return
    yield "passed", Signature("")


def _signature(element: ET.Element) -> Signature:
    text = element.get("message") or last_line(element.text or "")
    exception, message = named(text.splitlines()[0] if text else "")
    kind = element.get("type", "").rpartition(".")[2]
    return Signature(kind or exception, normalized(message))


def _nodeid(case: ET.Element, root: Path) -> str:
    name, owner = case.get("name", ""), case.get("classname", "")
    if file := case.get("file"):
        inner = owner.rpartition(Path(file).stem)[2].strip(".").replace(".", "::")
        return "::".join(part for part in (Path(file).as_posix(), inner, name) if part)
    parts = owner.split(".")
    for count in range(len(parts), 0, -1):
        candidate = Path(*parts[:count]).with_suffix(".py") if parts[0] else None
        if candidate is not None and (root / candidate).is_file():
            return "::".join((candidate.as_posix(), *parts[count:], name))
    return f"{owner}::{name}" if owner else name


def _seconds(case: ET.Element) -> float:
    try:
        return max(0.0, float(case.get("time", "0").replace(",", "")))
    except ValueError:
        return 0.0


def _time(suite: ET.Element | None) -> float | None:
    try:
        if suite is None:
            return None
        return dt.datetime.fromisoformat(suite.get("timestamp", "")).timestamp()
    except ValueError:
        return None
