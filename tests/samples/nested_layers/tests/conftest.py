"""Fixtures of all scopes that commit. The golden tables `note` and `entry` are empty."""

import pytest
import shop


@pytest.fixture(scope="session")
def opened():
    shop.write("session")
    yield "session"
    shop.erase("session")


@pytest.fixture(scope="package")
def packed(opened):
    shop.write("package")
    return "package"


@pytest.fixture(scope="module")
def told(packed):
    shop.write("module")
    return ["session", "package", "module"]


@pytest.fixture(scope="class")
def told_in_class(told):
    # A layer of two databases.
    shop.write("class")
    shop.record("class")
    return [*told, "class"]


@pytest.fixture
def told_in_test(told_in_class):
    shop.write("test")
    return [*told_in_class, "test"]


@pytest.fixture(scope="module")
def quiet():
    """Reads, and so adds no layer."""
    return shop.customers()
