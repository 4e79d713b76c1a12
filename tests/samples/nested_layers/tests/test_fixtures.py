"""Fixtures nest: each test begins with what the fixtures that live have committed, and no more."""

import pytest
import shop


@pytest.mark.parametrize("turn", range(3))
def test_module(told, turn):
    assert shop.notes() == told
    shop.write("left behind")
    assert shop.notes() == [*told, "left behind"]


class TestNested:
    @pytest.mark.parametrize("turn", range(3))
    def test_class(self, told_in_class, turn):
        assert shop.notes() == told_in_class
        assert shop.entries() == ["class"]
        shop.erase("session")
        shop.record("left behind")

    @pytest.mark.parametrize("turn", range(3))
    def test_function(self, told_in_test, turn):
        assert shop.notes() == told_in_test
        shop.erase("class")

    def test_baseline(self, told_in_class, farm_ring):
        assert farm_ring.baseline.rows["note"] == len(told_in_class)
        assert "note" not in farm_ring.manifest.rows
        shop.erase("module")
        farm_ring.reset()
        assert shop.notes() == told_in_class


class TestTornDown:
    """Of the class before, nothing is left."""

    @pytest.mark.parametrize("turn", range(2))
    def test_class_is_made_anew(self, told_in_class, turn):
        assert shop.notes() == told_in_class
        assert shop.entries() == ["class"]

    def test_threads(self, told_in_class, farm_threads):
        def add(conn, index):
            with conn:
                conn.execute("INSERT INTO note (text) VALUES (?)", (f"thread {index}",))

        farm_threads(add, threads=3)
        assert len(shop.notes()) == len(told_in_class) + 3


def test_no_class_is_left(told):
    assert shop.notes() == told
    assert shop.entries() == []


class TestXunit:
    @classmethod
    def setup_class(cls):
        shop.record("set up")

    @classmethod
    def teardown_class(cls):
        assert shop.entries()[0] == "set up"

    @pytest.mark.parametrize("turn", range(2))
    def test_setup_class(self, turn):
        assert shop.entries() == ["set up"]
        shop.record("left behind")


def test_a_reader_adds_nothing(quiet, farm_ring):
    assert shop.customers() == quiet == ["Ada", "Grace"]
    assert shop.entries() == []
