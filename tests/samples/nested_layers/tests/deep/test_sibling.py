"""The package's fixture lives on from module to module; those of other modules do not."""

import pytest
import shop


@pytest.mark.parametrize("turn", range(2))
def test_package(turn):
    assert shop.entries() == ["deep"]
    shop.record("left behind")


@pytest.mark.farm(layer="audited")
def test_on_a_layer(deep):
    assert shop.entries() == ["opened", "deep"]
