"""Declared layers form a tree; a test names the one that it begins with."""

import pytest
import shop

REFERENCE = {"apple": 50, "bread": 300, "cheese": 900}


@pytest.mark.parametrize("turn", range(2))
def test_without_a_layer(turn):
    assert shop.prices() == {}
    assert shop.entries() == []


@pytest.mark.farm(layer="reference")
class TestReference:
    @pytest.mark.parametrize("turn", range(2))
    def test_prices(self, turn, farm_db):
        assert shop.prices() == REFERENCE
        assert shop.turnover() == 0
        farm_db.execute("DELETE FROM price")
        farm_db.commit()
        assert shop.prices() == {}

    @pytest.mark.parametrize("article", sorted(REFERENCE))
    def test_buying(self, article):
        shop.buy(1, article, 2)
        assert shop.turnover() == 2 * REFERENCE[article]

    @pytest.mark.farm(layer="with_orders")
    def test_the_closest_marker_wins(self):
        assert shop.turnover() == 2600


@pytest.mark.farm(layer="with_orders")
class TestOrders:
    @pytest.fixture(scope="class")
    @staticmethod
    def more():
        shop.buy(2, "bread", 1)
        return 2600 + 300

    @pytest.mark.parametrize("turn", range(2))
    def test_turnover(self, more, turn):
        assert shop.turnover() == more
        shop.buy(1, "apple", 1000)

    @pytest.mark.farm(layer=["with_returns", "audited"])
    def test_another_layer_below_the_same_fixture(self, more, farm_ring):
        assert shop.turnover() == more - 1800
        assert shop.entries() == ["opened"]
        assert farm_ring.baseline.rows["purchase"] == 4
        assert shop.notes() == ["returned"]

    @pytest.mark.parametrize("turn", range(2))
    def test_back_again(self, more, turn):
        assert shop.turnover() == more
        assert shop.entries() == []


@pytest.mark.farm(layer="audited", database="audit")
def test_the_other_database(farm_db, farm_ring):
    assert farm_db.execute("SELECT text FROM entry").fetchall() == [("opened",)]
    assert farm_ring.baseline.layer == "audited"
    assert shop.prices() == {}


@pytest.mark.farm(layer="with_returns")
def test_returns():
    assert shop.turnover() == 800
    assert shop.notes() == ["returned"]
