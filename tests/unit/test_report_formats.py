"""Every format of a report, from one fixed model, against files that a person has looked at.

`SNAPFARM_UPDATE=1 python -m pytest tests/unit/test_report_formats.py` writes those files anew.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import jsonschema
import msgspec
import pytest
import xmlschema

from snapfarm.errors import ReportError
from snapfarm.report import formats, html, junit, markdown, model, payload
from support.report_model import HOSTILE, failure, fixed, hostile, large, of_a_pool

FILES = Path(__file__).parent / "reports"
SCHEMA = Path(model.__file__).with_name("report.schema.json")
XSD = Path(__file__).parent.parent / "support" / "junit.xsd"
MODELS: dict[str, Callable[[], model.RunReport]] = {
    "fixed": fixed,
    "hostile": hostile,
    "large": lambda: large(60, 5),
    "pool": of_a_pool,
}

ENDINGS = {
    "text": "txt", "json": "json", "junit": "xml", "markdown": "md", "gitlab": "gitlab.json",
    "github": "github.txt", "html": "html",
}  # fmt: skip


def same(found: str, file: Path) -> None:
    """Compare a text with a file, or write the file where that is asked for."""
    if os.environ.get("SNAPFARM_UPDATE"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(found, "utf-8")
    assert found == file.read_text("utf-8")


@pytest.mark.parametrize("name", formats.FORMATS)
def test_a_format_is_as_its_file(name: str) -> None:
    text = formats.render(fixed(), name)
    if name == "html":
        # The style and the script are files of their own; local time depends on the machine.
        text = re.sub(r"<(style|script)>.*?</\1>", r"<\1>…</\1>", text, flags=re.DOTALL)
        text = re.sub(r"sha256-[^']+", "sha256-…", text)
        text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \w+", "…", text)
    same(text, FILES / f"fixed.{ENDINGS[name]}")


def test_the_schema_is_that_of_the_model() -> None:
    same(json.dumps(model.schema(), indent=2, ensure_ascii=False) + "\n", SCHEMA)


@pytest.mark.parametrize("name", MODELS)
def test_json_is_valid_and_read_back_as_it_was(name: str) -> None:
    report = MODELS[name]()
    data = model.as_json(report)
    jsonschema.validate(json.loads(data), json.loads(SCHEMA.read_text("utf-8")))
    again = model.read_json(data.encode(), "here")
    assert model.as_json(again) == data
    if name != "hostile":  # lone surrogates are written as escapes
        assert again == report


def test_a_report_without_later_fields_is_read_and_a_newer_one_refused() -> None:
    first = {"format_version": 1, "snapfarm": "0", "python": "3", "sqlite": "3", "started": 1.0}
    report = model.read_json(json.dumps(first | {"unknown": 1}).encode(), "old.json")
    assert (report.run, report.items, report.history.runs) == ("", [], ())
    with pytest.raises(ReportError, match=r"new\.json: its format version is 99"):
        model.read_json(json.dumps(first | {"format_version": 99}).encode(), "new.json")
    with pytest.raises(ReportError, match=r"x\.json: is no report of snapfarm"):
        model.read_json(b"[]", "x.json")


@pytest.mark.parametrize("name", MODELS)
def test_junit_is_valid(name: str) -> None:
    report = MODELS[name]()
    text = junit.xml(report)
    xmlschema.XMLSchema(str(XSD)).validate(text)
    root = ET.fromstring(text)
    assert int(root.attrib["tests"]) == len(root.findall("testcase"))
    for total, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(root.attrib[total]) == len(root.findall(f"testcase/{tag}")), tag


def test_junit_tells_attempts_apart_as_surefire_does() -> None:
    root = ET.fromstring(junit.xml(fixed()))
    found = {
        str(case.get("name")): [child.tag for child in case if child.tag != "system-out"]
        for case in root.iter("testcase")
    }
    assert found == {
        "test_cart": [],
        "test_price": ["failure"],
        "test_stock[a|b]": ["flakyFailure"],
        "test_setup": ["error", "rerunError"],
        "test_kills": ["error"],
        "test_later": ["skipped"],
        "test_never": ["skipped"],
    }


def test_junit_has_errors_that_flaked() -> None:
    report = fixed()
    bad = model.Attempt(outcome="error", worker="gw0", failures=(failure("x", phase="setup"),))
    crash = model.Attempt(outcome="crashed", worker="gw0", failures=(failure("y", phase="crash"),))
    good = model.Attempt(outcome="passed", worker="gw0")
    report.items = [
        model.ItemLine(
            nodeid="a.py::test_a", outcome="passed", worker="gw0", seconds=1.0,
            attempts=(bad, crash, good),
        )
    ]  # fmt: skip
    text = junit.xml(report)
    xmlschema.XMLSchema(str(XSD)).validate(text)
    (case, _) = ET.fromstring(text).iter("testcase")
    assert [(child.tag, child.get("type")) for child in case if child.tag != "system-out"] == [
        ("flakyError", "ValueError"),
        ("flakyError", "ValueError"),
    ]
    assert "ValueError: y" in case.findall("flakyError")[1].findtext("stackTrace", "")


@pytest.mark.parametrize("name", formats.FORMATS)
def test_a_pool_has_every_format(name: str) -> None:
    text = formats.render(of_a_pool(), name)
    if name not in {"json", "html"}:  # it is data there, and escaped in another way
        assert "window.hacked = 1" in text.replace("\\", "").replace("&#95;", "_")
    found = {
        "text": "failed  shop.check_invoice[7]: ValueError: <script>",
        "html": "ValueError: &lt;script&gt;",
        "json": '"submitted": 1000',
        "junit": 'name="996 of 1000 tasks done"',
        "markdown": "### Worker pool: 996 of 1000 tasks done",
        "gitlab": "test-crashed",
        "github": "::error ",
    }[name]
    assert found in text


class Tags(HTMLParser):
    """Collects what a browser would take for markup."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def tags(text: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(text)
    return parser.found


def test_nothing_hostile_becomes_markup_in_the_page() -> None:
    text = html.page(hostile())
    found = tags(text)
    scripts = [attributes for tag, attributes in found if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "data"}, {}]
    assert not {tag for tag, _ in found} & {"img", "svg", "iframe", "object", "b", "base"}
    assert not [name for _, attributes in found for name in attributes if name.startswith("on")]
    assert "49{" not in text  # a template in a template
    data = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert data is not None
    shown = msgspec.json.decode(data[1], type=payload.Payload)
    assert f"tests/test_evil.py::test_0[{HOSTILE[0]}]" in shown.items.nodeid
    assert "<" not in data[1]


def test_the_page_needs_nothing_from_elsewhere() -> None:
    text = html.page(fixed())
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert not re.findall(r"url\(|@import|@font-face", text)
    assert "default-src 'none'" in text


def test_nothing_hostile_becomes_markup_in_markdown() -> None:
    text = markdown.markdown(hostile())
    assert {tag for tag, _ in tags(re.sub(r"(?ms)^(`{3,}).*?^\1$", "", text))} == {
        "details", "summary", "code",
    }  # fmt: skip
    outside = re.sub(r"(?ms)^(`{3,}).*?^\1$", "", text)
    assert "@everyone" not in outside
    assert "#1" not in re.sub(r"&#\d+;", "", outside)
    assert "](https" not in outside
    assert len(re.findall(r"<details>", outside)) == len(re.findall(r"</details>", outside))


def test_markdown_keeps_to_its_limit_and_says_what_is_missing() -> None:
    report = hostile()
    text = markdown.markdown(report, 6_000)
    assert len(text.encode()) <= 6_000
    assert "sections did not fit" in text
    assert text.startswith("### Test run: 1 crashed, 7 failed")


def test_an_annotation_is_one_line_that_starts_no_other_command() -> None:
    lines = formats.render(hostile(), "github").removesuffix("\n").split("\n")
    assert len(lines) == 15
    for line in lines:
        command, _, rest = line.removeprefix("::").partition(" ")
        assert command in {"error", "warning"}
        place, _, _ = rest.partition("::")
        assert re.fullmatch(r"file=[^:,]*,line=\d+,title=[^:,]*", place), line


def test_fingerprints_of_gitlab_are_distinct_and_stay() -> None:
    entries = json.loads(formats.render(hostile(), "gitlab"))
    assert len({entry["fingerprint"] for entry in entries}) == len(entries)
    again = json.loads(formats.render(hostile(), "gitlab"))
    assert again == entries
    assert {entry["severity"] for entry in entries} == {"blocker", "major", "minor"}


def test_a_page_of_ten_thousand_tests_is_small() -> None:
    text = html.page(large(10_000, 0))
    assert len(text.encode()) < 3_000_000
    assert text.count("test_module_249.py::test_case_39[9999]") == 1


def test_an_unknown_format_names_those_that_there_are() -> None:
    with pytest.raises(ReportError, match="no format 'pdf': choose one of text, json, html"):
        formats.render(fixed(), "pdf")
