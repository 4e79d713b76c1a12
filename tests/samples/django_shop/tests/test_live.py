"""Live servers: their threads see the database of the test."""

import json
import urllib.request

import pytest
from catalog.models import Category, Product
from django.test import LiveServerTestCase


def slugs(url):
    with urllib.request.urlopen(f"{url}/products/") as answer:
        return json.load(answer)["products"]


def a_product(name):
    category = Category.objects.create(name=f"of {name}")
    return Product.objects.create(name=name, slug=name, category=category, cents=1)


class Live(LiveServerTestCase):
    def test_a_product(self):
        a_product("one")
        self.assertIn("one", slugs(self.live_server_url))

    def test_another_product(self):
        a_product("two")
        self.assertIn("two", slugs(self.live_server_url))
        self.assertNotIn("one", slugs(self.live_server_url))


@pytest.mark.parametrize("turn", range(3))
def test_the_fixture(live_server, turn):
    a_product(f"turn-{turn}")
    assert slugs(live_server.url)[-1:] == [f"turn-{turn}"]
