"""Every test here has a fixture with parameters on top of the package's."""

import pytest
import shop

pytestmark = pytest.mark.usefixtures("colour")


def test_parameter(colour):
    assert shop.entries() == ["deep", colour]
    shop.record("left behind")


def test_parameter_again(colour):
    assert shop.entries() == ["deep", colour]


@pytest.mark.farm(layer="audited")
def test_parameter_on_a_layer(colour):
    assert shop.entries() == ["opened", "deep", colour]
    shop.record("left behind")
