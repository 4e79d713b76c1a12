"""Keys of items are unique and valid text, and their node ids come back exactly."""

from __future__ import annotations

import pytest

from snapfarm_worker.keys import nodeid_of, unique_keys
from snapfarm_worker.texts import readable

NODEIDS = (
    "a.py::test",
    "a.py::test",
    "a.yml::nul\x00x",
    "a.yml::nul\x00y",
    "a.yml::nul\x00y",
    "a.yml::nul\x002",
    "a.yml::nul\x00",
    "ä.py::test[ü]",
    "b\udcff.py::test",
    "b\udcff.py::test",
    "b\udcfe.py::nul\x00x1",
    "",
)


def test_node_ids_come_back_from_unique_keys_that_are_valid_text() -> None:
    keys = unique_keys(NODEIDS)
    assert tuple(map(nodeid_of, keys)) == NODEIDS
    assert len(set(keys)) == len(NODEIDS)
    assert "".join(keys).encode()


def test_a_node_id_that_will_do_is_its_own_key() -> None:
    assert unique_keys(["a.py::test", "ä.py::test[ü]"]) == ["a.py::test", "ä.py::test[ü]"]


def test_the_file_and_the_class_of_an_item_can_be_read_in_its_key() -> None:
    (key,) = unique_keys(["b\udcff.py::Test::test"])
    assert key.split("::")[:2] == ["b\\udcff.py", "Test"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain", "plain"), ("ü", "ü"), ("a\udcff", "a\\udcff"), ("\ud800", "\\ud800")],
)
def test_readable_text_can_be_encoded(text: str, shown: str) -> None:
    assert readable(text) == shown
    assert readable(text).encode()
