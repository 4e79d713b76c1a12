import os

import pytest
from shop.app import create_app


@pytest.fixture(scope="session")
def app():
    return create_app(os.environ["FARM_SQLALCHEMY_URL"])


@pytest.fixture
def client(app):
    return app.test_client()
