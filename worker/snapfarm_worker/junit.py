"""What tests say to pytest's JUnit writer in a worker, where there is none.

The fixtures `record_testsuite_property` and `record_xml_attribute` look for the writer in the
session. They find this in its place, and the coordinator's writer gets what they said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from _pytest.junitxml import xml_key

if TYPE_CHECKING:
    import pytest
    from _pytest.junitxml import LogXML

#: The key of `workeroutput` under which properties of the suite travel.
SUITE_PROPERTIES = "farm_suite_properties"
#: The attribute of a report that holds its item's XML attributes.
XML_ATTRIBUTES = "farm_xml_attributes"


class _Attributes:
    """What `record_xml_attribute` gets of one item."""

    def __init__(self, target: dict[str, str]) -> None:
        self._target = target

    def add_attribute(self, name: str, value: object) -> None:
        """Keep an attribute; the writer converts as we do."""
        self._target[name] = str(value)


class JunitNotes:
    """Keeps what tests record, until it is sent."""

    def __init__(self, family: str) -> None:
        #: Fixtures warn where their notes don't fit the family.
        self.family = "xunit1" if family == "legacy" else family
        self.suite_properties: list[tuple[str, str]] = []
        self._attributes: dict[str, dict[str, str]] = {}

    def add_global_property(self, name: str, value: object) -> None:
        """Keep a property of the suite."""
        if not isinstance(name, str):
            raise TypeError(f"name parameter needs to be a string, but {type(name).__name__} given")
        self.suite_properties.append((name, str(value)))

    def node_reporter(self, nodeid: object) -> _Attributes:
        """Return where attributes of an item are put."""
        return _Attributes(self._attributes.setdefault(str(nodeid), {}))

    def attach(self, report: pytest.TestReport) -> None:
        """Give an item's last report its attributes."""
        if report.when == "teardown" and report.nodeid in self._attributes:
            vars(report)[XML_ATTRIBUTES] = self._attributes.pop(report.nodeid)


def take_notes(config: pytest.Config) -> JunitNotes | None:
    """Stand in for the JUnit writer, if the coordinator has one."""
    if not getattr(config.option, "xmlpath", None):
        return None
    notes = JunitNotes(str(config.getini("junit_family")))
    config.stash[xml_key] = cast("LogXML", notes)
    # The session's end takes the writer off the list of plugins, so it must be there.
    config.pluginmanager.register(notes, "farm-junit-notes")
    return notes


def hand_over_attributes(config: pytest.Config, report: pytest.TestReport) -> None:
    """Give the coordinator's writer the attributes that came with a report."""
    attributes = vars(report).pop(XML_ATTRIBUTES, None)
    writer = config.stash.get(xml_key, None)
    if attributes is not None and writer is not None:
        target = writer.node_reporter(report)
        for name, value in attributes.items():
            target.add_attribute(name, value)


def forget_attempt(config: pytest.Config, report: pytest.TestReport, *, passed: bool) -> None:
    """Take an attempt that runs again out of the coordinator's writer: the last one counts.

    `passed`: the call had passed, and been counted, before its teardown failed.
    """
    writer = config.stash.get(xml_key, None)
    if writer is None:
        return
    reporter = writer.node_reporter(report)
    for key in [key for key, one in writer.node_reporters.items() if one is reporter]:
        del writer.node_reporters[key]
    writer.node_reporters_ordered.remove(reporter)
    writer.stats["passed"] -= passed


def hand_over_properties(config: pytest.Config, output: dict[str, object]) -> None:
    """Give the coordinator's writer the properties that came with a worker's end."""
    properties = cast("list[tuple[str, str]]", output.pop(SUITE_PROPERTIES, []))
    writer = config.stash.get(xml_key, None)
    if writer is not None:
        for name, value in properties:
            writer.add_global_property(name, value)
